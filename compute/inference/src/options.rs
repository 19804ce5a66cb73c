//! What an engine may use.

/// Sizes of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Threads of the reference backend; results do not depend on it.
    pub threads: usize,
    /// Sequences that step together.
    pub sequences_max: usize,
    /// Positions in a page of keys and values.
    pub page_tokens: usize,
    /// Pages; keys and values of a position take `8 * layers * kv_heads * head_dim` bytes on the
    /// reference backend (46 kB for SmolLM2-135M), taken from the system when first used.
    pub pages_max: usize,
    /// Prompt tokens in one step, of all sequences together: more is faster, less keeps the time
    /// between tokens of running sequences short.
    pub chunk_tokens_max: usize,
    /// Bytes of loaded adapters, those that only running sequences still use included.
    pub adapters_bytes_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            threads: 2,
            sequences_max: 16,
            page_tokens: 16,
            pages_max: 1024,
            chunk_tokens_max: 128,
            adapters_bytes_max: 512 << 20,
        }
    }
}

impl EngineOptions {
    /// The first size that makes no engine.
    pub(crate) fn zero(&self) -> Option<&'static str> {
        [
            ("threads", self.threads),
            ("sequences_max", self.sequences_max),
            ("page_tokens", self.page_tokens),
            ("pages_max", self.pages_max),
            ("chunk_tokens_max", self.chunk_tokens_max),
        ]
        .into_iter()
        .find_map(|(name, size)| (size == 0).then_some(name))
    }
}

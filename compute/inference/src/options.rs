//! What an engine may use, and how it computes.

use openledger_kernels::fused::{KvFormat, LoraFormat};

use crate::adapters::AdapterStorage;
use crate::class::{BackendKind, class_of};

/// Sizes of an engine, and how it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// What computes.
    pub backend: BackendKind,
    /// How the fast backend keeps keys and values; the reference keeps 32 bits.
    pub kv: KvFormat,
    /// How adapters are kept for the fast backend; for the reference they are kept in 32 bits.
    pub adapters: LoraFormat,
    /// Threads of a backend on the CPU; results do not depend on it.
    pub threads: usize,
    /// Sequences that step together.
    pub sequences_max: usize,
    /// Positions in a page of keys and values.
    pub page_tokens: usize,
    /// Pages; keys and values of a position take `2 * layers * kv_heads * head_dim` numbers (46 kB
    /// for SmolLM2-135M in 32 bits), taken from the system when first used.
    pub pages_max: usize,
    /// Prompt tokens in one step, of all sequences together: more is faster, less keeps the time
    /// between tokens of running sequences short.
    pub chunk_tokens_max: usize,
    /// Whether full pages are found again by requests that begin alike; results do not depend on it.
    pub prefix_cache: bool,
    /// Bytes of loaded adapters, those that only running sequences still use included.
    pub adapters_bytes_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            backend: BackendKind::Int12,
            kv: KvFormat::F16,
            adapters: LoraFormat::Q8,
            threads: 2,
            sequences_max: 16,
            page_tokens: 16,
            pages_max: 1024,
            chunk_tokens_max: 128,
            prefix_cache: true,
            adapters_bytes_max: 512 << 20,
        }
    }
}

impl EngineOptions {
    /// The class of an engine's results with these options: what verifiers allow for is known by
    /// it. See [`crate::class`].
    #[must_use]
    pub const fn class(&self) -> &'static str {
        class_of(self.backend, self.kv, self.adapters)
    }

    /// How adapters are kept.
    pub(crate) const fn adapter_storage(&self) -> AdapterStorage {
        match self.backend {
            BackendKind::Int12
            | BackendKind::Int12Whole
            | BackendKind::Wgpu
            | BackendKind::Onnx => AdapterStorage::Packed(self.adapters),
            BackendKind::Reference => AdapterStorage::Rows,
        }
    }

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

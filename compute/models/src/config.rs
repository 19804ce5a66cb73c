//! The shape of a model of the Llama family, from the metadata of its file.
//!
//! Everything that a kernel will use as a length, a divisor or an exponent is checked here once.

use thiserror::Error;

use crate::gguf::{Gguf, GgufError, required};
use crate::limits::{CONTEXT_MAX, HEADS_MAX, LAYERS_MAX, VOCABULARY_MAX, WIDTH_MAX};

/// Why the metadata of a model was refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file's metadata could not be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Another architecture.
    #[error(
        "use the model: its architecture {0:?} is not supported, llama (also Mistral) and qwen2 are"
    )]
    Architecture(String),
    /// Something within the architecture that this engine does not do.
    #[error(
        "use the model: {key} is {found}, which is not supported; use a plain model of the Llama family"
    )]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        found: String,
    },
    /// A number out of its bounds, or that does not fit the others.
    #[error(
        "use the model: {key} is {found}, {wanted} is needed; the file is damaged or for another program"
    )]
    OutOfBounds {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What is needed.
        wanted: String,
    },
}

/// Which numbers of a head the rotary embedding turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Neighbours: `(0, 1), (2, 3), …`; llama.cpp calls this NORM, and its converter reorders the
    /// rows of query and key for it.
    Interleaved,
    /// Halves: `(0, n/2), (1, n/2 + 1), …`; llama.cpp calls this NEOX.
    Halves,
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// `llama` or `qwen2`.
    pub architecture: String,
    /// The model's name as the file has it; may be empty.
    pub name: String,
    /// Layers.
    pub layers: usize,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Query heads of a layer.
    pub heads: usize,
    /// Key and value heads of a layer; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Longest context in tokens that the model was made for.
    pub context: usize,
    /// Base of the rotary embedding's frequencies.
    pub rope_base: f32,
    /// Numbers of a head that are turned; even, at most `head_dim`.
    pub rope_dim: usize,
    /// Which of them are turned together.
    pub rope_layout: RopeLayout,
    /// What positions are multiplied with (linear scaling); 1 without.
    pub rope_scale: f32,
    /// What the frequencies are divided by, `[rope_dim / 2]` (Llama 3's `rope_freqs.weight`).
    pub rope_factors: Option<Vec<f32>>,
    /// Added to the mean square before its root is taken.
    pub rms_epsilon: f32,
    /// Whether query, key and value have a bias.
    pub attention_bias: bool,
}

/// Reads keys below the architecture's name.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn optional(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        Ok(self.gguf.unsigned(&self.key(name))?)
    }

    /// A number from 1 to `max`.
    fn size(&self, name: &str, max: usize) -> Result<usize, ConfigError> {
        let key = self.key(name);
        let found = required(&key, self.gguf.unsigned(&key)?)?;
        self.bounded(name, found, max)
    }

    fn size_or(&self, name: &str, default: usize, max: usize) -> Result<usize, ConfigError> {
        match self.optional(name)? {
            Some(found) => self.bounded(name, found, max),
            None => Ok(default),
        }
    }

    fn bounded(&self, name: &str, found: u64, max: usize) -> Result<usize, ConfigError> {
        match usize::try_from(found) {
            Ok(size) if (1..=max).contains(&size) => Ok(size),
            _ => Err(self.out_of_bounds(name, found, format!("1 to {max}"))),
        }
    }

    fn out_of_bounds(&self, name: &str, found: impl ToString, wanted: String) -> ConfigError {
        ConfigError::OutOfBounds { key: self.key(name), found: found.to_string(), wanted }
    }

    fn float(&self, name: &str) -> Result<Option<f32>, ConfigError> {
        Ok(self.gguf.float(&self.key(name))?)
    }

    fn refuse(&self, name: &str, found: impl ToString) -> ConfigError {
        ConfigError::Unsupported { key: self.key(name), found: found.to_string() }
    }
}

impl LlamaConfig {
    /// Reads the shape from a parsed file; `file` is the whole file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_gguf(gguf: &Gguf, file: &[u8]) -> Result<Self, ConfigError> {
        let key = "general.architecture";
        let architecture = required(key, gguf.text(key)?)?;
        let rope_layout = match architecture {
            "llama" => RopeLayout::Interleaved,
            "qwen2" => RopeLayout::Halves,
            other => return Err(ConfigError::Architecture(other.chars().take(64).collect())),
        };
        let keys = Keys { gguf, architecture };
        refuse_variants(&keys)?;
        let hidden = keys.size("embedding_length", WIDTH_MAX)?;
        let heads = keys.size("attention.head_count", HEADS_MAX)?;
        let kv_heads = keys.size_or("attention.head_count_kv", heads, HEADS_MAX)?;
        if !heads.is_multiple_of(kv_heads) {
            let wanted = format!("a divisor of the {heads} query heads");
            return Err(keys.out_of_bounds("attention.head_count_kv", kv_heads, wanted));
        }
        let head_dim = head_dim(&keys, hidden, heads)?;
        let rope_dim = keys.size_or("rope.dimension_count", head_dim, head_dim)?;
        if rope_dim % 2 != 0 {
            let wanted = format!("an even number up to {head_dim}");
            return Err(keys.out_of_bounds("rope.dimension_count", rope_dim, wanted));
        }
        let mut context = keys.size("context_length", CONTEXT_MAX)?;
        if let Some(window) = keys.optional("attention.sliding_window")?.filter(|n| *n > 0) {
            // Within one window, sliding and full attention are the same.
            context = context.min(usize::try_from(window).unwrap_or(context));
        }
        let bias = "blk.0.attn_q.bias";
        Ok(Self {
            architecture: architecture.to_owned(),
            name: gguf.text("general.name")?.unwrap_or_default().chars().take(256).collect(),
            layers: keys.size("block_count", LAYERS_MAX)?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            feed_forward: keys.size("feed_forward_length", WIDTH_MAX)?,
            vocab: vocabulary(&keys, gguf)?,
            context,
            rope_base: rope_base(&keys)?,
            rope_dim,
            rope_layout,
            rope_scale: rope_scale(&keys)?,
            rope_factors: rope_factors(&keys, file, rope_dim)?,
            rms_epsilon: rms_epsilon(&keys)?,
            attention_bias: gguf.tensor(bias).is_some(),
        })
    }

    /// Width of all query heads together.
    #[must_use]
    pub const fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    #[must_use]
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

fn refuse_variants(keys: &Keys<'_>) -> Result<(), ConfigError> {
    for name in ["expert_count", "expert_used_count"] {
        if let Some(experts) = keys.optional(name)?.filter(|n| *n > 0) {
            return Err(keys.refuse(name, experts));
        }
    }
    // What some relatives of the family multiply with; 1 or absent in all plain models.
    for name in ["residual_scale", "embedding_scale", "logit_scale", "attention.scale"] {
        if let Some(scale) = keys.float(name)?.filter(|n| *n != 0.0 && *n != 1.0) {
            return Err(keys.refuse(name, scale));
        }
    }
    let name = "attention.clamp_kqv";
    match keys.float(name)? {
        Some(clamp) if clamp != 0.0 => Err(keys.refuse(name, clamp)),
        _ => Ok(()),
    }
}

fn head_dim(keys: &Keys<'_>, hidden: usize, heads: usize) -> Result<usize, ConfigError> {
    let name = "attention.key_length";
    let head_dim = match keys.optional(name)? {
        Some(found) => keys.bounded(name, found, WIDTH_MAX / heads)?,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let wanted = format!("a divisor of the width {hidden}");
            return Err(keys.out_of_bounds("attention.head_count", heads, wanted));
        }
    };
    let name = "attention.value_length";
    match keys.optional(name)? {
        Some(found) if found != head_dim as u64 => {
            Err(keys.out_of_bounds(name, found, format!("the keys' {head_dim}")))
        }
        _ => Ok(head_dim),
    }
}

fn vocabulary(keys: &Keys<'_>, gguf: &Gguf) -> Result<usize, ConfigError> {
    let name = "token_embd.weight";
    let Some(rows) = gguf.tensor(name).and_then(|tensor| tensor.shape.get(1)) else {
        return Err(GgufError::MissingKey { key: format!("tensor {name}") }.into());
    };
    match usize::try_from(*rows) {
        Ok(rows) if (1..=VOCABULARY_MAX).contains(&rows) => Ok(rows),
        _ => Err(keys.out_of_bounds("vocab_size", rows, format!("1 to {VOCABULARY_MAX}"))),
    }
}

fn rope_base(keys: &Keys<'_>) -> Result<f32, ConfigError> {
    let name = "rope.freq_base";
    let base = keys.float(name)?.unwrap_or(10_000.0);
    if base.is_finite() && (1.0..=1e12).contains(&base) {
        return Ok(base);
    }
    Err(keys.out_of_bounds(name, base, "1 to 10^12".to_owned()))
}

fn rope_scale(keys: &Keys<'_>) -> Result<f32, ConfigError> {
    let name = "rope.scaling.type";
    let kind = keys.gguf.text(&keys.key(name))?;
    let (name, factor) = match keys.float("rope.scaling.factor")? {
        Some(factor) => ("rope.scaling.factor", factor),
        None => ("rope.scale_linear", keys.float("rope.scale_linear")?.unwrap_or(1.0)),
    };
    match kind {
        None | Some("linear") => {}
        Some("none") => return Ok(1.0),
        Some(other) => {
            return Err(
                keys.refuse("rope.scaling.type", other.chars().take(64).collect::<String>())
            );
        }
    }
    // 0 stands for "not scaled" in files of old converters.
    if factor == 0.0 {
        return Ok(1.0);
    }
    if factor.is_finite() && (1.0..=1e6).contains(&factor) {
        return Ok(1.0 / factor);
    }
    Err(keys.out_of_bounds(name, factor, "1 to 10^6".to_owned()))
}

fn rms_epsilon(keys: &Keys<'_>) -> Result<f32, ConfigError> {
    let name = "attention.layer_norm_rms_epsilon";
    let key = keys.key(name);
    let epsilon = required(&key, keys.float(name)?)?;
    if epsilon > 0.0 && epsilon < 1.0 {
        return Ok(epsilon);
    }
    Err(keys.out_of_bounds(name, epsilon, "between 0 and 1".to_owned()))
}

/// Llama 3's own scaling: a divisor for each frequency, as a tensor.
fn rope_factors(
    keys: &Keys<'_>,
    file: &[u8],
    rope_dim: usize,
) -> Result<Option<Vec<f32>>, ConfigError> {
    let name = "rope_freqs.weight";
    let Some(tensor) = keys.gguf.tensor(name) else { return Ok(None) };
    let out_of_bounds = |found: String, wanted: String| ConfigError::OutOfBounds {
        key: format!("tensor {name}"),
        found,
        wanted,
    };
    let wanted = rope_dim / 2;
    if tensor.shape != [wanted as u64] || tensor.kind != crate::gguf::TensorKind::F32 {
        let found = format!("{} {:?}", tensor.kind.name(), tensor.shape);
        return Err(out_of_bounds(found, format!("F32 [{wanted}]")));
    }
    let bytes = file.get(tensor.range.clone()).unwrap_or_default();
    let (numbers, _) = bytes.as_chunks::<4>();
    let factors: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    match factors.iter().find(|factor| !(1e-6..=1e6).contains(*factor)) {
        Some(factor) => Err(out_of_bounds(factor.to_string(), "10^-6 to 10^6".to_owned())),
        None if factors.len() == wanted => Ok(Some(factors)),
        None => Err(out_of_bounds(factors.len().to_string(), wanted.to_string())),
    }
}

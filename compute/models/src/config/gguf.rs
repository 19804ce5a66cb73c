//! The shape of a model as the metadata of a GGUF file tells it.

use super::{Activation, ConfigError, ModelConfig, Rope, RopeLayout, Turns, Yarn};
use crate::gguf::{Gguf, GgufError, TensorKind, Value, required};
use crate::limits::{CONTEXT_MAX, HEADS_MAX, LAYERS_MAX, VOCABULARY_MAX, WIDTH_MAX};

/// The base of the frequencies in layers with a window, where a file of Gemma 3 does not say it.
const LOCAL_BASE: f32 = 10_000.0;
/// One in so many layers of Gemma 3 sees everything, where the file does not say it.
const WINDOW_PERIOD: u64 = 6;
/// Gemma 3's largest model has so many layers, and it alone scales attention by the width that a
/// head would have if all heads together were as wide as the hidden state.
const LAYERS_OF_LARGEST_GEMMA: usize = 62;

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

impl ModelConfig {
    /// Reads the shape from a parsed file; `file` is the whole file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_gguf(gguf: &Gguf, file: &[u8]) -> Result<Self, ConfigError> {
        let key = "general.architecture";
        let architecture = required(key, gguf.text(key)?)?;
        let rope_layout = match architecture {
            "llama" => RopeLayout::Interleaved,
            "qwen2" | "qwen3" | "gemma3" => RopeLayout::Halves,
            other => return Err(ConfigError::Architecture(other.chars().take(64).collect())),
        };
        let is_gemma = architecture == "gemma3";
        let keys = Keys { gguf, architecture };
        refuse_variants(&keys)?;
        let layers = keys.size("block_count", LAYERS_MAX)?;
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
        let context = keys.size("context_length", CONTEXT_MAX)?;
        let windows = windows(&keys, is_gemma, layers)?;
        let turned = match is_gemma && layers == LAYERS_OF_LARGEST_GEMMA {
            true => hidden / heads,
            false => head_dim,
        };
        Ok(Self {
            architecture: architecture.to_owned(),
            name: gguf.text("general.name")?.unwrap_or_default().chars().take(256).collect(),
            layers,
            hidden,
            heads,
            kv_heads,
            head_dim,
            feed_forward: keys.size("feed_forward_length", WIDTH_MAX)?,
            vocab: vocabulary(&keys, gguf)?,
            context,
            rope: rope(&keys, file, rope_dim, context)?,
            local_rope: local_rope(&keys, is_gemma && !windows.is_empty())?,
            windows,
            rope_dim,
            rope_layout,
            rms_epsilon: rms_epsilon(&keys)?,
            attention_scale: 1.0 / (turned.max(1) as f32).sqrt(),
            embedding_scale: if is_gemma { (hidden as f32).sqrt() } else { 1.0 },
            activation: if is_gemma { Activation::GeluTanh } else { Activation::Silu },
            attention_bias: gguf.tensor("blk.0.attn_q.bias").is_some(),
            head_norms: matches!(architecture, "qwen3" | "gemma3"),
            post_norms: is_gemma,
        })
    }
}

fn refuse_variants(keys: &Keys<'_>) -> Result<(), ConfigError> {
    for name in ["expert_count", "expert_used_count"] {
        if let Some(experts) = keys.optional(name)?.filter(|n| *n > 0) {
            return Err(keys.refuse(name, experts));
        }
    }
    // What some relatives of these families multiply with; 1 or absent in all plain models.
    for name in ["residual_scale", "embedding_scale", "logit_scale", "attention.scale"] {
        if let Some(scale) = keys.float(name)?.filter(|n| *n != 0.0 && *n != 1.0) {
            return Err(keys.refuse(name, scale));
        }
    }
    // What others bend logits or scores with.
    for name in [
        "attention.clamp_kqv",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "attention.temperature_scale",
    ] {
        if let Some(found) = keys.float(name)?.filter(|n| *n != 0.0) {
            return Err(keys.refuse(name, found));
        }
    }
    Ok(())
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

/// The windows of the layers; none for a model without.
fn windows(
    keys: &Keys<'_>,
    is_gemma: bool,
    layers: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let name = "attention.sliding_window";
    let Some(window) = keys.optional(name)?.filter(|n| *n > 0) else { return Ok(Vec::new()) };
    let window = Some(keys.bounded(name, window, CONTEXT_MAX)?);
    let name = "attention.sliding_window_pattern";
    let flags = match keys.gguf.get(&keys.key(name)) {
        // Flags, one a layer.
        Some(Value::Bytes(flags)) if flags.len() == layers => {
            return Ok(flags.iter().map(|flag| window.filter(|_| *flag != 0)).collect());
        }
        Some(Value::Bytes(flags)) => {
            return Err(keys.out_of_bounds(name, flags.len(), format!("{layers} flags")));
        }
        _ => keys.optional(name)?,
    };
    // Within a period the last layer sees everything; a period of 0 has no such layer.
    let period = flags.unwrap_or(if is_gemma { WINDOW_PERIOD } else { 0 });
    let sees_all = |layer: u64| period > 0 && layer % period == period - 1;
    Ok((0..layers as u64).map(|layer| window.filter(|_| !sees_all(layer))).collect())
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

fn rope_base(keys: &Keys<'_>, name: &str, default: f32) -> Result<f32, ConfigError> {
    let base = keys.float(name)?.unwrap_or(default);
    if base.is_finite() && (1.0..=1e12).contains(&base) {
        return Ok(base);
    }
    Err(keys.out_of_bounds(name, base, "1 to 10^12".to_owned()))
}

/// Layers with a window turn by frequencies of their own in Gemma 3, and never stretch them.
fn local_rope(keys: &Keys<'_>, is_needed: bool) -> Result<Option<Rope>, ConfigError> {
    if !is_needed {
        return Ok(None);
    }
    rope_base(keys, "rope.freq_base_swa", LOCAL_BASE).map(|base| Some(Rope::plain(base)))
}

fn rope(
    keys: &Keys<'_>,
    file: &[u8],
    rope_dim: usize,
    context: usize,
) -> Result<Rope, ConfigError> {
    let base = rope_base(keys, "rope.freq_base", 10_000.0)?;
    let given = rope_factors(keys, file, rope_dim)?;
    let kind = keys.gguf.text(&keys.key("rope.scaling.type"))?;
    let (name, factor) = match keys.float("rope.scaling.factor")? {
        Some(factor) => ("rope.scaling.factor", factor),
        None => ("rope.scale_linear", keys.float("rope.scale_linear")?.unwrap_or(1.0)),
    };
    // 0 stands for "not scaled" in files of old converters.
    let factor = if factor == 0.0 { 1.0 } else { factor };
    match kind {
        Some("none") => return Ok(Rope { factors: given, ..Rope::plain(base) }),
        None | Some("linear") => {}
        Some("yarn") => {
            if given.is_some() {
                return Err(keys.refuse("rope.scaling.type", "yarn beside rope_freqs.weight"));
            }
            return yarn(keys, Turns { base, dim: rope_dim }, factor, context);
        }
        Some(other) => {
            let found: String = other.chars().take(64).collect();
            return Err(keys.refuse("rope.scaling.type", found));
        }
    }
    if !(1.0..=1e6).contains(&factor) {
        return Err(keys.out_of_bounds(name, factor, "1 to 10^6".to_owned()));
    }
    Ok(Rope { scale: 1.0 / factor, factors: given, ..Rope::plain(base) })
}

fn yarn(keys: &Keys<'_>, turns: Turns, factor: f32, context: usize) -> Result<Rope, ConfigError> {
    let name = "rope.scaling.yarn_log_multiplier";
    if let Some(found) = keys.float(name)?.filter(|n| *n != 0.0) {
        return Err(keys.refuse(name, found));
    }
    let name = |name: &str| format!("rope.scaling.{name}");
    let original = keys.size_or(&name("original_context_length"), context, CONTEXT_MAX)?;
    let mut yarn = Yarn::new(factor, original);
    let float = |own: &str| keys.float(&name(own));
    yarn.beta_fast = float("yarn_beta_fast")?.unwrap_or(yarn.beta_fast);
    yarn.beta_slow = float("yarn_beta_slow")?.unwrap_or(yarn.beta_slow);
    yarn.blend = float("yarn_ext_factor")?.unwrap_or(yarn.blend);
    let mut rope = yarn.rope(turns, &keys.key("rope.scaling"))?;
    // What the file adds to the paper's own factor, as llama.cpp takes it.
    for own in ["attn_factor", "yarn_attn_factor"] {
        let more = float(own)?.unwrap_or(1.0);
        if !(0.01..=100.0).contains(&more) {
            return Err(keys.out_of_bounds(&name(own), more, "0.01 to 100".to_owned()));
        }
        rope.magnitude *= more;
    }
    Ok(rope)
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
    if tensor.shape != [wanted as u64] || tensor.kind != TensorKind::F32 {
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

//! The shape of a model as `config.json` tells it.
//!
//! What the library assumes where a file is silent is assumed here as well: folders of Gemma 3
//! leave out most of it.

use serde_json::{Map, Value};

use crate::config::{Activation, ConfigError, ModelConfig, Rope, RopeLayout, Stretch, Turns, Yarn};
use crate::limits::{CONTEXT_MAX, HEADS_MAX, LAYERS_MAX, VOCABULARY_MAX, WIDTH_MAX};

/// Rows and columns of weights that share a scale, where 8-bit floats have scales by blocks and
/// the file does not say their size.
const BLOCK: [usize; 2] = [128, 128];
/// Where YaRN or Llama 3's scaling does not say the context before: what the library assumes.
const CONTEXT_KEY: &str = "max_position_embeddings";

type Json = Map<String, Value>;

/// A family, in the words of GGUF.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Gemma3,
}

impl Family {
    const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// Numbers of a map, with messages that name their keys.
struct Keys<'a>(&'a Json);

impl<'a> Keys<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn size_or(
        &self,
        name: &str,
        default: Option<usize>,
        max: usize,
    ) -> Result<usize, ConfigError> {
        let key = name.to_owned();
        let wanted = "whole number";
        let Some(value) = self.get(name) else {
            return default.ok_or(ConfigError::Missing { key, wanted });
        };
        let Some(found) = value.as_u64() else { return Err(ConfigError::Missing { key, wanted }) };
        match usize::try_from(found) {
            Ok(size) if (1..=max).contains(&size) => Ok(size),
            _ => Err(out_of_bounds(name, found, &format!("1 to {max}"))),
        }
    }

    fn size(&self, name: &str, max: usize) -> Result<usize, ConfigError> {
        self.size_or(name, None, max)
    }

    fn float(&self, name: &str) -> Result<Option<f32>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let found = value.as_f64().map(|float| float as f32);
        let missing = || ConfigError::Missing { key: name.to_owned(), wanted: "number" };
        found.ok_or_else(missing).map(Some)
    }

    fn float_within(
        &self,
        name: &str,
        default: f32,
        (least, most): (f32, f32),
    ) -> Result<f32, ConfigError> {
        let found = self.float(name)?.unwrap_or(default);
        match (least..=most).contains(&found) {
            true => Ok(found),
            false => Err(out_of_bounds(name, found, &format!("{least} to {most}"))),
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }
}

fn out_of_bounds(name: &str, found: impl ToString, wanted: &str) -> ConfigError {
    let (key, found) = (name.to_owned(), found.to_string());
    ConfigError::OutOfBounds { key, found, wanted: wanted.to_owned() }
}

fn unsupported(name: &str, found: &impl ToString) -> ConfigError {
    let found = found.to_string().chars().take(64).collect();
    ConfigError::Unsupported { key: name.to_owned(), found }
}

/// The part of the file that describes the language model: of a model that sees images as well it
/// is one of several.
fn text_part(all: &Json) -> &Json {
    match all.get("text_config") {
        Some(Value::Object(text)) => text,
        _ => all,
    }
}

/// Whether the embeddings are the head.
fn is_tied(all: &Json, family: Family) -> bool {
    let said = [text_part(all), all]
        .into_iter()
        .find_map(|part| part.get("tie_word_embeddings").and_then(Value::as_bool));
    said.unwrap_or(family == Family::Gemma3)
}

/// Whether a model with this file has a head of its own.
pub(super) fn has_head(all: &Json) -> Result<bool, ConfigError> {
    Ok(!is_tied(all, family(all)?))
}

/// Rows and columns of weights in 8-bit floats that share a scale.
pub(super) fn block(all: &Json) -> [usize; 2] {
    let said = all.get("quantization_config").and_then(|own| own.get("weight_block_size"));
    let sides = said.and_then(Value::as_array).map(|sides| {
        let sides = sides.iter().filter_map(Value::as_u64).map(|side| side as usize);
        sides.filter(|side| (1..=WIDTH_MAX).contains(side)).collect::<Vec<usize>>()
    });
    match sides.as_deref() {
        Some([rows, cols]) => [*rows, *cols],
        _ => BLOCK,
    }
}

fn family(all: &Json) -> Result<Family, ConfigError> {
    let kind = Keys(text_part(all)).text("model_type").unwrap_or_default();
    match kind {
        "llama" | "mistral" => Ok(Family::Llama),
        "qwen2" => Ok(Family::Qwen2),
        "qwen3" => Ok(Family::Qwen3),
        "gemma3_text" | "gemma3" => Ok(Family::Gemma3),
        other => Err(ConfigError::Architecture(other.chars().take(64).collect())),
    }
}

/// Reads the shape of a model.
pub(super) fn read(all: &Json) -> Result<ModelConfig, ConfigError> {
    let family = family(all)?;
    let keys = Keys(text_part(all));
    refuse(all, &keys, family)?;
    let is_gemma = family == Family::Gemma3;
    let or = |gemma: usize| is_gemma.then_some(gemma);
    let layers = keys.size("num_hidden_layers", LAYERS_MAX)?;
    let hidden = keys.size("hidden_size", WIDTH_MAX)?;
    let heads = keys.size_or("num_attention_heads", or(8), HEADS_MAX)?;
    let kv_heads = keys.size_or("num_key_value_heads", or(4).or(Some(heads)), HEADS_MAX)?;
    if !heads.is_multiple_of(kv_heads) {
        let wanted = format!("a divisor of the {heads} query heads");
        return Err(out_of_bounds("num_key_value_heads", kv_heads, &wanted));
    }
    let default = match family {
        Family::Gemma3 => Some(256),
        Family::Qwen3 => Some(128),
        _ => Some(hidden / heads).filter(|dim| dim * heads == hidden),
    };
    let head_dim = keys.size_or("head_dim", default, WIDTH_MAX / heads)?;
    if head_dim % 2 != 0 {
        return Err(out_of_bounds("head_dim", head_dim, "an even number"));
    }
    let context = keys.size_or(CONTEXT_KEY, or(131_072), CONTEXT_MAX)?;
    let windows = windows(&keys, family, layers)?;
    let turned = match is_gemma {
        true => keys.float_within("query_pre_attn_scalar", 256.0, (1.0, 1e6))?,
        false => head_dim as f32,
    };
    Ok(ModelConfig {
        architecture: family.name().to_owned(),
        name: name(all),
        layers,
        hidden,
        heads,
        kv_heads,
        head_dim,
        feed_forward: keys.size("intermediate_size", WIDTH_MAX)?,
        vocab: keys.size_or("vocab_size", or(262_208), VOCABULARY_MAX)?,
        context,
        rope: rope(&keys, family, head_dim, context)?,
        local_rope: match is_gemma && !windows.is_empty() {
            true => Some(local_rope(&keys)?),
            false => None,
        },
        windows,
        rope_dim: head_dim,
        rope_layout: RopeLayout::Halves,
        rms_epsilon: keys.float_within("rms_norm_eps", 1e-6, (1e-12, 0.1))?,
        attention_scale: 1.0 / turned.sqrt(),
        embedding_scale: if is_gemma { (hidden as f32).sqrt() } else { 1.0 },
        activation: if is_gemma { Activation::GeluTanh } else { Activation::Silu },
        attention_bias: family == Family::Qwen2,
        head_norms: matches!(family, Family::Qwen3 | Family::Gemma3),
        post_norms: is_gemma,
    })
}

/// What the folder was called where it was saved.
fn name(all: &Json) -> String {
    let name = Keys(all).text("_name_or_path").unwrap_or_default();
    name.rsplit('/').next().unwrap_or_default().chars().take(256).collect()
}

fn refuse(all: &Json, keys: &Keys<'_>, family: Family) -> Result<(), ConfigError> {
    // In these families the option gives attention's output a bias as well, and others to the
    // feed-forward layer.
    for name in ["attention_bias", "mlp_bias"] {
        if keys.flag(name) {
            return Err(unsupported(name, &true));
        }
    }
    for name in ["final_logit_softcapping", "attn_logit_softcapping", "num_local_experts"] {
        if let Some(value) = keys.get(name) {
            return Err(unsupported(name, value));
        }
    }
    let (name, wanted) = match family {
        Family::Gemma3 => ("hidden_activation", "gelu_pytorch_tanh"),
        _ => ("hidden_act", "silu"),
    };
    match keys.text(name) {
        Some(found) if found != wanted => return Err(unsupported(name, &found)),
        _ => {}
    }
    if let Some(partial) = keys.float("partial_rotary_factor")?.filter(|part| *part != 1.0) {
        return Err(unsupported("partial_rotary_factor", &partial));
    }
    let Some(quantised) = all.get("quantization_config").and_then(Value::as_object) else {
        return Ok(());
    };
    let method = Keys(quantised).text("quant_method").unwrap_or_default();
    let format = Keys(quantised).text("format").unwrap_or("float-quantized");
    match (method, format) {
        ("fp8" | "fbgemm_fp8" | "modelopt" | "compressed-tensors", "float-quantized") => Ok(()),
        ("compressed-tensors", "naive-quantized") => Ok(()),
        ("compressed-tensors", format) => Err(unsupported("quantization_config.format", &format)),
        (method, _) => Err(unsupported("quantization_config.quant_method", &method)),
    }
}

/// The windows of the layers; none for a model without.
fn windows(
    keys: &Keys<'_>,
    family: Family,
    layers: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let is_qwen = matches!(family, Family::Qwen2 | Family::Qwen3);
    if keys.get("sliding_window").is_none() || (is_qwen && !keys.flag("use_sliding_window")) {
        return Ok(Vec::new());
    }
    let window = Some(keys.size("sliding_window", CONTEXT_MAX)?);
    if let Some(kinds) = keys.get("layer_types").and_then(Value::as_array) {
        if kinds.len() != layers {
            return Err(out_of_bounds("layer_types", kinds.len(), &format!("{layers} items")));
        }
        let of_kind = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") => Ok(window),
            _ => Err(unsupported("layer_types", kind)),
        };
        return kinds.iter().map(of_kind).collect();
    }
    let sees_all: Box<dyn Fn(usize) -> bool> = match family {
        Family::Gemma3 => {
            let period = keys.size_or("sliding_window_pattern", Some(6), LAYERS_MAX)?;
            Box::new(move |layer| (layer + 1).is_multiple_of(period))
        }
        Family::Llama => Box::new(|_| false),
        _ => {
            let whole = keys.size_or("max_window_layers", Some(28), LAYERS_MAX)?;
            Box::new(move |layer| layer < whole)
        }
    };
    Ok((0..layers).map(|layer| window.filter(|_| !sees_all(layer))).collect())
}

/// What the newer files put together: `rope_parameters`, by kinds of layers in Gemma 3.
fn parameters<'a>(keys: &Keys<'a>, kind: &str) -> Option<Keys<'a>> {
    let all = keys.get("rope_parameters").and_then(Value::as_object)?;
    let own = all.get(kind).and_then(Value::as_object).unwrap_or(all);
    Some(Keys(own))
}

fn base(keys: &Keys<'_>, kind: &str, name: &str, default: f32) -> Result<f32, ConfigError> {
    const BOUNDS: (f32, f32) = (1.0, 1e12);
    match parameters(keys, kind) {
        Some(own) if own.get("rope_theta").is_some() => {
            own.float_within("rope_theta", default, BOUNDS)
        }
        _ => keys.float_within(name, default, BOUNDS),
    }
}

fn local_rope(keys: &Keys<'_>) -> Result<Rope, ConfigError> {
    base(keys, "sliding_attention", "rope_local_base_freq", 10_000.0).map(Rope::plain)
}

fn rope(
    keys: &Keys<'_>,
    family: Family,
    head_dim: usize,
    context: usize,
) -> Result<Rope, ConfigError> {
    let default = if family == Family::Gemma3 { 1_000_000.0 } else { 10_000.0 };
    let base = base(keys, "full_attention", "rope_theta", default)?;
    let scaling = keys.get("rope_scaling").and_then(Value::as_object).map(Keys);
    let Some(own) = scaling.or_else(|| parameters(keys, "full_attention")) else {
        return Ok(Rope::plain(base));
    };
    let kind = own.text("rope_type").or_else(|| own.text("type")).unwrap_or("default");
    let turns = Turns { base, dim: head_dim };
    let factor = || own.float_within("factor", 1.0, (1.0, 1e6));
    let original = || {
        let name = "original_max_position_embeddings";
        own.size_or(name, Some(context), CONTEXT_MAX)
    };
    match kind {
        "default" => Ok(Rope::plain(base)),
        "linear" => Ok(Rope { scale: 1.0 / factor()?, ..Rope::plain(base) }),
        "llama3" => Stretch {
            factor: factor()?,
            low_frequency: own.float_within("low_freq_factor", 1.0, (1e-3, 1e6))?,
            high_frequency: own.float_within("high_freq_factor", 4.0, (1e-3, 1e6))?,
            original_context: original()?,
        }
        .rope(turns, "rope_scaling"),
        "yarn" => {
            for name in ["mscale", "mscale_all_dim"] {
                if let Some(value) = own.get(name) {
                    return Err(unsupported(name, value));
                }
            }
            let mut yarn = Yarn::new(factor()?, original()?);
            yarn.beta_fast = own.float("beta_fast")?.unwrap_or(yarn.beta_fast);
            yarn.beta_slow = own.float("beta_slow")?.unwrap_or(yarn.beta_slow);
            yarn.magnitude = own.float("attention_factor")?;
            yarn.rope(turns, "rope_scaling")
        }
        other => Err(unsupported("rope_scaling.rope_type", &other)),
    }
}

//! `adapter_config.json`: what matters of it, and what must not be there.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::error::AdapterError;
use super::pattern::Pattern;
use super::shortened;
use crate::limits::{
    ADAPTER_CONFIG_BYTES_MAX, ADAPTER_PATTERNS_MAX, ADAPTER_RANK_MAX, ADAPTER_SCALE_MAX,
};

/// Options that change nothing in how an adapter is used. Which modules it changes is known by its
/// tensors, whichever way its targets are written.
const HARMLESS: [&str; 25] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "task_type",
    "use_rslora",
    "bias",
];

/// What matters of the options.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    /// `r`.
    pub(super) rank: usize,
    /// The scale of modules that no pattern names.
    pub(super) scale: f32,
    alpha: f64,
    by_root: bool,
    /// In the order of the file: the first that matches counts.
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
}

/// Rank and scale of one module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ModuleOptions {
    pub(super) rank: usize,
    pub(super) scale: f32,
}

impl Options {
    pub(super) fn parse(config_json: &[u8]) -> Result<Self, AdapterError> {
        let wrong = |reason: String| AdapterError::Config { reason };
        if config_json.len() > ADAPTER_CONFIG_BYTES_MAX {
            let bytes = config_json.len();
            return Err(wrong(format!(
                "it has {bytes} bytes, {ADAPTER_CONFIG_BYTES_MAX} at most are accepted"
            )));
        }
        let options: Map<String, Value> =
            serde_json::from_slice(config_json).map_err(|e| wrong(e.to_string()))?;
        refuse(&options)?;
        let patterns: Patterns =
            serde_json::from_slice(config_json).map_err(|e| wrong(e.to_string()))?;
        let rank = options.get("r").and_then(Value::as_u64);
        let rank = rank.ok_or_else(|| wrong("there is no whole number \"r\"".to_owned()))?;
        let alpha = options.get("lora_alpha").and_then(Value::as_f64);
        let alpha = alpha.ok_or_else(|| wrong("there is no number \"lora_alpha\"".to_owned()))?;
        let by_root = options.get("use_rslora").is_some_and(|value| value == &Value::Bool(true));
        let rank = fitting_rank(rank as f64)?;
        let ranks = patterns.rank_pattern.read("rank_pattern", fitting_rank)?;
        let alphas = patterns.alpha_pattern.read("alpha_pattern", Ok)?;
        let scale = scale(alpha, rank, by_root)?;
        Ok(Self { rank, scale, alpha, by_root, ranks, alphas })
    }

    /// What holds for a module, by its name within the base model
    /// (`model.layers.0.self_attn.q_proj`).
    pub(super) fn of_module(&self, module: &str) -> Result<ModuleOptions, AdapterError> {
        let rank = first(&self.ranks, "rank_pattern", module)?.unwrap_or(self.rank);
        let alpha = first(&self.alphas, "alpha_pattern", module)?.unwrap_or(self.alpha);
        Ok(ModuleOptions { rank, scale: scale(alpha, rank, self.by_root)? })
    }
}

/// The value of the first pattern that means a module.
fn first<T: Copy>(
    patterns: &[(Pattern, T)],
    option: &str,
    module: &str,
) -> Result<Option<T>, AdapterError> {
    for (pattern, value) in patterns {
        match pattern.matches(module) {
            Some(true) => return Ok(Some(*value)),
            Some(false) => {}
            None => {
                let value = "a pattern that takes too long to try".to_owned();
                return Err(AdapterError::Option { option: option.to_owned(), value });
            }
        }
    }
    Ok(None)
}

fn fitting_rank(rank: f64) -> Result<usize, AdapterError> {
    let is_whole = rank.fract() == 0.0 && (1.0..=ADAPTER_RANK_MAX as f64).contains(&rank);
    if is_whole { Ok(rank as usize) } else { Err(AdapterError::Rank { rank: rank as u64 }) }
}

fn scale(alpha: f64, rank: usize, by_root: bool) -> Result<f32, AdapterError> {
    let divisor = if by_root { (rank as f64).sqrt() } else { rank as f64 };
    let scale = alpha / divisor;
    if !(scale > 0.0 && scale <= f64::from(ADAPTER_SCALE_MAX)) {
        return Err(AdapterError::Scale { scale });
    }
    Ok(scale as f32)
}

/// The two maps whose order matters, which a sorted map would lose.
#[derive(Default, Deserialize)]
struct Patterns {
    #[serde(default)]
    rank_pattern: Ordered,
    #[serde(default)]
    alpha_pattern: Ordered,
}

/// Numbers by patterns, in the order of the file.
#[derive(Default)]
struct Ordered(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("numbers by patterns")
            }

            fn visit_unit<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::default())
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Ordered, E> {
                match value {
                    false => Ok(Ordered::default()),
                    true => Err(E::custom("a pattern cannot be true")),
                }
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Ordered, A::Error> {
                match list.next_element::<Value>()? {
                    None => Ok(Ordered::default()),
                    Some(_) => Err(serde::de::Error::custom("patterns are no list")),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if entries.len() == ADAPTER_PATTERNS_MAX {
                        let most = ADAPTER_PATTERNS_MAX;
                        return Err(serde::de::Error::custom(format!("over {most} patterns")));
                    }
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }

        deserializer.deserialize_any(Entries)
    }
}

impl Ordered {
    fn read<T>(
        self,
        option: &str,
        value: impl Fn(f64) -> Result<T, AdapterError>,
    ) -> Result<Vec<(Pattern, T)>, AdapterError> {
        let read = |(key, number): (String, f64)| {
            let refused =
                || AdapterError::Option { option: option.to_owned(), value: shortened(&key) };
            Ok((Pattern::new(&key).ok_or_else(refused)?, value(number)?))
        };
        self.0.into_iter().map(read).collect()
    }
}

/// Whether a value switches nothing on.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

/// A text, or a list of texts.
fn names_modules(value: &Value) -> bool {
    match value {
        Value::Null | Value::String(_) => true,
        Value::Array(items) => items.iter().all(Value::is_string),
        _ => false,
    }
}

fn refuse(options: &Map<String, Value>) -> Result<(), AdapterError> {
    let refused = |option: &str, value: &Value| {
        Err(AdapterError::Option {
            option: shortened(option),
            value: shortened(&value.to_string()),
        })
    };
    for (option, value) in options {
        let is_fine = match option.as_str() {
            "peft_type" => value == "LORA",
            "bias" => is_off(value) || value == "none",
            // Other ways to begin (PiSSA, OLoRA and so on) change the base as well.
            "init_lora_weights" => {
                value.is_boolean() || value == "gaussian" || value == "orthogonal"
            }
            "use_rslora" => value.is_boolean(),
            "target_modules" | "exclude_modules" => names_modules(value),
            // An option that is on and not known may change the result.
            other => is_off(value) || HARMLESS.contains(&other),
        };
        if !is_fine {
            return refused(option, value);
        }
    }
    match options.get("peft_type") {
        Some(_) => Ok(()),
        None => Err(AdapterError::Config { reason: "there is no \"peft_type\"".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &str) -> Result<Options, AdapterError> {
        let text = format!("{{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8{more}}}");
        Options::parse(text.as_bytes())
    }

    #[test]
    fn the_scale_is_alpha_by_rank_or_its_root() {
        let plain = parse("").unwrap();
        assert_eq!((plain.rank, plain.scale), (4, 2.0));
        assert_eq!(parse(", \"use_rslora\": true").unwrap().scale, 4.0);
        let harmless = ", \"bias\": \"none\", \"modules_to_save\": null, \"rank_pattern\": {}, \
            \"use_dora\": false, \"inference_mode\": true, \"new_option\": false";
        assert!(parse(harmless).is_ok());
        for targets in ["[\"q_proj\", \"v_proj\"]", "\"all-linear\"", "\".*_proj\"", "null"] {
            assert!(parse(&format!(", \"target_modules\": {targets}")).is_ok(), "{targets}");
        }
        let error = parse(", \"target_modules\": [7]").unwrap_err().to_string();
        assert!(error.contains("target_modules is [7]"), "{error}");
    }

    #[test]
    fn patterns_set_rank_and_scale_of_modules_and_the_first_counts() {
        let options = parse(
            ", \"rank_pattern\": {\"layers.1.self_attn.q_proj\": 16, \"q_proj\": 2}, \
             \"alpha_pattern\": {\"mlp\\\\.(up|down)_proj\": 1, \"up_proj\": 64}",
        )
        .unwrap();
        let of = |module: &str| {
            let found = options.of_module(&format!("model.layers.{module}")).unwrap();
            (found.rank, found.scale)
        };
        assert_eq!(of("1.self_attn.q_proj"), (16, 0.5));
        assert_eq!(of("0.self_attn.q_proj"), (2, 4.0));
        assert_eq!(of("0.self_attn.k_proj"), (4, 2.0));
        assert_eq!(of("0.mlp.up_proj"), (4, 0.25));
        let root = parse(", \"use_rslora\": true, \"rank_pattern\": {\"q_proj\": 16}").unwrap();
        assert_eq!(root.of_module("model.layers.0.self_attn.q_proj").unwrap().scale, 2.0);
        for (pattern, says) in [
            ("\"rank_pattern\": {\"(?!q)\": 2}", "rank_pattern is (?!q), which is not supported"),
            ("\"rank_pattern\": {\"q_proj\": 0}", "rank is 0"),
            ("\"rank_pattern\": {\"q_proj\": \"x\"}", "cannot be read"),
            ("\"alpha_pattern\": [1]", "cannot be read"),
        ] {
            let error = parse(&format!(", {pattern}")).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let negative = parse(", \"alpha_pattern\": {\"q_proj\": -1}").unwrap();
        assert!(negative.of_module("q_proj").unwrap_err().to_string().contains("scale is -0.25"));
    }

    #[test]
    fn what_is_more_than_lora_is_refused_by_name() {
        for option in [
            "\"use_dora\": true",
            "\"bias\": \"all\"",
            "\"modules_to_save\": [\"lm_head\"]",
            "\"fan_in_fan_out\": true",
            "\"layer_replication\": [[0, 2]]",
            "\"init_lora_weights\": \"pissa\"",
            "\"alora_invocation_tokens\": [1, 2]",
            "\"trainable_token_indices\": [1, 2]",
            "\"target_parameters\": [\"x\"]",
            "\"lora_bias\": true",
            "\"some_future_option\": 3",
        ] {
            let error = parse(&format!(", {option}")).unwrap_err().to_string();
            let name = option.split('"').nth(1).unwrap();
            assert!(error.contains(name) && error.contains("not supported"), "{error}");
        }
        let other = Options::parse(b"{\"peft_type\": \"IA3\"}").unwrap_err();
        assert!(other.to_string().contains("peft_type is \"IA3\""), "{other}");
    }

    #[test]
    fn ranks_and_scales_are_bounded() {
        for (text, says) in [
            ("{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 1}", "rank is 0"),
            ("{\"peft_type\": \"LORA\", \"r\": 100000, \"lora_alpha\": 1}", "rank is 100000"),
            ("{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": -1}", "scale is -1"),
            ("{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 1e300}", "scale is"),
            ("{\"peft_type\": \"LORA\", \"r\": -4, \"lora_alpha\": 1}", "\"r\""),
            ("{\"peft_type\": \"LORA\", \"r\": 4}", "\"lora_alpha\""),
            ("{\"r\": 4, \"lora_alpha\": 1}", "\"peft_type\""),
            ("[1]", "cannot be read"),
        ] {
            let error = Options::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}

//! `adapter_config.json`: what matters of it, and what must not be there.

use serde_json::{Map, Value};

use super::error::AdapterError;
use super::shortened;
use crate::limits::{ADAPTER_CONFIG_BYTES_MAX, ADAPTER_RANK_MAX, ADAPTER_SCALE_MAX};

/// Options that change nothing in how an adapter is used.
const HARMLESS: [&str; 25] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
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
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
    "bias",
];

/// What matters of the options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Options {
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
        let rank = options.get("r").and_then(Value::as_u64);
        let rank = rank.ok_or_else(|| wrong("there is no whole number \"r\"".to_owned()))?;
        let fitting = usize::try_from(rank).ok().filter(|r| (1..=ADAPTER_RANK_MAX).contains(r));
        let fitting = fitting.ok_or(AdapterError::Rank { rank })?;
        let alpha = options.get("lora_alpha").and_then(Value::as_f64);
        let alpha = alpha.ok_or_else(|| wrong("there is no number \"lora_alpha\"".to_owned()))?;
        let by_root = options.get("use_rslora").is_some_and(|value| value == &Value::Bool(true));
        let divisor = if by_root { (rank as f64).sqrt() } else { rank as f64 };
        let scale = alpha / divisor;
        if !(scale > 0.0 && scale <= f64::from(ADAPTER_SCALE_MAX)) {
            return Err(AdapterError::Scale { scale });
        }
        Ok(Self { rank: fitting, scale: scale as f32 })
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
        assert_eq!(parse("").unwrap(), Options { rank: 4, scale: 2.0 });
        assert_eq!(parse(", \"use_rslora\": true").unwrap().scale, 4.0);
        let harmless = ", \"bias\": \"none\", \"modules_to_save\": null, \"rank_pattern\": {}, \
            \"use_dora\": false, \"inference_mode\": true, \"new_option\": false";
        assert!(parse(harmless).is_ok());
    }

    #[test]
    fn what_is_more_than_lora_is_refused_by_name() {
        for option in [
            "\"use_dora\": true",
            "\"bias\": \"all\"",
            "\"modules_to_save\": [\"lm_head\"]",
            "\"rank_pattern\": {\"q_proj\": 8}",
            "\"alpha_pattern\": {\"q_proj\": 8}",
            "\"fan_in_fan_out\": true",
            "\"layer_replication\": [[0, 2]]",
            "\"init_lora_weights\": \"pissa\"",
            "\"alora_invocation_tokens\": [1, 2]",
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

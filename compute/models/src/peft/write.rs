//! Writes adapters as PEFT's `save_pretrained` does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::Delta;
use crate::model::Site;
use crate::safetensors::{FloatKind, Safetensors, StoredTensor};

/// What an adapter's configuration says.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSpec {
    /// Rank of all its changes.
    pub rank: usize,
    /// `lora_alpha`; the scale is `alpha / rank`.
    pub alpha: f32,
    /// The sites that it changes.
    pub sites: BTreeSet<Site>,
    /// Name of the base model.
    pub base_name: String,
}

/// Writes `adapter_config.json` and `adapter_model.safetensors`. The rows of B are taken as they
/// are: for an adapter that was read, call [`super::to_peft_rows`] first. Numbers are stored as
/// F16 where that loses nothing, as F32 otherwise.
#[must_use]
pub fn write(spec: &AdapterSpec, deltas: &BTreeMap<(usize, Site), Delta>) -> (Vec<u8>, Vec<u8>) {
    let exact = |float: &f32| half::f16::from_f32(*float).to_f32().to_bits() == float.to_bits();
    let is_exact = deltas.values().all(|d| d.a.iter().chain(&d.b).all(exact));
    let kind = if is_exact { FloatKind::F16 } else { FloatKind::F32 };
    let mut parts = Vec::new();
    for ((layer, site), Delta { a, b, rank }) in deltas {
        let module = format!("base_model.model.model.layers.{layer}.{}", site.peft_name());
        let rank = (*rank).max(1);
        let (cols, rows) = (a.len() / rank, b.len() / rank);
        parts.push((format!("{module}.lora_A.weight"), [rank, cols], stored(a, kind)));
        parts.push((format!("{module}.lora_B.weight"), [rows, rank], stored(b, kind)));
    }
    let tensors = parts.iter().map(|(name, shape, bytes)| {
        let shape = shape.iter().map(|n| *n as u64).collect();
        (name.clone(), StoredTensor { kind, shape, bytes })
    });
    let tensors = tensors.collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let safetensors = Safetensors { tensors, metadata }.to_bytes();
    (config(spec).into_bytes(), safetensors)
}

fn stored(floats: &[f32], kind: FloatKind) -> Vec<u8> {
    match kind {
        FloatKind::F16 => {
            floats.iter().flat_map(|float| half::f16::from_f32(*float).to_le_bytes()).collect()
        }
        _ => floats.iter().flat_map(|float| float.to_le_bytes()).collect(),
    }
}

fn config(spec: &AdapterSpec) -> String {
    let module = |site: &Site| site.peft_name().rsplit('.').next().unwrap_or_default();
    let modules: Vec<&str> = spec.sites.iter().map(module).collect();
    json!({
        "base_model_name_or_path": spec.base_name,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": spec.rank,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    })
    .to_string()
}

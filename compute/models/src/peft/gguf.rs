//! Adapters in GGUF files, as llama.cpp's `convert_lora_to_gguf.py` writes them.
//!
//! The rank is each pair's own, the scale `adapter.lora.alpha / rank` (1 where alpha is 0, as
//! llama.cpp has it). The converter reorders rows of query and key for the llama architecture, so
//! they fit a base from GGUF as they are, and are put back for a base that turns halves.

use std::collections::BTreeMap;

use super::rows::to_halves;
use super::{Adapter, AdapterError, Delta, Part, fold, layer_number, shortened};
use crate::config::{ModelConfig, RopeLayout};
use crate::floats::{all_finite, widened};
use crate::gguf::{Gguf, TensorInfo, TensorKind, required};
use crate::limits::{ADAPTER_FLOATS_MAX, ADAPTER_RANK_MAX, ADAPTER_SCALE_MAX};
use crate::model::Site;
use crate::safetensors::FloatKind;

type Parts<'a> = BTreeMap<(usize, Site), [Option<(&'a str, &'a TensorInfo)>; 2]>;

impl Adapter {
    /// Reads an adapter from a whole GGUF file, for a model of this shape.
    ///
    /// # Errors
    /// [`AdapterError`], which names the key or tensor.
    pub fn from_gguf(file: &[u8], config: &ModelConfig) -> Result<Self, AdapterError> {
        let gguf = Gguf::parse(file)?;
        let alpha = alpha(&gguf, config)?;
        let mut parts = Parts::new();
        let mut floats = 0u64;
        for (name, info) in gguf.tensors() {
            let (layer, site, part) = place(name, config)?;
            floats = floats.saturating_add(info.shape.iter().product());
            if let Some(slot) = parts.entry((layer, site)).or_default().get_mut(part as usize) {
                *slot = Some((name, info));
            }
        }
        if parts.is_empty() {
            return Err(AdapterError::Empty);
        }
        if floats > ADAPTER_FLOATS_MAX as u64 {
            let floats = usize::try_from(floats).unwrap_or(usize::MAX);
            return Err(AdapterError::TooLarge { floats });
        }
        let mut read = BTreeMap::new();
        for ((layer, site), slots) in parts {
            let module = format!("blk.{layer}.{}.weight", site.gguf_name());
            let [Some(a), Some(b)] = slots else {
                let missing = if slots.first().is_some_and(Option::is_none) { "A" } else { "B" };
                return Err(AdapterError::HalfPair { module, missing });
            };
            let rank = rank(b.1)?;
            let (rows, cols) = site.shape(config);
            let a = numbers(file, a, [cols, rank], &module)?;
            let b = numbers(file, b, [rank, rows], &module)?;
            let is_reordered = config.architecture == "llama";
            let b = match config.rope_layout {
                RopeLayout::Halves if is_reordered => to_halves(b, rank, site, config.head_dim),
                _ => b,
            };
            read.insert((layer, site), Delta { a, b, rank });
        }
        let largest = read.values().map(|delta| delta.rank).max().unwrap_or(1);
        let scale = scale(alpha, largest)?;
        for delta in read.values_mut() {
            let rank = delta.rank;
            fold(&mut delta.b, self::scale(alpha, rank)?, scale);
        }
        Ok(Self { rank: largest, scale, deltas: read })
    }
}

/// `adapter.lora.alpha`, once the file is known to be a LoRA adapter of this architecture.
fn alpha(gguf: &Gguf, config: &ModelConfig) -> Result<f32, AdapterError> {
    for (key, wanted) in [
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
        ("general.architecture", config.architecture.as_str()),
    ] {
        let found = required(key, gguf.text(key)?)?;
        if found != wanted {
            let (key, found) = (key.to_owned(), shortened(found));
            return Err(AdapterError::NotLora { key, found, wanted: wanted.to_owned() });
        }
    }
    // Activated LoRA applies from some token on only.
    let key = "adapter.alora.invocation_tokens";
    if gguf.get(key).is_some() {
        let (option, value) = (key.to_owned(), "there".to_owned());
        return Err(AdapterError::Option { option, value });
    }
    let key = "adapter.lora.alpha";
    Ok(required(key, gguf.float(key)?)?)
}

fn scale(alpha: f32, rank: usize) -> Result<f32, AdapterError> {
    let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f32 };
    match scale > 0.0 && scale <= ADAPTER_SCALE_MAX {
        true => Ok(scale),
        false => Err(AdapterError::Scale { scale: scale.into() }),
    }
}

/// Columns of B.
fn rank(b: &TensorInfo) -> Result<usize, AdapterError> {
    let rank = b.shape.first().copied().unwrap_or(0);
    let fitting = usize::try_from(rank).ok().filter(|rank| (1..=ADAPTER_RANK_MAX).contains(rank));
    fitting.ok_or(AdapterError::Rank { rank })
}

/// What a tensor's name says: `blk.N.attn_q.weight.lora_a`.
fn place(name: &str, config: &ModelConfig) -> Result<(usize, Site, Part), AdapterError> {
    let unknown = || AdapterError::UnknownTensor { tensor: shortened(name) };
    let (layer, rest) =
        name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
    let layer = layer_number(layer).ok_or_else(unknown)?;
    let (module, part) = if let Some(module) = rest.strip_suffix(".weight.lora_a") {
        (module, Part::A)
    } else if let Some(module) = rest.strip_suffix(".weight.lora_b") {
        (module, Part::B)
    } else {
        return Err(unknown());
    };
    let site = Site::ALL.into_iter().find(|site| site.gguf_name() == module).ok_or_else(unknown)?;
    if layer >= config.layers {
        return Err(AdapterError::Layer { tensor: shortened(name), layers: config.layers });
    }
    Ok((layer, site, part))
}

/// A tensor's numbers; `wanted` has the fastest dimension first.
fn numbers(
    file: &[u8],
    (name, info): (&str, &TensorInfo),
    wanted: [usize; 2],
    module: &str,
) -> Result<Vec<f32>, AdapterError> {
    let wanted = wanted.map(|n| n as u64);
    if info.shape != wanted {
        let (tensor, found) = (shortened(name), info.shape.clone());
        return Err(AdapterError::Shape { tensor, found, wanted });
    }
    let bytes = file.get(info.range.clone()).unwrap_or_default();
    let floats = match info.kind {
        TensorKind::F32 => widened(FloatKind::F32, bytes),
        TensorKind::F16 => widened(FloatKind::F16, bytes),
        TensorKind::Bf16 => widened(FloatKind::Bf16, bytes),
        TensorKind::Q8_0 => bytes.as_chunks::<34>().0.iter().flat_map(block).collect(),
        other => {
            let (tensor, kind) = (shortened(name), other.name());
            return Err(AdapterError::TensorType { tensor, kind });
        }
    };
    match all_finite(&floats) {
        true => Ok(floats),
        false => Err(AdapterError::NotFinite { module: module.to_owned() }),
    }
}

/// The numbers of a block of `Q8_0`: a scale of 16 bits, then 32 integers.
fn block(bytes: &[u8; 34]) -> impl Iterator<Item = f32> {
    let [low, high, integers @ ..] = *bytes;
    let scale = half::f16::from_le_bytes([low, high]).to_f32();
    integers.into_iter().map(move |integer| f32::from(integer.cast_signed()) * scale)
}

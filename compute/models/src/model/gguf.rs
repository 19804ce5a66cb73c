//! A model in one GGUF file.

use std::collections::{BTreeMap, BTreeSet};

use super::{Model, ModelError, Slot, Weight};
use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::gguf::{Gguf, TensorKind};
use crate::map::Mapped;
use crate::tokenizer::Tokenizer;

pub(super) fn model(map: Mapped) -> Result<Model, ModelError> {
    let gguf = Gguf::parse(&map)?;
    let config = ModelConfig::from_gguf(&gguf, &map)?;
    let all = Weight::all(&config);
    let mut slots = BTreeMap::new();
    for weight in &all {
        if let Some(slot) = slot(&gguf, &config, *weight)? {
            slots.insert(*weight, slot);
        }
    }
    refuse_others(&gguf, &config, &all)?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    if tokenizer.vocab_len() != config.vocab {
        let (rows, tokens) = (config.vocab, tokenizer.vocab_len());
        return Err(ModelError::Vocabulary { rows, tokens });
    }
    let chat_template = ChatTemplate::from_gguf(&gguf);
    Ok(Model { sources: vec![map], slots, config, tokenizer, chat_template })
}

/// Where a weight lies; nothing where the head is the embedding.
fn slot(gguf: &Gguf, config: &ModelConfig, weight: Weight) -> Result<Option<Slot>, ModelError> {
    let name = weight.gguf_name();
    let Some(info) = gguf.tensor(&name) else {
        return match weight {
            Weight::Head => Ok(None),
            _ => Err(ModelError::MissingTensor { name }),
        };
    };
    let (rows, cols) = weight.shape(config);
    let wanted = match weight.is_vector() {
        true => vec![cols as u64],
        false => vec![cols as u64, rows as u64],
    };
    if info.shape != wanted {
        return Err(ModelError::TensorShape { name, found: info.shape.clone(), wanted });
    }
    if weight.is_vector() && info.kind != TensorKind::F32 {
        return Err(ModelError::TensorType { name, kind: info.kind });
    }
    Ok(Some(Slot { kind: info.kind, rows, cols, source: 0, range: info.range.clone() }))
}

/// A tensor that would be left out of the computation means that the result would be wrong.
fn refuse_others(gguf: &Gguf, config: &ModelConfig, all: &[Weight]) -> Result<(), ModelError> {
    let known: BTreeSet<String> = all.iter().map(|weight| weight.gguf_name()).collect();
    let stale = |name: &str| {
        // Written by converters of old, computed from the base and not needed.
        let layer = name.strip_prefix("blk.")?.strip_suffix(".attn_rot_embd.weight")?;
        layer.parse::<usize>().ok().filter(|layer| *layer < config.layers)
    };
    for (name, _) in gguf.tensors() {
        if !known.contains(name) && name != "rope_freqs.weight" && stale(name).is_none() {
            let name = name.chars().take(128).collect();
            return Err(ModelError::UnknownTensor { name });
        }
    }
    Ok(())
}

//! PEFT's LoRA adapters (Hu et al. 2021): low-rank changes of a model's matrices.
//!
//! An adapter is `adapter_config.json` and `adapter_model.safetensors` as `save_pretrained` writes
//! them. What it would need beyond plain LoRA (DoRA, biases, whole modules) is refused by name,
//! because leaving it out would give other results without a word.

mod error;
mod options;
mod rows;
mod synthesize;
mod write;

use std::collections::BTreeMap;

use crate::bundle::AdapterBundle;
use crate::config::LlamaConfig;
use crate::limits::ADAPTER_FLOATS_MAX;
use crate::model::Site;
use crate::safetensors::{Safetensors, StoredTensor};

pub use error::AdapterError;
pub use rows::{to_engine_rows, to_peft_rows};
pub use synthesize::synthesize;
pub use write::{AdapterSpec, write};

use options::Options;

/// The change at one site: `out += scale * B (A x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// `[rank, in]`, row by row.
    pub a: Vec<f32>,
    /// `[out, rank]`, row by row, in the row order of the model's own matrix.
    pub b: Vec<f32>,
    /// Rows of A, columns of B.
    pub rank: usize,
}

/// A LoRA adapter that fits a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The rank that its configuration says.
    pub rank: usize,
    /// What changes are multiplied with: `alpha / r`, or `alpha / sqrt(r)` for rsLoRA.
    pub scale: f32,
    /// The changes, by layer (from 0) and site.
    pub deltas: BTreeMap<(usize, Site), Delta>,
}

/// Which of the two matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    A,
    B,
}

impl Adapter {
    /// Reads an adapter for a model of this shape.
    ///
    /// # Errors
    /// [`AdapterError`], which names the option or tensor.
    pub fn parse(
        config_json: &[u8],
        safetensors: &[u8],
        config: &LlamaConfig,
    ) -> Result<Self, AdapterError> {
        let options = Options::parse(config_json)?;
        let file = Safetensors::parse(safetensors)?;
        let mut parts: BTreeMap<(usize, Site), [Option<&StoredTensor<'_>>; 2]> = BTreeMap::new();
        let mut floats = 0usize;
        for (name, tensor) in &file.tensors {
            let (layer, site, part) = place(name, config)?;
            check_shape(name, tensor, &options, site.shape(config), part)?;
            floats = floats.saturating_add(tensor.bytes.len() / 2);
            let slots = parts.entry((layer, site)).or_default();
            if let Some(slot) = slots.get_mut(part as usize) {
                *slot = Some(tensor);
            }
        }
        if parts.is_empty() {
            return Err(AdapterError::Empty);
        }
        if floats > ADAPTER_FLOATS_MAX {
            return Err(AdapterError::TooLarge { floats });
        }
        let mut deltas = BTreeMap::new();
        for ((layer, site), slots) in parts {
            let [Some(a), Some(b)] = slots else {
                let missing = if slots.first().is_some_and(Option::is_none) { "A" } else { "B" };
                let module = format!("layers.{layer}.{}", site.peft_name());
                return Err(AdapterError::HalfPair { module, missing });
            };
            let (a, b) = (finite(a, layer, site)?, finite(b, layer, site)?);
            let b = to_engine_rows(b, options.rank, site, config);
            deltas.insert((layer, site), Delta { a, b, rank: options.rank });
        }
        Ok(Self { rank: options.rank, scale: options.scale, deltas })
    }

    /// Reads an adapter that was packed into one file.
    ///
    /// # Errors
    /// [`AdapterError`].
    pub fn from_bundle(bundle: &[u8], config: &LlamaConfig) -> Result<Self, AdapterError> {
        let config_json = AdapterBundle::config(bundle)?;
        // The note in the header is passed over like any other.
        Self::parse(&config_json, bundle, config)
    }

    /// Bytes of its numbers in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let floats: usize = self.deltas.values().map(|delta| delta.a.len() + delta.b.len()).sum();
        floats * size_of::<f32>()
    }
}

/// What a tensor's name says: `base_model.model.model.layers.N.MODULE.lora_A.weight`.
fn place(name: &str, config: &LlamaConfig) -> Result<(usize, Site, Part), AdapterError> {
    let unknown = || AdapterError::UnknownTensor { tensor: shortened(name) };
    let rest = name.strip_prefix("base_model.model.model.layers.").ok_or_else(unknown)?;
    let (layer, rest) = rest.split_once('.').ok_or_else(unknown)?;
    // One way to write a number, or one layer could have two names.
    let number = layer.parse::<usize>().ok().filter(|number| number.to_string() == layer);
    let layer = number.ok_or_else(unknown)?;
    let (module, part) = if let Some(module) = rest.strip_suffix(".lora_A.weight") {
        (module, Part::A)
    } else if let Some(module) = rest.strip_suffix(".lora_B.weight") {
        (module, Part::B)
    } else {
        return Err(unknown());
    };
    let site = Site::ALL.into_iter().find(|site| site.peft_name() == module).ok_or_else(unknown)?;
    if layer >= config.layers {
        return Err(AdapterError::Layer { tensor: shortened(name), layers: config.layers });
    }
    Ok((layer, site, part))
}

fn check_shape(
    name: &str,
    tensor: &StoredTensor<'_>,
    options: &Options,
    (rows, cols): (usize, usize),
    part: Part,
) -> Result<(), AdapterError> {
    let wanted = match part {
        Part::A => [options.rank as u64, cols as u64],
        Part::B => [rows as u64, options.rank as u64],
    };
    if tensor.shape == wanted {
        return Ok(());
    }
    let (tensor, found) = (shortened(name), tensor.shape.clone());
    Err(AdapterError::Shape { tensor, found, wanted })
}

fn finite(tensor: &StoredTensor<'_>, layer: usize, site: Site) -> Result<Vec<f32>, AdapterError> {
    let floats = tensor.floats();
    match floats.iter().all(|float| float.is_finite()) {
        true => Ok(floats),
        false => {
            Err(AdapterError::NotFinite { module: format!("layers.{layer}.{}", site.peft_name()) })
        }
    }
}

/// A stranger's text in a message.
fn shortened(text: &str) -> String {
    text.chars().take(128).collect()
}

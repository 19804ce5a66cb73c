//! LoRA adapters (Hu et al. 2021): low-rank changes of a model's matrices.
//!
//! An adapter is `adapter_config.json` and `adapter_model.safetensors` as PEFT's `save_pretrained`
//! writes them, both in one file ([`crate::bundle`]), or a GGUF file as llama.cpp's converter
//! writes it. What it would need beyond plain LoRA (DoRA, biases, whole modules) is refused by
//! name, because leaving it out would give other results without a word.

mod error;
mod gguf;
mod open;
mod options;
mod pattern;
mod rows;
mod synthesize;
mod write;

use std::collections::BTreeMap;

use crate::bundle::AdapterBundle;
use crate::config::ModelConfig;
use crate::floats::widen_into;
use crate::limits::ADAPTER_FLOATS_MAX;
use crate::model::Site;
use crate::safetensors::{Safetensors, StoredTensor};

pub use error::AdapterError;
pub use rows::{to_engine_rows, to_peft_rows};
pub use synthesize::synthesize;
pub use write::{AdapterSpec, write};

use options::Options;

/// The change at one site: `out += scale * B (A x)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// `[rank, in]`, row by row.
    pub a: Vec<f32>,
    /// `[out, rank]`, row by row, in the row order of the model's own matrix; multiplied already
    /// with what sets its module's scale apart from the adapter's, where a pattern says so.
    pub b: Vec<f32>,
    /// Rows of A, columns of B.
    pub rank: usize,
}

/// A LoRA adapter that fits a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The rank that its configuration says; of a GGUF file the largest.
    pub rank: usize,
    /// What changes are multiplied with: `alpha / r`, or `alpha / sqrt(r)` for rsLoRA.
    pub scale: f32,
    /// The changes, by layer (from 0) and site.
    pub deltas: BTreeMap<(usize, Site), Delta>,
}

/// The tensors of both matrices of a place, with their names, as far as they were found.
type Pair<'a> = [Option<(&'a str, &'a StoredTensor<'a>)>; 2];

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
        config: &ModelConfig,
    ) -> Result<Self, AdapterError> {
        let mut deltas = BTreeMap::new();
        let mut keep = |place, delta: &mut Delta| {
            deltas.insert(place, core::mem::take(delta));
        };
        let (rank, scale) = Self::visit(config_json, safetensors, config, &mut keep)?;
        Ok(Self { rank, scale, deltas })
    }

    /// Reads an adapter one change at a time, for those who store the numbers in another way:
    /// memory for all of them at once costs more than reading them. `visit` may take the numbers;
    /// what it leaves is used again. Returns the rank and the scale that the configuration says.
    ///
    /// # Errors
    /// [`AdapterError`]; what was visited before is then of no use.
    pub fn visit(
        config_json: &[u8],
        safetensors: &[u8],
        config: &ModelConfig,
        visit: &mut dyn FnMut((usize, Site), &mut Delta),
    ) -> Result<(usize, f32), AdapterError> {
        let options = Options::parse(config_json)?;
        let file = Safetensors::parse(safetensors)?;
        let mut parts: BTreeMap<(usize, Site), Pair<'_>> = BTreeMap::new();
        for (name, tensor) in &file.tensors {
            let (layer, site, part) = place(name, config)?;
            let slot = parts.entry((layer, site)).or_default().get_mut(part as usize);
            if let Some((first, _)) = slot.and_then(|slot| slot.replace((name, tensor))) {
                let (first, second) = (shortened(first), shortened(name));
                return Err(AdapterError::TwoNames { first, second });
            }
        }
        if parts.is_empty() {
            return Err(AdapterError::Empty);
        }
        let floats: usize = file.tensors.values().map(|tensor| tensor.bytes.len() / 2).sum();
        if floats > ADAPTER_FLOATS_MAX {
            return Err(AdapterError::TooLarge { floats });
        }
        let mut delta = Delta::default();
        for ((layer, site), slots) in parts {
            let module = format!("layers.{layer}.{}", site.peft_name());
            let [Some(a), Some(b)] = slots else {
                let missing = if slots.first().is_some_and(Option::is_none) { "A" } else { "B" };
                return Err(AdapterError::HalfPair { module, missing });
            };
            let own = options.of_module(&format!("model.{module}"))?;
            let (rows, cols) = site.shape(config);
            delta.rank = own.rank;
            numbers(a, [own.rank, cols], &module, &mut delta.a)?;
            numbers(b, [rows, own.rank], &module, &mut delta.b)?;
            delta.b = to_engine_rows(core::mem::take(&mut delta.b), own.rank, site, config);
            fold(&mut delta.b, own.scale, options.scale);
            visit((layer, site), &mut delta);
        }
        Ok((options.rank, options.scale))
    }

    /// Reads an adapter that was packed into one file.
    ///
    /// # Errors
    /// [`AdapterError`].
    pub fn from_bundle(bundle: &[u8], config: &ModelConfig) -> Result<Self, AdapterError> {
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

/// What stands before a layer's number: of a language model, and of one within a model that sees
/// images as well.
const PREFIXES: [&str; 3] = [
    "base_model.model.model.layers.",
    "base_model.model.model.language_model.layers.",
    "base_model.model.language_model.model.layers.",
];

/// What a tensor's name says: `base_model.model.model.layers.N.MODULE.lora_A.weight`.
fn place(name: &str, config: &ModelConfig) -> Result<(usize, Site, Part), AdapterError> {
    if name.ends_with("lora_magnitude_vector") || name.ends_with("lora_magnitude_vector.weight") {
        let (option, value) = ("use_dora".to_owned(), format!("in tensor {}", shortened(name)));
        return Err(AdapterError::Option { option, value });
    }
    let unknown = || AdapterError::UnknownTensor { tensor: shortened(name) };
    let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).ok_or_else(unknown)?;
    let (layer, rest) = rest.split_once('.').ok_or_else(unknown)?;
    let layer = layer_number(layer).ok_or_else(unknown)?;
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

/// The number that a text is. One way to write a number, or one layer could have two names.
fn layer_number(text: &str) -> Option<usize> {
    text.parse::<usize>().ok().filter(|number| number.to_string() == text)
}

/// A tensor's numbers, if it has the shape wanted and all are finite.
fn numbers(
    (name, tensor): (&str, &StoredTensor<'_>),
    wanted: [usize; 2],
    module: &str,
    floats: &mut Vec<f32>,
) -> Result<(), AdapterError> {
    let wanted = wanted.map(|n| n as u64);
    if tensor.shape != wanted {
        let (tensor, found) = (shortened(name), tensor.shape.clone());
        return Err(AdapterError::Shape { tensor, found, wanted });
    }
    match widen_into(tensor.kind, tensor.bytes, floats) {
        true => Ok(()),
        false => Err(AdapterError::NotFinite { module: module.to_owned() }),
    }
}

/// Multiplies B with what sets a module's scale apart from the adapter's.
fn fold(b: &mut [f32], own: f32, common: f32) {
    if own != common {
        let ratio = own / common;
        for b in b {
            *b *= ratio;
        }
    }
}

/// A stranger's text in a message.
fn shortened(text: &str) -> String {
    text.chars().take(128).collect()
}

//! Decoders that somebody exported to the exchange format, as exporters of transformers write
//! them: `input_ids`, `attention_mask`, `position_ids` and `past_key_values.N.key` and `.value` in,
//! `logits` and `present.N.key` and `.value` out.
//!
//! Such a graph runs one sequence at a time, has no place for adapters, and keeps its hidden
//! states to itself: embeddings are refused, and answers have no fingerprint. Keys and values lie
//! in our pages between steps, so found beginnings and preemption work as elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openledger_models::{Model, ModelConfig, OnnxElement, OnnxFile, OnnxValue};

use super::error::OnnxError;

/// An exported decoder with its tokenizer: checked, not yet loaded.
#[derive(Debug)]
pub struct OnnxExport {
    model: Arc<Model>,
    file: PathBuf,
    signature: Signature,
}

/// What a graph wants and gives beside tokens and logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// Inputs with whole numbers, by what they hold.
    pub(super) numbers: Vec<(Given, String, OnnxElement)>,
    /// `[past, present]` of each layer's keys, then values.
    pub(super) caches: Vec<[[String; 2]; 2]>,
}

/// What an input with whole numbers holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Tokens,
    /// Ones for every position.
    Mask,
    Positions,
    /// Whether there is a past.
    HasPast,
}

/// Inputs by their names.
const NUMBERS: [(&str, Given); 4] = [
    ("input_ids", Given::Tokens),
    ("attention_mask", Given::Mask),
    ("position_ids", Given::Positions),
    ("use_cache_branch", Given::HasPast),
];

pub(super) const LOGITS: &str = "logits";

impl OnnxExport {
    /// Opens a folder with `config.json`, `tokenizer.json` and `model.onnx` (or `onnx/model.onnx`),
    /// or such a file itself, and checks that its graph is that of a decoder of this shape.
    ///
    /// # Errors
    /// Files that are missing or unsound; a graph that is no such decoder, with the input or
    /// output that it lacks, or that nobody could give it.
    pub fn open(path: &Path) -> Result<Self, OnnxError> {
        let wrong = |file: &Path, reason: String| OnnxError::File { path: file.to_owned(), reason };
        let file = if path.is_dir() {
            let file = path.join("model.onnx");
            if file.is_file() { file } else { path.join("onnx").join("model.onnx") }
        } else {
            path.to_owned()
        };
        let beside = file.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let above = beside.parent().map(Path::to_owned).filter(|_| beside.ends_with("onnx"));
        let folder = above.filter(|above| above.join("config.json").is_file()).unwrap_or(beside);
        let model = Model::open_without_weights(&folder)
            .map_err(|error| wrong(&folder, error.to_string()))?;
        let graph = OnnxFile::open(&file).map_err(|error| wrong(&file, error.to_string()))?;
        let signature = Signature::of(&graph, model.config());
        let signature = signature.map_err(|reason| wrong(&file, reason))?;
        Ok(Self { model: Arc::new(model), file, signature })
    }

    /// Its shape, tokenizer and template; it holds no weights.
    #[must_use]
    pub const fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The file with its graph.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub(super) const fn signature(&self) -> &Signature {
        &self.signature
    }
}

impl Signature {
    /// Checks a graph's inputs and outputs; an error says which is at fault.
    fn of(graph: &OnnxFile, config: &ModelConfig) -> Result<Self, String> {
        let find = |list: &[OnnxValue], kind: &str, name: &str| {
            let found = list.iter().find(|value| value.name == name).cloned();
            found.ok_or_else(|| {
                format!(
                    "the graph has no {kind} {name}; export a decoder with past keys and values"
                )
            })
        };
        find(&graph.inputs, "input", "input_ids")?;
        let logits = find(&graph.outputs, "output", LOGITS)?;
        check(&logits, &[None, None, Some(config.vocab)])?;
        let mut caches = Vec::with_capacity(config.layers);
        let dims = [None, Some(config.kv_heads), None, Some(config.head_dim)];
        for layer in 0..config.layers {
            let pair = |part: &str| {
                let past = format!("past_key_values.{layer}.{part}");
                let present = format!("present.{layer}.{part}");
                check(&find(&graph.inputs, "input", &past)?, &dims)?;
                check(&find(&graph.outputs, "output", &present)?, &dims)?;
                Ok::<_, String>([past, present])
            };
            caches.push([pair("key")?, pair("value")?]);
        }
        let mut numbers = Vec::new();
        for input in &graph.inputs {
            let is_cache = |[past, _]: &[String; 2]| *past == input.name;
            if caches.iter().flatten().any(is_cache) {
                continue;
            }
            let given = NUMBERS.iter().find(|(name, _)| *name == input.name);
            let (_, given) = given.ok_or_else(|| {
                let layers = config.layers;
                format!(
                    "the graph wants the input {}, which a decoder of {layers} layers does not; \
                     export it as a plain decoder",
                    input.name
                )
            })?;
            let wanted: &[OnnxElement] = match given {
                Given::HasPast => &[OnnxElement::BOOL],
                _ => &[OnnxElement::I64, OnnxElement::I32],
            };
            element(input, wanted)?;
            numbers.push((*given, input.name.clone(), input.element));
        }
        Ok(Self { numbers, caches })
    }
}

/// Checks that a value holds 32-bit floats and, where its dimensions are fixed, has these.
fn check(value: &OnnxValue, dims: &[Option<usize>]) -> Result<(), String> {
    element(value, &[OnnxElement::F32])?;
    let fits = |(found, wanted): (&Option<u64>, &Option<usize>)| match (found, wanted) {
        (Some(found), Some(wanted)) => *found == *wanted as u64,
        _ => true,
    };
    if value.dims.len() != dims.len() || !value.dims.iter().zip(dims).all(fits) {
        let show = |dim: Option<u64>| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string());
        let list = |dims: Vec<String>| dims.join(", ");
        let found = list(value.dims.iter().map(|dim| show(*dim)).collect());
        let wanted = list(dims.iter().map(|dim| show(dim.map(|dim| dim as u64))).collect());
        return Err(format!(
            "{} is [{found}] where config.json makes it [{wanted}]; the files do not belong together",
            value.name
        ));
    }
    Ok(())
}

fn element(value: &OnnxValue, wanted: &[OnnxElement]) -> Result<(), String> {
    if wanted.contains(&value.element) {
        return Ok(());
    }
    let wanted = wanted.first().map_or("", |element| element.name());
    Err(format!("{} holds {}; export it with {wanted}", value.name, value.element.name()))
}

//! The weights of a folder, each checked, and packed where that is asked for.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::FolderError;
use super::files::Files;
use super::pack::{self, Precision};
use crate::config::ModelConfig;
use crate::floats::{widen, widened};
use crate::gguf::TensorKind;
use crate::map::Mapped;
use crate::model::{ModelError, Slot, Weight};
use crate::safetensors::{FloatKind, Place};

/// Where the scales of 8-bit floats are: both multiply, whatever their names say.
const SCALES: [&str; 2] = ["weight_scale", "weight_scale_inv"];
/// What a folder may have that the language model does not need: frequencies that follow from the
/// configuration, scales of other programs' caches and activations, and the eyes of models that
/// see.
const PASSED_OVER: [&str; 7] = [
    ".rotary_emb.inv_freq",
    ".input_scale",
    ".k_scale",
    ".v_scale",
    ".weight_scale",
    ".weight_scale_inv",
    ".activation_scale_ub",
];
const EYES: [&str; 4] = [
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
];

/// A weight that was found, and how it is to be kept.
struct Job<'a> {
    weight: Weight,
    name: String,
    rows: usize,
    cols: usize,
    source: usize,
    place: &'a Place,
    scales: Option<Scales>,
    /// Nothing to leave it where it is.
    target: Option<TensorKind>,
}

/// Factors of 8-bit floats: `[ceil(rows / height), ceil(cols / width)]`.
struct Scales {
    values: Vec<f32>,
    height: usize,
    width: usize,
    across: usize,
}

/// Every weight of the model, and the files and memory in which they lie.
pub(super) fn load(
    files: Files,
    config: &ModelConfig,
    has_head: bool,
    precision: Precision,
) -> Result<(Vec<Mapped>, BTreeMap<Weight, Slot>), ModelError> {
    let mut jobs = Vec::new();
    for weight in Weight::all(config) {
        if weight != Weight::Head || has_head {
            jobs.push(job(&files, config, precision, weight)?);
        }
    }
    refuse_others(&files, config)?;
    let packed = packed(&files, &jobs, config)?;
    let mut sources = Vec::new();
    let mut slots = BTreeMap::new();
    for (job, packed) in jobs.iter().zip(packed) {
        let Job { weight, rows, cols, .. } = *job;
        let slot = match (job.target, packed) {
            (Some(kind), Some(bytes)) => {
                let (source, range) = (files.maps.len() + sources.len(), 0..bytes.len());
                sources.push(Mapped::from_bytes(bytes));
                Slot { kind, rows, cols, source, range }
            }
            _ => {
                let (kind, range) = (pack::kept(job.place.kind), job.place.range.clone());
                Slot { kind, rows, cols, source: job.source, range }
            }
        };
        slots.insert(weight, slot);
    }
    drop(jobs);
    let mut maps = files.maps;
    // What was packed is not read again.
    maps.iter().for_each(Mapped::release);
    maps.extend(sources);
    Ok((maps, slots))
}

fn job<'a>(
    files: &'a Files,
    config: &ModelConfig,
    precision: Precision,
    weight: Weight,
) -> Result<Job<'a>, ModelError> {
    let name = weight.hf_name(config);
    let Some((source, place)) = files.tensors.get(&name) else {
        return Err(ModelError::MissingTensor { name });
    };
    let (rows, cols) = weight.shape(config);
    let wanted = match weight.is_vector() {
        true => vec![cols as u64],
        false => vec![rows as u64, cols as u64],
    };
    if place.shape != wanted {
        return Err(ModelError::TensorShape { name, found: place.shape.clone(), wanted });
    }
    let target = match weight {
        _ if weight.is_vector() => Some(TensorKind::F32),
        Weight::Embedding | Weight::Head => pack::target(precision, true, place.kind, cols),
        _ => pack::target(precision, false, place.kind, cols),
    };
    let scales = match place.kind {
        FloatKind::F8E4m3 => scales(files, &name, rows, cols)?,
        _ => None,
    };
    Ok(Job { weight, name, rows, cols, source: *source, place, scales, target })
}

/// The scales of a tensor of 8-bit floats; nothing where it has none.
fn scales(
    files: &Files,
    name: &str,
    rows: usize,
    cols: usize,
) -> Result<Option<Scales>, FolderError> {
    let module = name.strip_suffix("weight").unwrap_or(name);
    let beside = |scale: &&str| files.tensors.get(&format!("{module}{scale}"));
    let Some((source, place)) = SCALES.iter().find_map(beside) else {
        return Ok(None);
    };
    let shape: Vec<u64> = place.shape.iter().copied().filter(|n| *n != 1).collect();
    let [high, wide] = files.block;
    let blocks = [rows.div_ceil(high) as u64, cols.div_ceil(wide) as u64];
    let (height, width) = match place.shape.as_slice() {
        _ if shape.is_empty() && (place.shape.len() < 2 || blocks != [1, 1]) => (rows, cols),
        found if found == blocks => (high, wide),
        _ if shape == [rows as u64] => (1, cols),
        found => {
            let (tensor, found) = (name.to_owned(), found.to_vec());
            return Err(FolderError::Scales { tensor, found, block: files.block });
        }
    };
    let bytes = files.maps.get(*source).and_then(|map| map.get(place.range.clone()));
    let values = widened(place.kind, bytes.unwrap_or_default());
    Ok(Some(Scales { values, height, width, across: cols.div_ceil(width) }))
}

/// A tensor that would be left out of the computation means that the result would be wrong.
fn refuse_others(files: &Files, config: &ModelConfig) -> Result<(), ModelError> {
    let known: std::collections::BTreeSet<String> =
        Weight::all(config).into_iter().map(|weight| weight.hf_name(config)).collect();
    let is_known = |name: &str| {
        known.contains(name)
            || PASSED_OVER.iter().any(|end| name.ends_with(end))
            || EYES.iter().any(|start| name.starts_with(start))
    };
    match files.tensors.keys().find(|name| !is_known(name)) {
        Some(name) => {
            let name = name.chars().take(128).collect();
            Err(ModelError::UnknownTensor { name })
        }
        None => Ok(()),
    }
}

/// The bytes of what is packed, in the order of the jobs, by all processors.
fn packed(
    files: &Files,
    jobs: &[Job<'_>],
    config: &ModelConfig,
) -> Result<Vec<Option<Vec<u8>>>, FolderError> {
    let results: Vec<Mutex<Option<Vec<u8>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(job), Some(result)) = (jobs.get(at), results.get(at)) else { return };
            match job.pack(files, config) {
                Ok(bytes) => {
                    if let Ok(mut result) = result.lock() {
                        *result = bytes;
                    }
                }
                Err(error) => {
                    next.store(jobs.len(), Ordering::Relaxed);
                    if let Ok(mut failure) = failure.lock() {
                        *failure = Some(error);
                    }
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    if let Ok(Some(error)) = failure.into_inner() {
        return Err(error);
    }
    Ok(results.into_iter().map(|result| result.into_inner().unwrap_or_default()).collect())
}

impl Job<'_> {
    /// Its bytes; nothing where it stays in its file.
    fn pack(&self, files: &Files, config: &ModelConfig) -> Result<Option<Vec<u8>>, FolderError> {
        let Some(kind) = self.target else { return Ok(None) };
        let bytes = files.maps.get(self.source).and_then(|map| map.get(self.place.range.clone()));
        let bytes = bytes.unwrap_or_default();
        let row_bytes = self.cols * self.place.kind.bytes();
        let length = kind.bytes_of(&[self.cols as u64, self.rows as u64]).unwrap_or(0);
        let mut packed = Vec::with_capacity(length);
        let mut row = vec![0.0; self.cols];
        for (index, bytes) in bytes.chunks(row_bytes.max(1)).enumerate() {
            let are_finite = widen(self.place.kind, bytes, &mut row);
            self.finish(index, &mut row, config);
            if !are_finite || !pack::pack(kind, &row, &mut packed) {
                return Err(FolderError::NotFinite { tensor: self.name.clone() });
            }
        }
        Ok(Some(packed))
    }

    /// What makes the stored numbers of a row those of the model.
    fn finish(&self, index: usize, row: &mut [f32], config: &ModelConfig) {
        if let Some(Scales { values, height, width, across }) = &self.scales {
            let first = index / height * across;
            for (block, row) in row.chunks_mut(*width).enumerate() {
                let scale = values.get(first + block).copied().unwrap_or(f32::NAN);
                row.iter_mut().for_each(|float| *float *= scale);
            }
        }
        // Gemma's files have the norms' distance from one.
        let is_norm = matches!(self.weight, Weight::Norm(..) | Weight::OutputNorm);
        if is_norm && config.architecture == "gemma3" {
            row.iter_mut().for_each(|float| *float += 1.0);
        }
    }
}

//! The files of a folder: small ones as JSON, those with weights as maps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::FolderError;
use crate::config::ModelConfig;
use crate::limits::{FOLDER_JSON_BYTES_MAX, SHARDS_MAX};
use crate::map::{MapError, Mapped};
use crate::model::Weight;
use crate::safetensors::{Place, Places};

/// The one file with weights, where there is one.
const SINGLE: &str = "model.safetensors";
/// What says which weights are in which of several files.
const INDEX: &str = "model.safetensors.index.json";
/// What older versions of the library wrote.
const PICKLES: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Reads a JSON file.
pub(super) fn json<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T, FolderError> {
    let file = bytes(folder, name, FOLDER_JSON_BYTES_MAX)?;
    serde_json::from_slice(&file)
        .map_err(|e| FolderError::Json { file: name.to_owned(), reason: e.to_string() })
}

/// The same of a file that need not be there.
pub(super) fn optional<T: DeserializeOwned>(
    folder: &Path,
    name: &str,
) -> Result<Option<T>, FolderError> {
    if folder.join(name).exists() { json(folder, name).map(Some) } else { Ok(None) }
}

/// Reads a text that need not be there.
pub(super) fn text(folder: &Path, name: &str) -> Result<Option<String>, FolderError> {
    if !folder.join(name).exists() {
        return Ok(None);
    }
    let file = bytes(folder, name, FOLDER_JSON_BYTES_MAX)?;
    let wrong = || FolderError::Json { file: name.to_owned(), reason: "no UTF-8".to_owned() };
    std::str::from_utf8(&file).map(|text| Some(text.to_owned())).map_err(|_| wrong())
}

/// Maps a file that is no longer than `max`.
pub(super) fn bytes(folder: &Path, name: &str, max: usize) -> Result<Mapped, FolderError> {
    let file = map(folder, name)?;
    match file.len() > max {
        true => Err(FolderError::TooLong { file: name.to_owned(), bytes: file.len(), max }),
        false => Ok(file),
    }
}

fn map(folder: &Path, name: &str) -> Result<Mapped, FolderError> {
    Mapped::open(&folder.join(name)).map_err(|error| {
        let reason = match error {
            MapError::Open { source, .. } => source.to_string(),
            MapError::NotAFile { .. } => "it is no ordinary file".to_owned(),
        };
        FolderError::Open { file: name.to_owned(), reason }
    })
}

/// The files with weights, and where each tensor lies.
pub(super) struct Files {
    pub(super) maps: Vec<Mapped>,
    /// By their names in a plain language model: which file, and where in it.
    pub(super) tensors: BTreeMap<String, (usize, Place)>,
    /// Rows and columns of 8-bit floats that share a scale.
    pub(super) block: [usize; 2],
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    pub(super) fn open(
        folder: &Path,
        config: &ModelConfig,
        block: [usize; 2],
    ) -> Result<Self, FolderError> {
        let known: BTreeSet<String> =
            Weight::all(config).into_iter().map(|weight| weight.hf_name(config)).collect();
        let mut files = Self { maps: Vec::new(), tensors: BTreeMap::new(), block };
        for name in names(folder)? {
            let map = map(folder, &name)?;
            let refuses = |tensor: &str| known.contains(&plain(tensor));
            let places = Places::find(&map, |_| true, "F32, F16, BF16 or F8_E4M3", refuses)
                .map_err(|source| FolderError::Safetensors { file: name, source })?;
            for (tensor, place) in places.tensors {
                let plain = plain(&tensor);
                if files.tensors.insert(plain, (files.maps.len(), place)).is_some() {
                    return Err(FolderError::TwoFiles { tensor });
                }
            }
            files.maps.push(map);
        }
        Ok(files)
    }
}

/// The names of the files with weights.
fn names(folder: &Path) -> Result<BTreeSet<String>, FolderError> {
    let Some(Index { weight_map }) = optional(folder, INDEX)? else {
        if folder.join(SINGLE).exists() {
            return Ok(BTreeSet::from([SINGLE.to_owned()]));
        }
        return match PICKLES.into_iter().find(|name| folder.join(name).exists()) {
            Some(name) => Err(FolderError::Pickle { file: name.to_owned() }),
            None => map(folder, SINGLE).map(|_| BTreeSet::new()),
        };
    };
    let names: BTreeSet<String> = weight_map.into_values().collect();
    if names.is_empty() || names.len() > SHARDS_MAX {
        return Err(FolderError::Shard { found: format!("{} files", names.len()) });
    }
    let is_plain = |name: &String| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        name.chars().all(allowed) && !name.starts_with('.') && name.ends_with(".safetensors")
    };
    match names.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(FolderError::Shard { found: name.chars().take(128).collect() }),
        None => Ok(names),
    }
}

/// A tensor's name in a plain language model: one within a model that sees images has a prefix.
fn plain(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("model.language_model.") {
        return format!("model.{rest}");
    }
    name.strip_prefix("language_model.").unwrap_or(name).to_owned()
}

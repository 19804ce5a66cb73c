//! Combinations: several adapters of one base with their weights, saved under a name that calls
//! can name like an adapter's.
//!
//! Each is a note of its own in the folder `combinations` beside the model files. What it is made of
//! must be there when it is called; nothing is computed here.

use std::path::{Path, PathBuf};

use openledger_wire::{BlobId, limits as wire_limits};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::library::{EntryKind, Library, LibraryError, plain_name};
use super::wishes::MergeWish;
use crate::data_dir::{DataDirError, read_bounded, write_private};
use crate::limits;

/// Schema of the notes.
const SCHEMA: u32 = 1;

/// Several adapters under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Combined {
    /// What people call it.
    pub name: String,
    /// The base that all of them were made for.
    pub base: BlobId,
    /// The adapters with their weights in thousandths.
    pub adapters: Vec<(BlobId, u32)>,
    /// How they become one.
    pub merge: MergeWish,
}

/// What lies in the folder.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    schema: u32,
    writer: String,
    #[serde(flatten)]
    combined: Combined,
}

/// Why a combination was not saved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CombineError {
    /// The library, or a name in it.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The note.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// A part is not written as one.
    #[error("read {text:?}: write NAME:WEIGHT, with a weight from 0 to 16, or NAME alone")]
    Part {
        /// The text.
        text: String,
    },
    /// What is named is something else.
    #[error("combine {name}: it is {is}; {remedy}")]
    Kind {
        /// The name.
        name: String,
        /// What it is.
        is: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Too few or too many.
    #[error("combine {count} adapters: name 1 to {max} different ones", max = wire_limits::CALL_ADAPTERS_MAX)]
    Count {
        /// How many.
        count: usize,
    },
    /// How they become one makes no sense.
    #[error("combine adapters: {part}: {why}")]
    Merge {
        /// Which part of it.
        part: &'static str,
        /// Why.
        why: String,
    },
}

/// Saves a combination of adapters, named as `NAME` or `NAME:WEIGHT`.
///
/// # Errors
/// [`CombineError`]; nothing is saved then.
pub fn combine(
    library: &Library,
    name: &str,
    base: Option<&str>,
    parts: &[String],
    merge: MergeWish,
) -> Result<Combined, CombineError> {
    merge.check().map_err(|(part, why)| CombineError::Merge { part, why })?;
    let mut adapters: Vec<(BlobId, u32)> = Vec::new();
    let mut own_base = match base {
        Some(base) => {
            let entry = library.find(base)?;
            if entry.kind != EntryKind::Base {
                let remedy = "name the base model that the adapters were made for";
                return Err(CombineError::Kind { name: entry.name, is: "an adapter", remedy });
            }
            Some(entry.blob)
        }
        None => None,
    };
    for part in parts {
        let (part, weight) = weighted(part)?;
        let entry = library.find(part)?;
        if entry.kind != EntryKind::Adapter {
            let remedy = "name adapters, and the base with --base";
            return Err(CombineError::Kind { name: entry.name, is: "a base model", remedy });
        }
        if own_base.is_some() && own_base != entry.base {
            let remedy = "combine adapters of one base";
            return Err(CombineError::Kind { name: entry.name, is: "another base's", remedy });
        }
        own_base = entry.base;
        if adapters.iter().all(|(blob, _)| *blob != entry.blob) {
            adapters.push((entry.blob, weight));
        }
    }
    let is_fit = adapters.len() == parts.len() && adapters.len() <= wire_limits::CALL_ADAPTERS_MAX;
    let (true, Some(base)) = (is_fit, own_base.filter(|_| !adapters.is_empty())) else {
        return Err(CombineError::Count { count: parts.len() });
    };
    let name = plain_name(name);
    if name.is_empty() {
        return Err(CombineError::Part { text: name });
    }
    if let Some(other) = library.entries().into_iter().find(|entry| entry.name == name) {
        return Err(LibraryError::NameTaken { name, other: other.blob }.into());
    }
    let combined = Combined { name, base, adapters, merge };
    save(&folder(library), &combined)?;
    Ok(combined)
}

/// All that are saved, by name. A note that cannot be read is told of and passed over.
#[must_use]
pub fn combinations(library: &Library) -> Vec<Combined> {
    let Ok(files) = std::fs::read_dir(folder(library)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.truncate(limits::MODELS_MAX);
    let read = |path: &PathBuf| match read_one(path) {
        Ok(combined) => combined,
        Err(reason) => {
            tracing::warn!("failed to read {}: {reason}", path.display());
            None
        }
    };
    paths.iter().filter_map(read).collect()
}

/// Forgets one; says whether there was one of that name.
///
/// # Errors
/// The system's.
pub fn forget_combination(library: &Library, name: &str) -> Result<bool, LibraryError> {
    if name.is_empty() || plain_name(name) != name {
        return Ok(false);
    }
    let path = folder(library).join(format!("{name}.json"));
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(LibraryError::Remove { path, source }),
    }
}

fn folder(library: &Library) -> PathBuf {
    library.folder().join("combinations")
}

fn weighted(part: &str) -> Result<(&str, u32), CombineError> {
    let wrong = || CombineError::Part { text: part.chars().take(200).collect() };
    let Some((name, weight)) = part.rsplit_once(':') else { return Ok((part, 1_000)) };
    let weight: f64 = weight.parse().map_err(|_| wrong())?;
    let most = f64::from(openledger_inference::limits::ADAPTER_WEIGHT_MAX);
    if !(0.0..=most).contains(&weight) || name.is_empty() {
        return Err(wrong());
    }
    // Within the range, so it fits.
    Ok((name, (weight * 1e3).round() as u32))
}

fn save(folder: &Path, combined: &Combined) -> Result<(), CombineError> {
    let made = std::fs::create_dir_all(folder);
    made.map_err(|source| {
        let path = folder.to_owned();
        DataDirError::Io { action: "create", path, source }
    })?;
    let note = Note {
        schema: SCHEMA,
        writer: env!("CARGO_PKG_VERSION").to_owned(),
        combined: combined.clone(),
    };
    let bytes = serde_json::to_vec_pretty(&note).map_err(LibraryError::from)?;
    Ok(write_private(&folder.join(format!("{}.json", combined.name)), &bytes)?)
}

fn read_one(path: &Path) -> Result<Option<Combined>, String> {
    let bytes = read_bounded(path, limits::MODEL_NOTE_BYTES_MAX).map_err(|e| e.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let note: Note = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if note.schema > SCHEMA {
        let (schema, writer) = (note.schema, note.writer);
        return Err(format!("it has schema {schema}, of version {writer}; update this program"));
    }
    note.combined.merge.check().map_err(|(part, why)| format!("{part}: {why}"))?;
    Ok(Some(note.combined))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::Entry;

    fn note(library: &Library, name: &str, id: u8, base: Option<u8>) {
        let blob = BlobId([id; 32]);
        let kind = if base.is_some() { EntryKind::Adapter } else { EntryKind::Base };
        let path = library.place(blob, kind);
        std::fs::write(&path, [id; 5]).unwrap();
        let base = base.map(|base| BlobId([base; 32]));
        let entry = Entry {
            name: name.to_owned(),
            blob,
            bytes: 5,
            kind,
            base,
            path,
            problem: None,
            source: None,
        };
        library.note(entry).unwrap();
    }

    #[test]
    fn combinations_are_saved_found_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path());
        note(&library, "smol", 1, None);
        note(&library, "poet", 2, Some(1));
        note(&library, "cook", 3, Some(1));
        note(&library, "alien", 4, Some(9));
        let parts = |parts: &[&str]| parts.iter().map(|&part| part.to_owned()).collect::<Vec<_>>();
        let sum = MergeWish::default;
        let both = parts(&["poet:0.6", "cook"]);
        let saved = combine(&library, "both", Some("smol"), &both, sum()).unwrap();
        assert_eq!(saved.base, BlobId([1; 32]));
        assert_eq!(saved.adapters, [(BlobId([2; 32]), 600), (BlobId([3; 32]), 1_000)]);
        assert_eq!(combinations(&library), [saved]);
        library.refresh();
        assert_eq!(library.entries().len(), 4, "notes of combinations are no models");
        for (name, named, part) in [
            ("x", parts(&["poet", "poet:2"]), "different"),
            ("x", parts(&[]), "1 to 8"),
            ("x", parts(&["poet:-1"]), "NAME:WEIGHT"),
            ("x", parts(&["smol"]), "a base model"),
            ("x", parts(&["poet", "alien"]), "one base"),
            ("x", parts(&["nobody"]), "nobody"),
            ("poet", parts(&["cook"]), "--name"),
        ] {
            let error = combine(&library, name, None, &named, sum()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let wrong = MergeWish { strategy: "slerp".to_owned(), ..sum() };
        assert!(combine(&library, "x", None, &both, wrong).is_err());
        assert!(forget_combination(&library, "both").unwrap());
        assert!(!forget_combination(&library, "../both").unwrap());
        assert!(combinations(&library).is_empty());
    }
}

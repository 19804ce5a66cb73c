//! Models as folders of Hugging Face's form: which files belong to one, and what identifies it.
//!
//! A folder's id is a hash of its files' names, lengths and hashes, so that the same files are the
//! same model wherever they lie. Peers cannot fetch it: blobs are single files.

use std::fs;
use std::io;
use std::path::Path;

use openledger_models::{MapError, Mapped};
use openledger_wire::BlobId;

/// Separates ids of folders from all other hashes.
const DOMAIN: &str = "openledger model folder v1\n";
/// How files end that a model is read from.
const ENDINGS: [&str; 3] = ["json", "jinja", "safetensors"];
/// What a folder of that form has, and none of an adapter.
const CONFIG: &str = "config.json";
/// PEFT's name for what an adapter's folder has.
const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Files of one model: 512 with weights, and a dozen beside them.
const FILES_MAX: usize = 600;

/// Whether a folder has the form of a model.
pub(super) fn is_model(folder: &Path) -> bool {
    folder.join(CONFIG).is_file() && !folder.join(ADAPTER_CONFIG).is_file()
}

/// The names of files that belong to a model, ascending.
pub(super) fn files(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ends = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|_| ENDINGS.contains(&ends) && path.is_file()) {
            names.push(name.to_owned());
        }
        if names.len() > FILES_MAX {
            let reason = format!("it has more than {FILES_MAX} files, which no model has");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
    }
    names.sort();
    Ok(names)
}

/// The length of a model's file, or of all files of its folder.
///
/// # Errors
/// The system's.
pub(crate) fn length(path: &Path) -> io::Result<u64> {
    let data = path.metadata()?;
    if !data.is_dir() {
        return Ok(data.len());
    }
    let mut all = 0u64;
    for name in files(path)? {
        all = all.saturating_add(path.join(name).metadata()?.len());
    }
    Ok(all)
}

/// What identifies a folder, and its length. Reads all of it.
pub(super) fn id(folder: &Path) -> Result<(BlobId, u64), MapError> {
    let listed = files(folder);
    let names = listed.map_err(|source| MapError::Open { path: folder.to_owned(), source })?;
    let (mut listed, mut bytes) = (DOMAIN.to_owned(), 0u64);
    for name in names {
        let file = Mapped::open(&folder.join(&name))?;
        let (hash, length) = (BlobId::of(&file), file.len() as u64);
        listed.push_str(&format!("{hash} {length} {name}\n"));
        bytes = bytes.saturating_add(length);
    }
    Ok((BlobId::of(listed.as_bytes()), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_the_same_model_and_others_do_not_count() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&one, &other] {
            fs::write(folder.path().join("config.json"), "{}").unwrap();
            fs::write(folder.path().join("model.safetensors"), "weights").unwrap();
        }
        fs::write(one.path().join("README.md"), "words").unwrap();
        assert!(is_model(one.path()));
        let (id_of_one, bytes) = id(one.path()).unwrap();
        assert_eq!((bytes, length(one.path()).unwrap()), (9, 9));
        assert_eq!(id(other.path()).unwrap().0, id_of_one);
        fs::write(other.path().join("model.safetensors"), "Weights").unwrap();
        assert_ne!(id(other.path()).unwrap().0, id_of_one);
        fs::write(other.path().join("adapter_config.json"), "{}").unwrap();
        assert!(!is_model(other.path()));
    }
}

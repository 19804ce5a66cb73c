//! The committed corpus: a folder per target, a file per input.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a corpus could not be read or written.
#[derive(Debug, Error)]
#[error("use the corpus file {path}: {source}")]
pub struct CorpusError {
    path: PathBuf,
    source: io::Error,
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, CorpusError> {
    result.map_err(|source| CorpusError { path: path.to_owned(), source })
}

/// The corpus of this crate's source tree.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of a target, by file name; none if it has no folder.
pub fn load(folder: &Path, target: &str) -> Result<Vec<Vec<u8>>, CorpusError> {
    let folder = folder.join(target);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in at(&folder, fs::read_dir(&folder))? {
        paths.push(at(&folder, entry)?.path());
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// One input: the bytes of a file, or what its hex says if it ends in `.hex`.
pub fn read(path: &Path) -> Result<Vec<u8>, CorpusError> {
    let bytes = at(path, fs::read(path))?;
    if path.extension().is_none_or(|extension| extension != "hex") {
        return Ok(bytes);
    }
    let text: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    at(path, hex::decode(text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)))
}

/// The name of an input: the start of its hash.
#[must_use]
pub fn name(input: &[u8]) -> String {
    blake3::hash(input).to_hex().chars().take(16).collect()
}

/// Writes an input under its name; the same input twice is one file.
pub fn store(folder: &Path, target: &str, input: &[u8]) -> Result<PathBuf, CorpusError> {
    let folder = folder.join(target);
    at(&folder, fs::create_dir_all(&folder))?;
    let path = folder.join(name(input));
    at(&path, fs::write(&path, input))?;
    Ok(path)
}

/// Writes an input as hex, for a report.
pub fn store_hex(folder: &Path, target: &str, input: &[u8]) -> Result<PathBuf, CorpusError> {
    at(folder, fs::create_dir_all(folder))?;
    let path = folder.join(format!("{target}-{}.hex", name(input)));
    at(&path, fs::write(&path, hex::encode(input) + "\n"))?;
    Ok(path)
}

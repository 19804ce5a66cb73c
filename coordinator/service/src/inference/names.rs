//! What operators call models and adapters, for pages. Ids are what counts: a lost or damaged file
//! costs names on pages and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openledger_wire::{BlobId, Text};
use serde::Serialize;
use thiserror::Error;

use crate::config::read_bounded;
use crate::limits;

type Name = Text<{ limits::MODEL_NAME_MAX }>;

/// Why names are not kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NamesError {
    /// The file cannot be written.
    #[error("keep names in {path}: {source}; check the folder's permissions and free space")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A model or adapter as pages and the API show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its file.
    pub id: BlobId,
    /// What somebody called it.
    pub name: Option<String>,
}

/// Names by id; clones share them.
#[derive(Debug, Clone)]
pub struct Names {
    path: Arc<Path>,
    names: Arc<Mutex<BTreeMap<BlobId, Name>>>,
}

impl Names {
    /// Names from a file, which need not exist. One that cannot be read is passed over.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let names = if path.exists() { read(path) } else { BTreeMap::new() };
        Self { path: path.into(), names: Arc::new(Mutex::new(names)) }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<BlobId, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id with its name, if it has one.
    #[must_use]
    pub fn of(&self, id: BlobId) -> Named {
        Named { id, name: self.names().get(&id).map(ToString::to_string) }
    }

    /// Takes names in, the newer in place of an older one, up to a bound, and keeps them on disk.
    /// Blocks while it writes.
    ///
    /// # Errors
    /// When the file cannot be written; the names hold until the next start then.
    pub fn learn(&self, new: BTreeMap<BlobId, Name>) -> Result<(), NamesError> {
        let mut names = self.names();
        let before = names.clone();
        for (id, name) in new {
            if names.len() < limits::MODEL_NAMES_KEPT || names.contains_key(&id) {
                names.insert(id, name);
            }
        }
        if *names == before {
            return Ok(());
        }
        // Written while held, so that two requests do not write over each other.
        write(&self.path, &names)
            .map_err(|source| NamesError::Write { path: self.path.to_path_buf(), source })
    }
}

fn read(path: &Path) -> BTreeMap<BlobId, Name> {
    let text = match read_bounded(path, limits::MODEL_NAMES_BYTES_MAX) {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!("failed to {error}; models are shown by their ids");
            return BTreeMap::new();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        let path = path.display();
        tracing::warn!("failed to read {path}: {error}; models are shown by their ids");
        BTreeMap::new()
    })
}

/// Replaces the file as a whole: a crash leaves the old one or the new one.
fn write(path: &Path, names: &BTreeMap<BlobId, Name>) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(serde_json::to_string_pretty(names)?.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pairs: &[(u8, &str)]) -> BTreeMap<BlobId, Name> {
        pairs.iter().map(|(n, name)| (BlobId([*n; 32]), Name::new(*name).unwrap())).collect()
    }

    #[test]
    fn names_are_there_after_a_restart_and_the_newest_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names.json");
        let names = Names::open(&path);
        assert_eq!(names.of(BlobId([1; 32])).name, None);
        names.learn(named(&[(1, "small"), (2, "pirate")])).unwrap();
        names.learn(named(&[(1, "smaller")])).unwrap();
        let names = Names::open(&path);
        assert_eq!(names.of(BlobId([1; 32])).name.as_deref(), Some("smaller"));
        assert_eq!(names.of(BlobId([2; 32])).name.as_deref(), Some("pirate"));
    }

    #[test]
    fn a_damaged_file_costs_names_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names.json");
        std::fs::write(&path, "{\"half").unwrap();
        let names = Names::open(&path);
        assert_eq!(names.of(BlobId([1; 32])).name, None);
        names.learn(named(&[(1, "small")])).unwrap();
        assert_eq!(Names::open(&path).of(BlobId([1; 32])).name.as_deref(), Some("small"));
        let nowhere = Names::open(&dir.path().join("missing").join("names.json"));
        assert!(nowhere.learn(named(&[(1, "x")])).unwrap_err().to_string().contains("missing"));
    }
}

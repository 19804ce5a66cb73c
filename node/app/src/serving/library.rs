//! The model files of this machine.
//!
//! Each has a note beside it in the folder `models`: `ID.json` tells of `ID.gguf`,
//! `ID.safetensors` or the folder `ID`, or of what lies elsewhere. Notes are written whole or not at all, so
//! that the node and `openledger model` may use the folder at the same time; the node looks for
//! changes. Whether a file is what its id says was checked when it was taken over; later only its
//! length is looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use openledger_wire::gossip::{Offer, OfferKind};
use openledger_wire::{BlobId, Text};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::folder::length;
use super::offers::is_id_of;
use crate::data_dir::{DataDirError, read_bounded, write_private};
use crate::limits;

/// Schema of the notes.
const SCHEMA: u32 = 1;

/// What a model file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A base model.
    Base,
    /// An adapter.
    Adapter,
}

impl EntryKind {
    /// How its files end.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Base => "gguf",
            Self::Adapter => "safetensors",
        }
    }
}

/// A model file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What people call it; no two entries have the same name.
    pub name: String,
    /// The file's id.
    pub blob: BlobId,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub kind: EntryKind,
    /// The base that an adapter was made for.
    pub base: Option<BlobId>,
    /// Where it lies.
    pub path: PathBuf,
    /// Where it came from, pinned, if from a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why it cannot be used, if it cannot.
    pub problem: Option<String>,
}

impl Entry {
    /// As peers are told of it.
    #[must_use]
    pub fn offer(&self) -> Offer {
        let kind = match (self.kind, self.base) {
            (EntryKind::Adapter, Some(base)) => OfferKind::Adapter { base },
            _ => OfferKind::Base,
        };
        Offer { name: Text::clipped(&self.name), blob: self.blob, bytes: self.bytes, kind }
    }

    fn examined(self) -> Self {
        let found = length(&self.path);
        let problem = match found {
            Ok(bytes) if bytes == self.bytes => None,
            Ok(bytes) => Some(format!(
                "{} has {bytes} bytes where {} are needed: it was cut short or changed; `openledger model remove {}`, then get it again",
                self.path.display(),
                self.bytes,
                self.name
            )),
            Err(error) => Some(format!(
                "{} cannot be read: {error}; put it back, or `openledger model remove {}`",
                self.path.display(),
                self.name
            )),
        };
        Self { problem, ..self }
    }
}

/// What lies beside a file.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    schema: u32,
    writer: String,
    name: String,
    blob: BlobId,
    bytes: u64,
    kind: EntryKind,
    base: Option<BlobId>,
    /// Where the file lies, if not beside the note.
    path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

/// Why the library could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// The folder or a note.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// A note does not encode.
    #[error("describe a model: {0}")]
    Encode(#[from] serde_json::Error),
    /// Nothing of that name.
    #[error("find model {name:?}: there is none; `openledger model list` shows all")]
    Unknown {
        /// The name.
        name: String,
    },
    /// Several of that name.
    #[error("find model {name:?}: it may be {ids}; name one by more of its id")]
    Ambiguous {
        /// The name.
        name: String,
        /// Their ids.
        ids: String,
    },
    /// Another entry has the name.
    #[error("name a model {name:?}: {other} has that name; give it another with --name")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        other: BlobId,
    },
    /// Too many.
    #[error("take a model over: there are {} already; remove some first", limits::MODELS_MAX)]
    Full,
    /// The file could not be removed.
    #[error("remove {}: {source}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// The model files of this machine.
#[derive(Debug)]
pub struct Library {
    folder: PathBuf,
    entries: Mutex<BTreeMap<BlobId, Entry>>,
}

impl Library {
    /// The library in this folder, which need not exist.
    #[must_use]
    pub fn open(folder: impl Into<PathBuf>) -> Self {
        let library = Self { folder: folder.into(), entries: Mutex::default() };
        library.refresh();
        library
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BlobId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the folder again; says whether anything changed.
    pub fn refresh(&self) -> bool {
        // Read under the lock: what is noted meanwhile must not be missing after it.
        let mut entries = self.lock();
        let found: BTreeMap<BlobId, Entry> =
            notes(&self.folder).into_iter().map(|entry| (entry.blob, entry.examined())).collect();
        let changed = *entries != found;
        *entries = found;
        changed
    }

    /// All entries, bases first, then by name.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        all
    }

    /// The entry of a file.
    #[must_use]
    pub fn get(&self, blob: &BlobId) -> Option<Entry> {
        self.lock().get(blob).cloned()
    }

    /// The entry of that name, or whose id begins like it.
    ///
    /// # Errors
    /// There is none, or several.
    pub fn find(&self, name: &str) -> Result<Entry, LibraryError> {
        let entries = self.lock();
        if let Some(entry) = entries.values().find(|entry| entry.name == name) {
            return Ok(entry.clone());
        }
        let mut found = entries.values().filter(|entry| is_id_of(entry.blob, name));
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry.clone()),
            (None, _) => Err(LibraryError::Unknown { name: name.to_owned() }),
            (Some(one), Some(other)) => Err(LibraryError::Ambiguous {
                name: name.to_owned(),
                ids: format!("{} or {}", one.blob, other.blob),
            }),
        }
    }

    /// The base that is meant where none is named: the configured one, else the only one.
    ///
    /// # Errors
    /// There is none, or several.
    pub fn default_base(&self, configured: &str) -> Result<Entry, LibraryError> {
        if !configured.is_empty() {
            return self.find(configured);
        }
        let bases: Vec<Entry> =
            self.entries().into_iter().filter(|entry| entry.kind == EntryKind::Base).collect();
        match bases.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(LibraryError::Unknown { name: "auto".to_owned() }),
            several => {
                let ids: Vec<String> = several.iter().map(|entry| entry.name.clone()).collect();
                let ids = format!("{} (set models.base)", ids.join(" or "));
                Err(LibraryError::Ambiguous { name: "auto".to_owned(), ids })
            }
        }
    }

    /// What can be used, bases first.
    #[must_use]
    pub fn offers(&self) -> Vec<Offer> {
        let fine = self.entries().into_iter().filter(|entry| entry.problem.is_none());
        fine.map(|entry| entry.offer()).collect()
    }

    /// Where a file of this id lies in the folder.
    #[must_use]
    pub fn place(&self, blob: BlobId, kind: EntryKind) -> PathBuf {
        self.folder.join(format!("{blob}.{}", kind.extension()))
    }

    /// A name that is free: this one, or one with a piece of the id.
    #[must_use]
    pub fn free_name(&self, name: &str, blob: BlobId) -> String {
        let name = plain_name(name);
        let is_taken =
            |name: &str| self.lock().values().any(|entry| entry.name == name && entry.blob != blob);
        if !name.is_empty() && !is_taken(&name) {
            return name;
        }
        let id = blob.to_string();
        let id = id.get(..limits::ID_PREFIX_LEN_MIN).unwrap_or_default();
        if name.is_empty() { format!("model-{id}") } else { plain_name(&format!("{id}-{name}")) }
    }

    /// Notes a file that was checked; it may lie anywhere.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn note(&self, entry: Entry) -> Result<Entry, LibraryError> {
        {
            let entries = self.lock();
            let same = |other: &&Entry| other.name == entry.name && other.blob != entry.blob;
            if let Some(other) = entries.values().find(same) {
                let (name, other) = (entry.name.clone(), other.blob);
                return Err(LibraryError::NameTaken { name, other });
            }
            if entries.len() >= limits::MODELS_MAX && !entries.contains_key(&entry.blob) {
                return Err(LibraryError::Full);
            }
        }
        let beside = entry.path == self.place(entry.blob, entry.kind);
        let note = Note {
            schema: SCHEMA,
            writer: env!("CARGO_PKG_VERSION").to_owned(),
            name: entry.name.clone(),
            blob: entry.blob,
            bytes: entry.bytes,
            kind: entry.kind,
            base: entry.base,
            path: (!beside).then(|| entry.path.clone()),
            source: entry.source.clone(),
        };
        write_private(&self.note_path(entry.blob), &serde_json::to_vec_pretty(&note)?)?;
        let entry = entry.examined();
        self.lock().insert(entry.blob, entry.clone());
        Ok(entry)
    }

    /// Forgets a file, and removes it if it lies in the folder.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn remove(&self, name: &str) -> Result<Entry, LibraryError> {
        let entry = self.find(name)?;
        remove(&self.note_path(entry.blob))?;
        if entry.path.starts_with(&self.folder) {
            if entry.path.is_dir() {
                let path = entry.path.clone();
                std::fs::remove_dir_all(&entry.path)
                    .map_err(|source| LibraryError::Remove { path, source })?;
            } else {
                remove(&entry.path)?;
            }
        }
        self.lock().remove(&entry.blob);
        Ok(entry)
    }

    fn note_path(&self, blob: BlobId) -> PathBuf {
        self.folder.join(format!("{blob}.json"))
    }
}

fn remove(path: &Path) -> Result<(), LibraryError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(LibraryError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// A name as it is announced and typed: letters, digits and some signs.
#[must_use]
pub fn plain_name(name: &str) -> String {
    let plain = |c: char| {
        let fits = c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '@');
        if fits { c } else { '-' }
    };
    let name: String = name.trim().chars().map(plain).take(limits::MODEL_NAME_LEN_MAX).collect();
    name.trim_matches('-').to_owned()
}

/// What the notes in a folder say. A note that cannot be read is told of and passed over.
fn notes(folder: &Path) -> Vec<Entry> {
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files
        .filter_map(Result::ok)
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths.truncate(limits::MODELS_MAX);
    let read = |path: &PathBuf| match entry_of(folder, path) {
        Ok(entry) => entry,
        Err(reason) => {
            tracing::warn!("failed to read {}: {reason}", path.display());
            None
        }
    };
    paths.iter().filter_map(read).collect()
}

fn entry_of(folder: &Path, path: &Path) -> Result<Option<Entry>, String> {
    let bytes = read_bounded(path, limits::MODEL_NOTE_BYTES_MAX).map_err(|e| e.to_string())?;
    // Removed in the meantime.
    let Some(bytes) = bytes else { return Ok(None) };
    let note: Note = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    if note.schema > SCHEMA {
        let (schema, writer) = (note.schema, note.writer);
        return Err(format!("it has schema {schema}, of version {writer}; update this program"));
    }
    let beside = folder.join(format!("{}.{}", note.blob, note.kind.extension()));
    Ok(Some(Entry {
        name: note.name,
        blob: note.blob,
        bytes: note.bytes,
        kind: note.kind,
        base: note.base,
        path: note.path.unwrap_or(beside),
        source: note.source,
        problem: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(library: &Library, name: &str, id: u8) -> Entry {
        let blob = BlobId([id; 32]);
        let path = library.place(blob, EntryKind::Base);
        std::fs::write(&path, [id; 5]).unwrap();
        let (name, kind) = (name.to_owned(), EntryKind::Base);
        Entry { name, blob, bytes: 5, kind, base: None, path, source: None, problem: None }
    }

    #[test]
    fn entries_are_found_by_name_and_id_in_another_process_too() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path());
        let other = Library::open(folder.path());
        library.note(entry(&library, "one", 1)).unwrap();
        assert!(other.refresh() && !other.refresh());
        assert_eq!(other.find("one").unwrap().blob, BlobId([1; 32]));
        assert_eq!(other.find("01010101").unwrap().name, "one");
        assert_eq!(other.default_base("").unwrap().name, "one");
        let error = other.find("two").unwrap_err().to_string();
        assert!(error.contains("\"two\"") && error.contains("model list"), "{error}");

        let taken = library.note(entry(&library, "one", 2)).unwrap_err().to_string();
        assert!(taken.contains("--name") && taken.contains("0101"), "{taken}");
        assert_eq!(library.free_name("one", BlobId([2; 32])), "02020202-one");
        assert_eq!(library.free_name("My model!", BlobId([2; 32])), "My-model");
        library.note(entry(&library, "two", 2)).unwrap();
        let several = library.default_base("").unwrap_err().to_string();
        assert!(several.contains("models.base"), "{several}");
        assert_eq!(library.default_base("two").unwrap().name, "two");
        assert_eq!(library.offers().len(), 2);

        library.remove("two").unwrap();
        assert!(!library.place(BlobId([2; 32]), EntryKind::Base).exists());
        other.refresh();
        assert_eq!(other.entries().len(), 1);
    }

    #[test]
    fn a_file_that_was_cut_short_is_named_and_not_offered() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path());
        let noted = library.note(entry(&library, "one", 1)).unwrap();
        assert!(noted.problem.is_none());
        std::fs::write(&noted.path, [1; 3]).unwrap();
        assert!(library.refresh());
        let problem = library.get(&noted.blob).unwrap().problem.unwrap();
        assert!(problem.contains("3 bytes where 5") && problem.contains("remove one"), "{problem}");
        assert!(library.offers().is_empty());
        std::fs::remove_file(&noted.path).unwrap();
        library.refresh();
        assert!(library.get(&noted.blob).unwrap().problem.unwrap().contains("cannot be read"));
    }

    #[test]
    fn notes_of_later_versions_and_garbage_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path());
        library.note(entry(&library, "one", 1)).unwrap();
        std::fs::write(folder.path().join("x.json"), "{").unwrap();
        let path = folder.path().join(format!("{}.json", BlobId([1; 32])));
        let later =
            std::fs::read_to_string(&path).unwrap().replace("\"schema\": 1", "\"schema\": 9");
        std::fs::write(&path, later).unwrap();
        assert!(library.refresh());
        assert!(library.entries().is_empty());
    }
}

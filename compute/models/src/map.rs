//! Files as bytes without reading them: a read-only memory map.
//!
//! A map is only as stable as its file. Models are opened from the blob store, whose files are
//! never written again once their hash was checked; whoever opens another file vouches for it.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file could not be mapped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MapError {
    /// The file could not be opened or mapped.
    #[error("open {path}: {source}; check that it exists and that this user may read it", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The path is a folder or a device.
    #[error("open {path}: it is no ordinary file; name the model file itself", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
}

/// Bytes of a file, or bytes in memory that stand for one.
#[derive(Debug)]
pub struct Mapped(Source);

#[derive(Debug)]
enum Source {
    Memory(Vec<u8>),
    File(memmap2::Mmap),
}

impl Mapped {
    /// Maps a file for reading. Nothing is read yet, so a file larger than the memory is fine.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn open(path: &Path) -> Result<Self, MapError> {
        let failed = |source| MapError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(MapError::NotAFile { path: path.to_owned() });
        }
        if metadata.len() == 0 {
            return Ok(Self(Source::Memory(Vec::new())));
        }
        map(&file).map(|map| Self(Source::File(map))).map_err(failed)
    }

    /// Takes bytes that are in memory already.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Source::Memory(bytes))
    }

    /// Lets go of the pages that were read so far: they count no more as this process's memory,
    /// and come from the file again when they are used. Nothing happens where the system knows no
    /// such thing.
    pub fn release(&self) {
        #[cfg(target_os = "linux")]
        if let Source::File(map) = &self.0 {
            // A refusal leaves everything as it was.
            let _ = forget_pages(map);
        }
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the one advice that is needed here is not among the safe ones")]
fn forget_pages(map: &memmap2::Mmap) -> std::io::Result<()> {
    // SAFETY: the map is of a file and read only, so no page of it was ever written: what is read
    // next is what was read before, from the same file (see `map` for who vouches for that).
    unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) }
}

#[expect(unsafe_code, reason = "a map is the only way to use a model that is larger than memory")]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is private to us and read only. A file that somebody truncates or rewrites
    // while it is mapped would break the promise that `[u8]` makes; the blob store never changes a
    // file after its hash was checked, and deletes by unlinking, which leaves maps intact.
    unsafe { memmap2::MmapOptions::new().map(file) }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Memory(bytes) => bytes,
            Source::File(map) => map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_mapped_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some");
        for bytes in [&b""[..], b"x", &[7; 10_000]] {
            std::fs::write(&path, bytes).unwrap();
            let map = Mapped::open(&path).unwrap();
            assert_eq!(&*map, bytes);
            map.release();
            assert_eq!(&*map, bytes, "read again");
        }
        assert_eq!(&*Mapped::from_bytes(vec![1, 2]), &[1, 2]);
    }

    #[test]
    fn what_is_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Mapped::open(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("check that it exists"), "{error}");
        let error = Mapped::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no ordinary file"), "{error}");
    }
}

//! Private files: read bounded, written whole or not at all, for the owner's eyes only.
//!
//! A file is replaced by writing a neighbour, syncing it, renaming it over the old one and syncing
//! the folder; whatever happens in between, the old or the new one is there, whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::FileError;

/// Whether the permissions of a file matter. systemd's credentials lie in a folder of their own
/// that only the service can enter, and their files may show an access list as group bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    Required,
    GivenByFolder,
}

/// Reads a file of at most `bytes_max` bytes. The buffer is wiped when dropped.
pub(crate) fn read(
    path: &Path,
    bytes_max: usize,
    privacy: Privacy,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |source| io_error("read", path, source);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if privacy == Privacy::Required {
        check_private(path, &metadata)?;
    }
    let too_long = |bytes| FileError::TooLong { path: path.to_owned(), bytes, bytes_max };
    if metadata.len() > bytes_max as u64 {
        return Err(too_long(metadata.len()));
    }
    // One byte more, to see a file that grew; allocated at once, so that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Refuses a file or folder that others than its owner may use.
pub(crate) fn check_private(path: &Path, metadata: &fs::Metadata) -> Result<(), FileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let remedy = if metadata.is_dir() { "700" } else { "600" };
            return Err(FileError::TooOpen { path: path.to_owned(), mode, remedy });
        }
    }
    #[cfg(not(unix))]
    let _ = (path, metadata);
    Ok(())
}

/// Writes a new file, and refuses to replace one.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if fs::exists(path).map_err(|source| io_error("write", path, source))? {
        return Err(FileError::Exists { path: path.to_owned() });
    }
    replace(path, bytes)
}

/// Replaces a file, or writes it anew, durably.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let draft = stage(path, bytes)?;
    publish(&draft, path)
}

/// Writes and syncs the neighbour that is to become the file.
pub(crate) fn stage(path: &Path, bytes: &[u8]) -> Result<PathBuf, FileError> {
    let draft = beside(path, ".new");
    let failed = |source| io_error("write", &draft, source);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = private_options().write(true).create_new(true).open(&draft).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(draft)
}

fn publish(draft: &Path, path: &Path) -> Result<(), FileError> {
    fs::rename(draft, path).map_err(|source| io_error("write", path, source))?;
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| io_error("write", folder, source))?;
    }
    Ok(())
}

/// Options under which a file that is created belongs to its owner alone.
pub(crate) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

/// `path` with `suffix` after its file name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> FileError {
    let path = path.to_owned();
    // What is to be written and not found is a missing folder, which the system's words tell.
    match source.kind() {
        io::ErrorKind::NotFound if action == "read" => FileError::Missing { path },
        _ => FileError::Io { action, path, source },
    }
}

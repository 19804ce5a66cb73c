//! Locks: one process per vault, and one live copy of an identity on a machine.
//!
//! Locks belong to open files, so the system releases them however a process ends, and a lock
//! file that is left behind means nothing. They say nothing about other machines; what two copies
//! of one identity on two machines sign is for the coordinator to notice.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::FileError;
use crate::files::{check_private, io_error, private_options};

/// Held while an identity is live on this machine; released when dropped.
#[derive(Debug)]
pub struct IdentityLock {
    _lock: FileLock,
}

impl IdentityLock {
    /// Takes the lock of an identity (its public key or account) in the machine's lock folder.
    ///
    /// # Errors
    /// [`FileError::InUse`] while another process holds it, and the file system's errors.
    pub fn acquire(identity: &[u8]) -> Result<Self, FileError> {
        Self::acquire_in(&Self::machine_folder(), identity)
    }

    /// The same in a folder of the caller's choice, which is created for the owner alone.
    ///
    /// # Errors
    /// As [`IdentityLock::acquire`].
    pub fn acquire_in(folder: &Path, identity: &[u8]) -> Result<Self, FileError> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.recursive(true).create(folder).map_err(|e| io_error("create", folder, e))?;
        let metadata =
            fs::symlink_metadata(folder).map_err(|source| io_error("read", folder, source))?;
        check_private(folder, &metadata)?;
        let name = format!("identity-{}.lock", blake3::hash(identity).to_hex());
        Ok(Self { _lock: FileLock::acquire(&folder.join(name))? })
    }

    /// Where locks of identities lie: in the user's runtime folder, or else among the temporary
    /// files; both are emptied when the machine starts.
    #[must_use]
    pub fn machine_folder() -> PathBuf {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
        runtime.map_or_else(std::env::temp_dir, PathBuf::from).join("openledger-identities")
    }
}

/// An exclusive lock on a file made for it.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    pub(crate) fn acquire(path: &Path) -> Result<Self, FileError> {
        let failed = |source| io_error("lock", path, source);
        let mut options = private_options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                return Err(FileError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The number is only for the message above; the lock does not depend on it.
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        write!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let number = file.take(20).read_to_string(&mut text).ok().and_then(|_| text.parse().ok());
    number.map_or_else(|| "another process".to_owned(), |id: u32| format!("process {id}"))
}

//! Where everything of a node lies.
//!
//! `config.toml`, `identity/`, `networks/NAME/` (profile, delegation, binding, outbox, account and
//! remembered peers of one network, which nothing of another ever reads), `removed/` (networks that
//! were left), `blobs/`, `models/`, `logs/`,
//! `control.json`. All of it is the owner's alone.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The data folder could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Nobody said where, and there is no home.
    #[error(
        "find the data folder: neither --data-dir nor OPENLEDGER_DATA nor HOME is set; set one"
    )]
    Nowhere,
    /// The system refused.
    #[error("{action} {}: {source}; check the folder's owner and free space", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// A node's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The folder that was named, or the default one.
    ///
    /// # Errors
    /// [`DataDirError::Nowhere`].
    pub fn find(named: Option<&Path>) -> Result<Self, DataDirError> {
        if let Some(path) = named {
            return Ok(Self(path.to_owned()));
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(data) = set("XDG_DATA_HOME") {
            return Ok(Self(PathBuf::from(data).join("openledger")));
        }
        let home = set("HOME").ok_or(DataDirError::Nowhere)?;
        Ok(Self(PathBuf::from(home).join(".local/share/openledger")))
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.join("config.toml")
    }

    /// Where the control API is.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.join("control.json")
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.join("logs/node.log")
    }

    /// The folder of a network.
    #[must_use]
    pub fn network(&self, name: &str) -> PathBuf {
        self.join("networks").join(name)
    }

    /// Makes the folder and one in it, for the owner alone.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn make(&self, name: impl AsRef<Path>) -> Result<PathBuf, DataDirError> {
        let path = self.join(name);
        let failed = |source| DataDirError::Io { action: "create", path: path.clone(), source };
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.recursive(true).create(&path).map_err(failed)?;
        Ok(path)
    }
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// [`DataDirError::Io`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::Io { action: "write", path: path.to_owned(), source };
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(&draft).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
}

/// Reads a file of at most `bytes_max` bytes; `None` if there is none.
///
/// # Errors
/// [`DataDirError::Io`], also for a longer file.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, DataDirError> {
    use io::Read;
    let failed = |source| DataDirError::Io { action: "read", path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        let reason = format!("it has more than {bytes_max} bytes, which no such file has");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    Ok(Some(bytes))
}

//! What can go wrong, one enum per operation, and how redb's errors become ours.
//!
//! Does not decide anything: whether to stop, to retry or to restore is the caller's choice.

use std::io;
use std::sync::Arc;

use thiserror::Error;

/// An error of reading or writing an open store.
///
/// Cloneable, because one failed sync fails every caller of its group. Fits after "failed to
/// write the receipts: ".
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space left. Nothing was acknowledged, but what was being written may be found whole
    /// after reopening.
    #[error(
        "the disk that holds {store} is full: free some space and start again; \
             nothing acknowledged is lost"
    )]
    DiskFull {
        /// The store's path or label.
        store: Arc<str>,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file contradicts itself.
    #[error(
        "{store} is damaged ({detail}): stop, keep a copy of the file, and restore the latest \
             backup"
    )]
    Corrupted {
        /// The store's path or label.
        store: Arc<str>,
        /// What does not fit.
        detail: Arc<str>,
    },
    /// A key or value that does not decode as the table's type.
    #[error(
        "table {table} of {store} holds a {part} that is no {expected}: it was written by \
             another program or is damaged; restore the latest backup"
    )]
    Undecodable {
        /// The store's path or label.
        store: Arc<str>,
        /// The table.
        table: &'static str,
        /// "key" or "value".
        part: &'static str,
        /// The Rust type expected.
        expected: &'static str,
    },
    /// A key or value above [`crate::limits`].
    #[error(
        "a {part} of {bytes} bytes is too long for table {table}: at most {bytes_max}; keep \
             large content in the blob store"
    )]
    TooLong {
        /// The table.
        table: &'static str,
        /// "key" or "value".
        part: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// An earlier write failed, so the store takes no more until it is reopened.
    #[error(
        "{store} stopped after an earlier failed write: mend what that error names and start \
             again; nothing acknowledged is lost"
    )]
    Halted {
        /// The store's path or label.
        store: Arc<str>,
    },
    /// Reading or writing failed otherwise.
    #[error("{store} cannot be read or written: check the disk, then start again")]
    Io {
        /// The store's path or label.
        store: Arc<str>,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A mistake in the program that uses the store, such as opening one table twice at once.
    #[error("{store} was used wrongly: {detail}")]
    Misuse {
        /// The store's path or label.
        store: Arc<str>,
        /// What redb refused.
        detail: Arc<str>,
    },
}

/// An error of opening a store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or another handle of this one) has the file open.
    #[error("{store} is in use by another process: stop it, or point this one at another folder")]
    AlreadyOpen {
        /// The path.
        store: Arc<str>,
    },
    /// The file is not one of ours, or is damaged beyond reading.
    #[error(
        "{store} cannot be opened as a store ({detail}): keep a copy of the file, and restore \
             the latest backup or move the file away"
    )]
    Corrupted {
        /// The path or label.
        store: Arc<str>,
        /// What does not fit.
        detail: String,
    },
    /// The file holds another kind of data.
    #[error("{store} holds {found:?}, not {expected:?}: check the configured path")]
    OtherSchema {
        /// The path or label.
        store: Arc<str>,
        /// The schema named by the file.
        found: String,
        /// The schema of the caller.
        expected: &'static str,
    },
    /// A newer program wrote the file.
    #[error(
        "{store} was written by {writer} with schema {schema} number {found}, and this \
             program reads up to number {supported}: update this program, or restore a backup \
             that the older one wrote"
    )]
    Newer {
        /// The path or label.
        store: Arc<str>,
        /// The schema.
        schema: &'static str,
        /// The number in the file.
        found: u32,
        /// The highest number known here.
        supported: u32,
        /// The version that wrote it.
        writer: String,
    },
    /// No migration leads from the file's number to ours.
    #[error(
        "{store} has schema {schema} number {found}, which this program no longer migrates to \
             number {supported}: run an older release once, then this one"
    )]
    TooOld {
        /// The path or label.
        store: Arc<str>,
        /// The schema.
        schema: &'static str,
        /// The number in the file.
        found: u32,
        /// The number wanted.
        supported: u32,
    },
    /// The copy that a migration keeps could not be made, so nothing was changed.
    #[error("cannot keep a copy of {store} before its migration; the file is unchanged")]
    Copy {
        /// The path.
        store: Arc<str>,
        /// Why.
        #[source]
        source: BackupError,
    },
    /// Reading or writing failed.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
}

/// An error of copying a store before its migration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The copy could not be written.
    #[error("cannot write the copy {path}: check the folder's permissions and free space")]
    Target {
        /// The target.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The copy could not be made into a store.
    #[error("cannot write the copy")]
    Write(#[source] StoreError),
    /// The original could not be read.
    #[error("cannot read the original")]
    Read(#[source] StoreError),
}

/// Turns any of redb's errors into ours.
pub(crate) fn from_redb(store: &Arc<str>, error: impl Into<redb::Error>) -> StoreError {
    let store = Arc::clone(store);
    match error.into() {
        redb::Error::Io(source) => from_io(store, source),
        redb::Error::Corrupted(detail) => StoreError::Corrupted { store, detail: detail.into() },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => StoreError::Halted { store },
        redb::Error::TransactionPoisoned | redb::Error::LockPoisoned(_) => {
            StoreError::Halted { store }
        }
        error @ (redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)) => {
            StoreError::Corrupted { store, detail: error.to_string().into() }
        }
        other => StoreError::Misuse { store, detail: other.to_string().into() },
    }
}

/// Names a full disk, which has a remedy of its own.
pub(crate) fn from_io(store: Arc<str>, source: io::Error) -> StoreError {
    let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let source = Arc::new(source);
    if full { StoreError::DiskFull { store, source } } else { StoreError::Io { store, source } }
}

/// Turns redb's errors of opening into ours.
pub(crate) fn opening(store: &Arc<str>, error: redb::DatabaseError) -> OpenError {
    let corrupted = |detail: String| OpenError::Corrupted { store: Arc::clone(store), detail };
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
            OpenError::AlreadyOpen { store: Arc::clone(store) }
        }
        redb::DatabaseError::UpgradeRequired(number) => {
            corrupted(format!("file format {number} of redb is not read by this version"))
        }
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(detail)) => corrupted(detail),
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            corrupted(source.to_string())
        }
        other => OpenError::Store(from_redb(store, other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_its_remedy() {
        let error = from_io("receipts.redb".into(), io::ErrorKind::StorageFull.into());
        assert!(matches!(error, StoreError::DiskFull { .. }));
        let text = error.to_string();
        assert!(text.contains("receipts.redb") && text.contains("free some space"), "{text}");
    }

    #[test]
    fn other_io_errors_keep_their_source() {
        let error = from_io("a".into(), io::ErrorKind::PermissionDenied.into());
        assert!(std::error::Error::source(&error).is_some());
    }
}

//! The copy of a store that is kept before a migration.
//!
//! The copy is a store of its own, written row by row from a snapshot, so it is also compact. It
//! appears under its name only when it is whole and synced.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use crate::error::{BackupError, StoreError, from_io, from_redb};
use crate::limits;

/// Copies all tables of `db` to a new file at `path`, replacing one that is there.
pub(crate) fn copy_database(
    db: &redb::Database,
    label: &Arc<str>,
    path: &Path,
) -> Result<(), BackupError> {
    let draft = beside(path, &format!(".part-{}", std::process::id()));
    if let Err(source) = fs::remove_file(&draft)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(target(path, source));
    }
    let copied = copy_rows(db, label, &draft).and_then(|()| {
        fs::rename(&draft, path).and_then(|()| sync_folder(path)).map_err(|e| target(path, e))
    });
    if copied.is_err() {
        // Best effort: a leftover draft is overwritten by the next copy.
        let _ = fs::remove_file(&draft);
    }
    copied
}

fn copy_rows(db: &redb::Database, label: &Arc<str>, draft: &Path) -> Result<(), BackupError> {
    let read = |error: redb::Error| BackupError::Read(from_redb(label, error));
    let name: Arc<str> = draft.display().to_string().into();
    let write = |error: redb::Error| BackupError::Write(from_redb(&name, error));
    let source = db.begin_read().map_err(|error| read(error.into()))?;
    let copy = redb::Builder::new()
        .set_cache_size(limits::CACHE_BYTES)
        .create(draft)
        .map_err(|error| write(error.into()))?;
    let txn = copy.begin_write().map_err(|error| write(error.into()))?;
    for handle in source.list_tables().map_err(|error| read(error.into()))? {
        let definition = TableDefinition::<&[u8], &[u8]>::new(handle.name());
        let rows = source.open_table(definition).map_err(|error| read(error.into()))?;
        let mut copies = txn.open_table(definition).map_err(|error| write(error.into()))?;
        for row in rows.iter().map_err(|error| read(error.into()))? {
            let (key, value) = row.map_err(|error| read(error.into()))?;
            copies.insert(key.value(), value.value()).map_err(|error| write(error.into()))?;
        }
    }
    txn.commit().map_err(|error| write(error.into()))?;
    copy.close().map_err(|error| write(error.into()))
}

/// Gives the finished file `draft` the name `path`, and refuses to replace another.
///
/// A hard link is the one step that both names and refuses; a file system without them gets a
/// rename, where two processes that create one store in the same instant could race.
pub(crate) fn publish_new(draft: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(draft, path) {
        Ok(()) => fs::remove_file(draft)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(draft)?;
            return Err(error);
        }
        Err(_) => fs::rename(draft, path)?,
    }
    sync_folder(path)
}

/// Makes a new name in the folder of `path` survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// `path` with `suffix` after its file name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn target(path: &Path, source: io::Error) -> BackupError {
    let name = path.display().to_string();
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let full: StoreError = from_io(name.into(), source);
        return BackupError::Write(full);
    }
    BackupError::Target { path: name, source }
}

//! Opening a store: on a file, in memory, or on a back-end of the caller.
//!
//! A new file is made complete under another name first, so that a power cut while it is created
//! leaves no half store behind. A migration copies the file first.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::{Adapter, Backend, is_unfinished};
use crate::backup::{self, publish_new};
use crate::error::{OpenError, StoreError, from_io, opening};
use crate::limits;
use crate::options::{StoreOptions, Verify};
use crate::schema::{SchemaInfo, corrupted};
use crate::store::{Inner, Store, WriteTxn};

impl Store {
    /// Opens the store in the file `path`, making it when there is none, and migrating it when it
    /// is older. A copy of the older file stays beside it as `NAME.schema-N`, readable by the
    /// program that wrote it.
    ///
    /// # Errors
    /// See [`OpenError`]; a file that is not opened is not changed either, save for redb's own
    /// repair after a crash.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let label: Arc<str> = path.display().to_string().into();
        let exists = fs::exists(path).map_err(|error| from_io(Arc::clone(&label), error))?;
        if !exists {
            create(path, &label, &options)?;
        }
        let len_bytes = fs::metadata(path).map_or(0, |file| file.len());
        let builder = builder(&options, len_bytes);
        let db = guarded(&label, || builder.open(path))?;
        Self::prepare(db, label, Some(path.to_owned()), options)
    }

    /// A store in memory, for tests and for what need not survive.
    ///
    /// # Errors
    /// A migration's, in principle.
    pub fn in_memory(options: StoreOptions) -> Result<Self, OpenError> {
        let label: Arc<str> = "the store in memory".into();
        let backend = redb::backends::InMemoryBackend::new();
        let builder = builder(&options, 0);
        let db = guarded(&label, || builder.create_with_backend(backend))?;
        Self::prepare(db, label, None, options)
    }

    /// A store on a back-end of the caller, empty or holding a store already. Migrations keep no
    /// copy here: who owns the back-end can copy it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with_backend(
        backend: Box<dyn Backend>,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let label: Arc<str> = "the store on a back-end".into();
        let failed = |error| OpenError::Store(from_io(Arc::clone(&label), error));
        if is_unfinished(&*backend).map_err(failed)? {
            backend.set_len(0).map_err(failed)?;
        }
        let builder = builder(&options, backend.len_bytes().map_err(failed)?);
        let db = guarded(&label, || builder.create_with_backend(Adapter(backend)))?;
        Self::prepare(db, label, None, options)
    }

    /// Checks what the file says of itself, and migrates.
    fn prepare(
        db: redb::Database,
        label: Arc<str>,
        path: Option<PathBuf>,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let ours = SchemaInfo::of(&options);
        let found = SchemaInfo::read(&db, &label)?;
        let info = match found {
            None => {
                write_once(&db, &label, &options, |txn| ours.write(txn))?;
                ours
            }
            Some(found) if found.check(&options, &label)? => {
                if let Some(path) = &path {
                    keep_copy(&db, &label, path, found.number)?;
                }
                write_once(&db, &label, &options, |txn| found.migrate(&options, txn))?
            }
            Some(found) if found.writer != ours.writer => {
                write_once(&db, &label, &options, |txn| ours.write(txn))?;
                ours
            }
            Some(found) => found,
        };
        Ok(Self(Arc::new(Inner { db, label, path, options, info })))
    }
}

/// Makes a complete, empty store at `path`, unless somebody else just did.
fn create(path: &Path, label: &Arc<str>, options: &StoreOptions) -> Result<(), OpenError> {
    let failed = |error| OpenError::Store(from_io(Arc::clone(label), error));
    let draft = backup::beside(path, &format!(".new-{}", std::process::id()));
    remove_if_there(&draft).map_err(failed)?;
    let builder = builder(options, 0);
    let db = guarded(label, || builder.create(&draft))?;
    write_once(&db, label, options, |txn| SchemaInfo::of(options).write(txn))?;
    db.close().map_err(|error| opening(label, error))?;
    match publish_new(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(failed),
    }
}

/// Keeps a copy that the program which wrote number `number` can read.
fn keep_copy(
    db: &redb::Database,
    label: &Arc<str>,
    path: &Path,
    number: u32,
) -> Result<(), OpenError> {
    let copy = backup::beside(path, &format!(".schema-{number}"));
    let failed = |source| OpenError::Copy { store: Arc::clone(label), source };
    backup::copy_database(db, label, &copy).map_err(failed)?;
    tracing::info!(store = &**label, copy = %copy.display(), "kept a copy before migrating");
    Ok(())
}

fn write_once<T>(
    db: &redb::Database,
    label: &Arc<str>,
    options: &StoreOptions,
    work: impl FnOnce(&mut WriteTxn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut txn = WriteTxn::begin(db, label, options)?;
    let value = work(&mut txn)?;
    txn.commit()?;
    Ok(value)
}

fn builder(options: &StoreOptions, len_bytes: u64) -> redb::Builder {
    let mut builder = redb::Builder::new();
    let small = len_bytes <= limits::VERIFY_FILE_BYTES_MAX;
    let verify = match options.verify {
        Verify::Always => true,
        Verify::Auto => small,
        Verify::AfterCrash => false,
    };
    builder
        .set_cache_size(options.cache_bytes)
        .set_check_integrity_on_open(verify && len_bytes > 0);
    builder
}

/// Opens, and takes a panic of the reader for what redb documents it to be: a file altered since
/// it was written.
fn guarded(
    label: &Arc<str>,
    open: impl FnOnce() -> Result<redb::Database, redb::DatabaseError>,
) -> Result<redb::Database, OpenError> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(result) => result.map_err(|error| opening(label, error)),
        Err(_) => Err(corrupted(label, "its pages contradict each other".to_owned())),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

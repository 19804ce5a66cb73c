//! A store: one file of tables, read by snapshot and written durably.
//!
//! One writer at a time; readers see the last commit and never wait for a writer. There is no
//! write without a sync: who wants many writes to one sync uses [`crate::GroupCommit`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::ReadableDatabase;

use crate::error::{StoreError, from_redb};
use crate::keys::{Key, Value};
use crate::options::StoreOptions;
use crate::schema::SchemaInfo;
use crate::table::{Table, TableMut, TableRef};

/// An open store. Clones share it; the file is closed with the last one.
#[derive(Debug, Clone)]
pub struct Store(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) db: redb::Database,
    pub(crate) label: Arc<str>,
    pub(crate) path: Option<PathBuf>,
    pub(crate) options: StoreOptions,
    pub(crate) info: SchemaInfo,
}

impl Store {
    /// Runs `work` on the last committed state.
    ///
    /// # Errors
    /// What `work` returns, or the store's errors.
    pub fn read<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&ReadTxn) -> Result<T, E>,
    ) -> Result<T, E> {
        work(&self.begin_read()?)
    }

    /// Runs `work` and commits what it wrote. When this returns `Ok`, it has been synced. On an
    /// error of `work` nothing is written; on an error of the commit, what was written will be
    /// found whole or not at all after reopening, and must be treated as not acknowledged.
    ///
    /// # Errors
    /// What `work` returns, or the store's errors.
    pub fn write<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut WriteTxn) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut txn = self.begin_write()?;
        match work(&mut txn) {
            Ok(value) => {
                txn.commit()?;
                Ok(value)
            }
            Err(error) => {
                txn.abort();
                Err(error)
            }
        }
    }

    /// What the file says of itself.
    #[must_use]
    pub fn info(&self) -> &SchemaInfo {
        &self.0.info
    }

    /// The file, unless the store is in memory or on a back-end of its own.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTxn, StoreError> {
        let label = Arc::clone(&self.0.label);
        let txn = self.0.db.begin_read().map_err(|error| from_redb(&label, error))?;
        Ok(ReadTxn { txn, label })
    }

    pub(crate) fn begin_write(&self) -> Result<WriteTxn, StoreError> {
        WriteTxn::begin(&self.0.db, &self.0.label, &self.0.options)
    }
}

/// A snapshot of a store.
pub struct ReadTxn {
    pub(crate) txn: redb::ReadTransaction,
    pub(crate) label: Arc<str>,
}

impl ReadTxn {
    /// A table of the snapshot.
    ///
    /// # Errors
    /// A damaged store.
    pub fn table<K: Key, V: Value>(
        &self,
        table: Table<K, V>,
    ) -> Result<TableRef<K, V>, StoreError> {
        TableRef::open(&self.txn, &self.label, table)
    }

    /// The value of one key of a table.
    ///
    /// # Errors
    /// A damaged store, or a value of another type.
    pub fn get<K: Key, V: Value>(
        &self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StoreError> {
        self.table(table)?.get(key)
    }
}

/// A write transaction: sees its own writes; nobody else does before the commit.
pub struct WriteTxn {
    txn: redb::WriteTransaction,
    label: Arc<str>,
}

impl WriteTxn {
    pub(crate) fn begin(
        db: &redb::Database,
        label: &Arc<str>,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        // redb's default durability is immediate: its commit returns after the sync.
        let mut txn = db.begin_write().map_err(|error| from_redb(label, error))?;
        txn.set_two_phase_commit(options.two_phase);
        txn.set_quick_repair(options.quick_repair);
        Ok(Self { txn, label: Arc::clone(label) })
    }

    /// A table, for reading and writing.
    ///
    /// # Errors
    /// A damaged store; a table of which another handle is alive.
    pub fn table<K: Key, V: Value>(
        &mut self,
        table: Table<K, V>,
    ) -> Result<TableMut<'_, K, V>, StoreError> {
        TableMut::open(&self.txn, &self.label, table)
    }

    /// The value of one key of a table.
    ///
    /// # Errors
    /// A damaged store, or a value of another type.
    pub fn get<K: Key, V: Value>(
        &mut self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StoreError> {
        self.table(table)?.get(key)
    }

    /// Sets one value of a table; tells whether there was one before.
    ///
    /// # Errors
    /// A key or value above the limits, or the store's errors.
    pub fn insert<K: Key, V: Value>(
        &mut self,
        table: Table<K, V>,
        key: &K,
        value: &V,
    ) -> Result<bool, StoreError> {
        self.table(table)?.insert(key, value)
    }

    /// Removes one row of a table; tells whether it was there.
    ///
    /// # Errors
    /// The store's errors.
    pub fn remove<K: Key, V: Value>(
        &mut self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<bool, StoreError> {
        self.table(table)?.remove(key)
    }

    /// Removes a whole table; tells whether it was there.
    ///
    /// # Errors
    /// The store's errors.
    pub fn clear<K: Key, V: Value>(&mut self, table: Table<K, V>) -> Result<bool, StoreError> {
        self.txn.delete_table(table.definition()).map_err(|error| from_redb(&self.label, error))
    }

    pub(crate) fn commit(self) -> Result<(), StoreError> {
        self.txn.commit().map_err(|error| from_redb(&self.label, error))
    }

    pub(crate) fn abort(self) {
        let Self { txn, label } = self;
        if let Err(error) = txn.abort() {
            // The state is as if the abort had worked: nothing was committed.
            tracing::warn!(store = &*label, %error, "could not roll a transaction back cleanly");
        }
    }
}

//! A register: the first value recorded for a key stays, durably, until its epoch is pruned.
//!
//! The store behind a double-sign guard: before a thing is signed, its hash is recorded here; who
//! finds another hash recorded does not sign. After pruning, older epochs are refused as a whole
//! (as a slashing-protection record refuses what lies below its watermark, EIP-3076), because
//! what was signed in them is no longer known.

use std::ops::ControlFlow;

use crate::error::StoreError;
use crate::keys::Value;
use crate::limits;
use crate::store::{ReadTxn, Store, WriteTxn};
use crate::table::Table;

const FLOORS: Table<String, u64> = Table::internal("_register_floors");

/// A table of first values, with an index of their epochs.
#[derive(Debug, Clone, Copy)]
pub struct Register {
    rows: Table<Vec<u8>, Record>,
    by_epoch: Table<(u64, Vec<u8>), ()>,
}

/// An epoch, and the value recorded in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    epoch: u64,
    value: Vec<u8>,
}

impl Value for Record {
    fn to_value(&self) -> Vec<u8> {
        let mut bytes = self.epoch.to_be_bytes().to_vec();
        bytes.extend(&self.value);
        bytes
    }

    fn from_value(bytes: &[u8]) -> Option<Self> {
        let (epoch, value) = bytes.split_first_chunk()?;
        Some(Self { epoch: u64::from_be_bytes(*epoch), value: value.to_vec() })
    }
}

impl Register {
    /// The register kept in two tables: its rows, and their index by epoch.
    ///
    /// # Panics
    /// As [`Table::new`]; at compile time, for a constant.
    #[must_use]
    pub const fn new(rows: &'static str, by_epoch: &'static str) -> Self {
        Self { rows: Table::new(rows), by_epoch: Table::new(by_epoch) }
    }

    /// Records `value` as the first of `key`, synced before this returns, and gives `None`; or
    /// gives the value that was recorded earlier, whatever its epoch.
    ///
    /// # Errors
    /// [`StoreError::Pruned`] for an epoch below the floor, or the store's errors. On an error the
    /// value must be treated as not recorded.
    pub fn first(
        &self,
        store: &Store,
        key: &[u8],
        epoch: u64,
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        // What is there already needs no sync: it had its own.
        let earlier = store.read(|txn| txn.get(self.rows, &key.to_vec()))?;
        if let Some(record) = earlier {
            return Ok(Some(record.value));
        }
        store.write(|txn| self.first_in(txn, key, epoch, value))
    }

    /// The same within a transaction, for a group commit: nothing is recorded before its sync.
    ///
    /// # Errors
    /// As [`Register::first`].
    pub fn first_in(
        &self,
        txn: &mut WriteTxn,
        key: &[u8],
        epoch: u64,
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key.to_vec();
        if let Some(record) = txn.get(self.rows, &key)? {
            return Ok(Some(record.value));
        }
        let floor = txn.get(FLOORS, &self.rows.name().to_owned())?.unwrap_or(0);
        if epoch < floor {
            return Err(StoreError::Pruned { table: self.rows.name(), epoch, floor });
        }
        txn.insert(self.rows, &key, &Record { epoch, value: value.to_vec() })?;
        txn.insert(self.by_epoch, &(epoch, key), &())?;
        Ok(None)
    }

    /// The number of keys recorded.
    ///
    /// # Errors
    /// The store's errors.
    pub fn len(&self, txn: &ReadTxn) -> Result<u64, StoreError> {
        txn.table(self.rows)?.len()
    }

    /// Whether nothing is recorded.
    ///
    /// # Errors
    /// The store's errors.
    pub fn is_empty(&self, txn: &ReadTxn) -> Result<bool, StoreError> {
        Ok(self.len(txn)? == 0)
    }

    /// Forgets what was recorded in epochs below `floor`, refuses those epochs from now on, and
    /// tells how many keys went. A floor never sinks.
    ///
    /// # Errors
    /// The store's errors; the floor may be set already then, and a repetition finishes the work.
    pub fn prune_below(&self, store: &Store, floor: u64) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let count = store.write(|txn| self.prune_some(txn, floor))?;
            removed += count as u64;
            if count < limits::PRUNE_ROWS {
                return Ok(removed);
            }
        }
    }

    fn prune_some(&self, txn: &mut WriteTxn, floor: u64) -> Result<usize, StoreError> {
        let name = self.rows.name().to_owned();
        let before = txn.get(FLOORS, &name)?.unwrap_or(0);
        txn.insert(FLOORS, &name, &floor.max(before))?;
        let mut old = Vec::new();
        txn.table(self.by_epoch)?.scan(..(floor, Vec::new()), |key, ()| {
            old.push(key);
            if old.len() < limits::PRUNE_ROWS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        for entry in &old {
            txn.remove(self.by_epoch, entry)?;
            txn.remove(self.rows, &entry.1)?;
        }
        Ok(old.len())
    }
}

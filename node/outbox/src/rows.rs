//! The outbox's tables and how rows become bytes.

use openledger_tables::{Key as TableKey, Table, Value};
use openledger_wire::link::LeasedTask;
use openledger_wire::{TaskId, decode, encode};

use crate::event::Key;
use crate::history::Totals;
use crate::limits;
use crate::record::Work;

/// `task || wave`.
pub(crate) type Row = ([u8; 32], u8);

/// Every record, by lease.
pub(crate) const WORK: Table<Row, Work> = Table::new("work");
/// What was leased, by lease: needed to do the work again after a restart.
pub(crate) const LEASES: Table<Row, Leased> = Table::new("leases");
/// Signed proofs, by lease. Apart from the records, because they are large and rarely read.
pub(crate) const PROOFS: Table<Row, Vec<u8>> = Table::new("proofs");
/// Leases by proof id.
pub(crate) const BY_PROOF: Table<[u8; 32], Vec<u8>> = Table::new("by_proof");
/// Leases whose record can still change.
pub(crate) const LIVE: Table<Row, ()> = Table::new("live");
/// Leases by the time the node heard of them.
pub(crate) const BY_TIME: Table<(u64, Row), ()> = Table::new("by_time");
/// Leases that the node committed for, with their deadline: outlives the records, so that one
/// key never promises two outputs for one lease.
pub(crate) const SIGNED: Table<Row, u64> = Table::new("signed");
/// Running numbers and totals, by name.
pub(crate) const COUNTERS: Table<String, u64> = Table::new("counters");

/// Whose promises these are: network and node, by name.
pub(crate) const OWNER: Table<String, Vec<u8>> = Table::new("owner");

/// The one row of totals, at key 0.
pub(crate) const TOTALS: Table<u8, Totals> = Table::new("totals");

/// A lease as a row.
pub(crate) struct Leased(pub(crate) LeasedTask);

impl Key {
    pub(crate) fn row(self) -> Row {
        (self.task.0, self.wave)
    }

    pub(crate) fn of_row(row: Row) -> Self {
        Self { task: TaskId(row.0), wave: row.1 }
    }

    pub(crate) fn to_row_bytes(self) -> Vec<u8> {
        self.row().to_key()
    }

    pub(crate) fn of_row_bytes(bytes: &[u8]) -> Option<Self> {
        Row::from_key(bytes).map(Self::of_row)
    }
}

// An empty value never decodes, so an encoder that failed (which it cannot for these types) would
// be found at the first reading.
impl Value for Work {
    fn to_value(&self) -> Vec<u8> {
        encode(self).unwrap_or_default()
    }
    fn from_value(bytes: &[u8]) -> Option<Self> {
        decode(bytes, limits::RECORD_BYTES_MAX).ok()
    }
}

impl Value for Totals {
    fn to_value(&self) -> Vec<u8> {
        encode(self).unwrap_or_default()
    }
    fn from_value(bytes: &[u8]) -> Option<Self> {
        decode(bytes, limits::RECORD_BYTES_MAX).ok()
    }
}

impl Value for Leased {
    fn to_value(&self) -> Vec<u8> {
        encode(&self.0).unwrap_or_default()
    }
    fn from_value(bytes: &[u8]) -> Option<Self> {
        decode(bytes, limits::LEASE_BYTES_MAX).ok().map(Self)
    }
}

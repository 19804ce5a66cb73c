//! A journal: entries in the order they were written, numbered without gaps from 0.

use std::ops::ControlFlow;

use crate::error::StoreError;
use crate::store::{ReadTxn, WriteTxn};
use crate::table::Table;

/// An append-only table. Entries are bytes; their number is their key.
#[derive(Debug, Clone, Copy)]
pub struct Journal(Table<u64, Vec<u8>>);

impl Journal {
    /// The journal kept in the table of that name.
    ///
    /// # Panics
    /// As [`Table::new`]; at compile time, for a constant.
    #[must_use]
    pub const fn new(table: &'static str) -> Self {
        Self(Table::new(table))
    }

    /// Adds an entry and gives its number.
    ///
    /// # Errors
    /// The store's errors.
    pub fn append(&self, txn: &mut WriteTxn, entry: &[u8]) -> Result<u64, StoreError> {
        let mut table = txn.table(self.0)?;
        let number = next(table.last()?);
        table.insert(&number, &entry.to_vec())?;
        Ok(number)
    }

    /// The number the next entry will get.
    ///
    /// # Errors
    /// The store's errors.
    pub fn next_number(&self, txn: &ReadTxn) -> Result<u64, StoreError> {
        Ok(next(txn.table(self.0)?.last()?))
    }

    /// Up to `entries_max` entries from number `from` on, with their numbers.
    ///
    /// # Errors
    /// The store's errors.
    pub fn read_from(
        &self,
        txn: &ReadTxn,
        from: u64,
        entries_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        txn.table(self.0)?.range(from.., entries_max)
    }

    /// Drops entries below number `before`, at most `entries_max` of them, and tells how many. The
    /// newest entry always stays, because the next number follows from it.
    ///
    /// # Errors
    /// The store's errors.
    pub fn cut_before(
        &self,
        txn: &mut WriteTxn,
        before: u64,
        entries_max: usize,
    ) -> Result<usize, StoreError> {
        let mut table = txn.table(self.0)?;
        let Some((newest, _)) = table.last()? else { return Ok(0) };
        let mut numbers = Vec::new();
        table.scan(..before.min(newest), |number, _| {
            if numbers.len() == entries_max {
                return ControlFlow::Break(());
            }
            numbers.push(number);
            ControlFlow::Continue(())
        })?;
        for number in &numbers {
            table.remove(number)?;
        }
        Ok(numbers.len())
    }
}

fn next(last: Option<(u64, Vec<u8>)>) -> u64 {
    last.map_or(0, |(number, _)| number.saturating_add(1))
}

//! Tables: typed names, and the handles that read and write their rows in a transaction.
//!
//! Every table is bytes to bytes in redb, so that a backup can copy a file whose types it does not
//! know. Rows are ordered by the bytes of their keys, which [`Key`] makes the order of the keys.

use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::sync::Arc;

use redb::{ReadableTable, ReadableTableMetadata};

use crate::error::{StoreError, from_redb};
use crate::keys::{Key, Value};
use crate::limits;

type Bytes = &'static [u8];

/// The name and types of a table. Declare them as constants.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}

impl<K: Key, V: Value> Table<K, V> {
    /// The table of that name.
    ///
    /// # Panics
    /// When the name is empty or begins with `_` (those are the store's own); at compile time, for
    /// a constant.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.as_bytes()[0] != b'_', "a table name starts otherwise");
        Self { name, types: PhantomData }
    }

    /// A table of the store itself.
    pub(crate) const fn internal(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn definition(&self) -> redb::TableDefinition<'static, Bytes, Bytes> {
        redb::TableDefinition::new(self.name)
    }
}

/// Where a row is, for messages.
#[derive(Debug, Clone)]
struct Place {
    store: Arc<str>,
    table: &'static str,
}

impl Place {
    fn redb(&self, error: redb::StorageError) -> StoreError {
        from_redb(&self.store, error)
    }

    fn undecodable<T>(&self, part: &'static str) -> StoreError {
        let expected = std::any::type_name::<T>();
        StoreError::Undecodable {
            store: Arc::clone(&self.store),
            table: self.table,
            part,
            expected,
        }
    }

    fn key<K: Key>(&self, bytes: &[u8]) -> Result<K, StoreError> {
        K::from_key(bytes).ok_or_else(|| self.undecodable::<K>("key"))
    }

    fn value<V: Value>(&self, bytes: &[u8]) -> Result<V, StoreError> {
        V::from_value(bytes).ok_or_else(|| self.undecodable::<V>("value"))
    }

    fn row<K: Key, V: Value>(&self, (key, value): RawRow<'_>) -> Result<(K, V), StoreError> {
        Ok((self.key(key.value())?, self.value(value.value())?))
    }

    fn bounded(
        &self,
        part: &'static str,
        bytes: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, StoreError> {
        if bytes.len() > bytes_max {
            return Err(StoreError::TooLong {
                table: self.table,
                part,
                bytes: bytes.len(),
                bytes_max,
            });
        }
        Ok(bytes)
    }
}

type RawRow<'a> = (redb::AccessGuard<'a, Bytes>, redb::AccessGuard<'a, Bytes>);

/// Which end a scan starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    First,
    Last,
}

/// Visits raw rows between two bounds until `visit` breaks.
fn visit_rows(
    rows: &impl ReadableTable<Bytes, Bytes>,
    place: &Place,
    (lower, upper): (Bound<Vec<u8>>, Bound<Vec<u8>>),
    from: From,
    mut visit: impl FnMut(RawRow<'_>) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    if is_empty(&lower, &upper) {
        return Ok(());
    }
    let bounds = (lower.as_ref().map(Vec::as_slice), upper.as_ref().map(Vec::as_slice));
    let mut range = rows.range::<&[u8]>(bounds).map_err(|error| place.redb(error))?;
    loop {
        let row = if from == From::First { range.next() } else { range.next_back() };
        let Some(row) = row else { return Ok(()) };
        if visit(row.map_err(|error| place.redb(error))?)?.is_break() {
            return Ok(());
        }
    }
}

/// Whether bounds cross each other, which is an empty range here and nothing to panic about.
fn is_empty(lower: &Bound<Vec<u8>>, upper: &Bound<Vec<u8>>) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
            a >= b
        }
    }
}

fn encoded_bounds<K: Key>(range: &impl RangeBounds<K>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (range.start_bound().map(K::to_key), range.end_bound().map(K::to_key))
}

fn collect<K: Key, V: Value>(
    rows: &impl ReadableTable<Bytes, Bytes>,
    place: &Place,
    range: &impl RangeBounds<K>,
    from: From,
    rows_max: usize,
) -> Result<Vec<(K, V)>, StoreError> {
    let rows_max = rows_max.min(limits::SCAN_ROWS_MAX);
    let mut found = Vec::new();
    if rows_max == 0 {
        return Ok(found);
    }
    visit_rows(rows, place, encoded_bounds(range), from, |row| {
        found.push(place.row(row)?);
        Ok(if found.len() < rows_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(found)
}

fn collect_prefix<K: Key, V: Value>(
    rows: &impl ReadableTable<Bytes, Bytes>,
    place: &Place,
    prefix: &[u8],
    rows_max: usize,
) -> Result<Vec<(K, V)>, StoreError> {
    let rows_max = rows_max.min(limits::SCAN_ROWS_MAX);
    let mut found = Vec::new();
    if rows_max == 0 {
        return Ok(found);
    }
    let bounds = (Bound::Included(prefix.to_vec()), Bound::Unbounded);
    visit_rows(rows, place, bounds, From::First, |row| {
        if !row.0.value().starts_with(prefix) {
            return Ok(ControlFlow::Break(()));
        }
        found.push(place.row(row)?);
        Ok(if found.len() < rows_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(found)
}

/// The methods that read, for a handle whose `rows()` gives the redb table, if there is one.
macro_rules! readers {
    () => {
        /// The value of `key`.
        ///
        /// # Errors
        /// A damaged store, or a value of another type.
        pub fn get(&self, key: &K) -> Result<Option<V>, StoreError> {
            let Some(rows) = self.rows() else { return Ok(None) };
            let found = rows.get(key.to_key().as_slice()).map_err(|e| self.place.redb(e))?;
            found.map(|value| self.place.value(value.value())).transpose()
        }

        /// Whether `key` has a value, without decoding it.
        ///
        /// # Errors
        /// A damaged store.
        pub fn contains(&self, key: &K) -> Result<bool, StoreError> {
            let Some(rows) = self.rows() else { return Ok(false) };
            let found = rows.get(key.to_key().as_slice()).map_err(|e| self.place.redb(e))?;
            Ok(found.is_some())
        }

        /// Up to `rows_max` rows of a range of keys, ascending. A crossed range is empty.
        ///
        /// # Errors
        /// A damaged store, or a row of another type.
        pub fn range(
            &self,
            range: impl RangeBounds<K>,
            rows_max: usize,
        ) -> Result<Vec<(K, V)>, StoreError> {
            let Some(rows) = self.rows() else { return Ok(Vec::new()) };
            collect(rows, &self.place, &range, From::First, rows_max)
        }

        /// Up to `rows_max` rows of a range of keys, descending.
        ///
        /// # Errors
        /// A damaged store, or a row of another type.
        pub fn range_back(
            &self,
            range: impl RangeBounds<K>,
            rows_max: usize,
        ) -> Result<Vec<(K, V)>, StoreError> {
            let Some(rows) = self.rows() else { return Ok(Vec::new()) };
            collect(rows, &self.place, &range, From::Last, rows_max)
        }

        /// Up to `rows_max` rows whose encoded key begins with `prefix`, ascending: for a key that
        /// is a pair, all rows with that first part.
        ///
        /// # Errors
        /// A damaged store, or a row of another type.
        pub fn prefix(
            &self,
            prefix: &impl Key,
            rows_max: usize,
        ) -> Result<Vec<(K, V)>, StoreError> {
            let Some(rows) = self.rows() else { return Ok(Vec::new()) };
            collect_prefix(rows, &self.place, &prefix.to_key(), rows_max)
        }

        /// Calls `visit` with each row of a range, ascending, until it breaks. One row is in
        /// memory at a time.
        ///
        /// # Errors
        /// A damaged store, or a row of another type.
        pub fn scan(
            &self,
            range: impl RangeBounds<K>,
            mut visit: impl FnMut(K, V) -> ControlFlow<()>,
        ) -> Result<(), StoreError> {
            let Some(rows) = self.rows() else { return Ok(()) };
            visit_rows(rows, &self.place, encoded_bounds(&range), From::First, |row| {
                let (key, value) = self.place.row(row)?;
                Ok(visit(key, value))
            })
        }

        /// The row with the lowest key.
        ///
        /// # Errors
        /// A damaged store, or a row of another type.
        pub fn first(&self) -> Result<Option<(K, V)>, StoreError> {
            Ok(self.range(.., 1)?.pop())
        }

        /// The row with the highest key.
        ///
        /// # Errors
        /// A damaged store, or a row of another type.
        pub fn last(&self) -> Result<Option<(K, V)>, StoreError> {
            Ok(self.range_back(.., 1)?.pop())
        }

        /// The number of rows.
        ///
        /// # Errors
        /// A damaged store.
        pub fn len(&self) -> Result<u64, StoreError> {
            let Some(rows) = self.rows() else { return Ok(0) };
            rows.len().map_err(|error| self.place.redb(error))
        }

        /// Whether there are no rows.
        ///
        /// # Errors
        /// A damaged store.
        pub fn is_empty(&self) -> Result<bool, StoreError> {
            Ok(self.len()? == 0)
        }
    };
}

/// A table in a read transaction. One that was never written is empty.
pub struct TableRef<K, V> {
    rows: Option<redb::ReadOnlyTable<Bytes, Bytes>>,
    place: Place,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> TableRef<K, V> {
    pub(crate) fn open(
        txn: &redb::ReadTransaction,
        store: &Arc<str>,
        table: Table<K, V>,
    ) -> Result<Self, StoreError> {
        let rows = match txn.open_table(table.definition()) {
            Ok(rows) => Some(rows),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(from_redb(store, error)),
        };
        let place = Place { store: Arc::clone(store), table: table.name };
        Ok(Self { rows, place, types: PhantomData })
    }

    const fn rows(&self) -> Option<&redb::ReadOnlyTable<Bytes, Bytes>> {
        self.rows.as_ref()
    }

    readers!();
}

/// A table in a write transaction. A table can be open once at a time: drop one handle before
/// taking another of the same table.
pub struct TableMut<'txn, K, V> {
    rows: redb::Table<'txn, Bytes, Bytes>,
    place: Place,
    types: PhantomData<fn() -> (K, V)>,
}

impl<'txn, K: Key, V: Value> TableMut<'txn, K, V> {
    pub(crate) fn open(
        txn: &'txn redb::WriteTransaction,
        store: &Arc<str>,
        table: Table<K, V>,
    ) -> Result<Self, StoreError> {
        let rows = txn.open_table(table.definition()).map_err(|e| from_redb(store, e))?;
        let place = Place { store: Arc::clone(store), table: table.name };
        Ok(Self { rows, place, types: PhantomData })
    }

    #[expect(clippy::unnecessary_wraps, reason = "the same shape as TableRef's, for the macro")]
    const fn rows(&self) -> Option<&redb::Table<'txn, Bytes, Bytes>> {
        Some(&self.rows)
    }

    readers!();

    /// Sets the value of `key`; tells whether there was one before.
    ///
    /// # Errors
    /// A key or value above the limits, or the store's errors.
    pub fn insert(&mut self, key: &K, value: &V) -> Result<bool, StoreError> {
        let key = self.place.bounded("key", key.to_key(), limits::KEY_BYTES_MAX)?;
        let value = self.place.bounded("value", value.to_value(), limits::VALUE_BYTES_MAX)?;
        let before = self.rows.insert(key.as_slice(), value.as_slice());
        Ok(before.map_err(|error| self.place.redb(error))?.is_some())
    }

    /// Removes `key`; tells whether it had a value.
    ///
    /// # Errors
    /// The store's errors.
    pub fn remove(&mut self, key: &K) -> Result<bool, StoreError> {
        let before = self.rows.remove(key.to_key().as_slice());
        Ok(before.map_err(|error| self.place.redb(error))?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossed_bounds_are_empty() {
        let included = |n: u8| Bound::Included(vec![n]);
        let excluded = |n: u8| Bound::Excluded(vec![n]);
        assert!(!is_empty(&included(1), &included(1)));
        assert!(is_empty(&included(1), &excluded(1)));
        assert!(is_empty(&excluded(1), &included(1)));
        assert!(is_empty(&included(2), &included(1)));
        assert!(!is_empty(&Bound::Unbounded, &excluded(1)));
    }
}

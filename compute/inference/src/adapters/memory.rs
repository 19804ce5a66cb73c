//! The adapters in memory, within a budget of bytes: which are used, and which go first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openledger_wire::ids::BlobId;

use super::loaded::{Generation, LoadedAdapter};
use super::product::ProductKey;

/// What an adapter in memory is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Adapter(BlobId),
    /// Merged adapters.
    Product(ProductKey),
}

/// An adapter that new requests can be given.
#[derive(Debug)]
struct Entry {
    adapter: Arc<LoadedAdapter>,
    /// When it was last given out, counted in uses; no two entries have the same.
    used: u64,
    /// As [`Memory::evict_idle`] last saw it: `used` then, and since when by the caller's clock.
    seen: Option<(u64, u64)>,
}

/// There is no room: all else is in use or must stay.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// Adapters within a budget.
#[derive(Debug)]
pub(super) struct Memory {
    entries: BTreeMap<Key, Entry>,
    /// Keys by their last use.
    order: BTreeMap<u64, Key>,
    /// Replaced or dropped, but perhaps still used by a sequence.
    retired: Vec<Arc<LoadedAdapter>>,
    /// Of entries and retired ones.
    bytes: usize,
    bytes_max: usize,
    uses: u64,
    generations: u64,
}

/// Whether a sequence uses it: the memory itself holds one reference.
fn pinned(adapter: &Arc<LoadedAdapter>) -> bool {
    Arc::strong_count(adapter) > 1
}

impl Memory {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            retired: Vec::new(),
            bytes: 0,
            bytes_max,
            uses: 0,
            generations: 0,
        }
    }

    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes of all adapters, those that only their users still hold included.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// A number that no adapter had before.
    pub(super) const fn next_generation(&mut self) -> Generation {
        self.generations += 1;
        Generation(self.generations)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<LoadedAdapter>> {
        self.entries.get(key).map(|entry| &entry.adapter)
    }

    pub(super) fn is_pinned(&self, key: &Key) -> bool {
        self.get(key).is_some_and(pinned)
    }

    /// All entries, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<LoadedAdapter>)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.adapter))
    }

    /// Gives an adapter out: it becomes the one used last.
    pub(super) fn take(&mut self, key: &Key) -> Option<Arc<LoadedAdapter>> {
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        if let Some(key) = self.order.remove(&entry.used) {
            self.order.insert(self.uses, key);
        }
        entry.used = self.uses;
        Some(Arc::clone(&entry.adapter))
    }

    /// Adapters in use, those that were replaced or dropped included, and their bytes.
    pub(super) fn active(&self) -> (usize, usize) {
        let held = self.entries.values().map(|entry| &entry.adapter).chain(&self.retired);
        held.filter(|adapter| pinned(adapter))
            .fold((0, 0), |(count, bytes), adapter| (count + 1, bytes + adapter.bytes()))
    }

    /// Puts unused adapters out until so many bytes fit, the longest unused first, but none of
    /// `keep`. What is to be replaced goes before all others. Nothing goes if that is not enough.
    pub(super) fn make_room(
        &mut self,
        bytes: usize,
        replaced: Option<&Key>,
        keep: &BTreeSet<Key>,
    ) -> Result<(), NoRoom> {
        self.forget();
        let mut excess = self.bytes.saturating_add(bytes).saturating_sub(self.bytes_max);
        let mut victims = Vec::new();
        let first = replaced.into_iter();
        let others =
            self.order.values().filter(|key| !keep.contains(*key) && Some(*key) != replaced);
        for key in first.chain(others) {
            if excess == 0 {
                break;
            }
            if let Some(entry) = self.entries.get(key).filter(|entry| !pinned(&entry.adapter)) {
                excess = excess.saturating_sub(entry.adapter.bytes());
                victims.push(key.clone());
            }
        }
        if excess > 0 {
            return Err(NoRoom);
        }
        for key in victims {
            self.retire(&key);
        }
        Ok(())
    }

    /// Holds an adapter for new requests. What was there before is only kept for its users.
    pub(super) fn insert(&mut self, key: Key, adapter: Arc<LoadedAdapter>) {
        self.retire(&key);
        self.uses += 1;
        self.bytes += adapter.bytes();
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, Entry { adapter, used: self.uses, seen: None });
    }

    /// Counts an adapter that only its user holds.
    pub(super) fn insert_retired(&mut self, adapter: Arc<LoadedAdapter>) {
        self.bytes += adapter.bytes();
        self.retired.push(adapter);
    }

    /// Hides an adapter from new requests; its bytes count until the last user lets go. Says
    /// whether it was there.
    pub(super) fn retire(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.order.remove(&entry.used);
        self.retired.push(entry.adapter);
        self.forget();
        true
    }

    /// Retires the products that an adapter is in.
    pub(super) fn retire_products(&mut self, source: Generation) {
        let made = |key: &&Key| matches!(key, Key::Product(product) if product.has(source));
        let keys: Vec<Key> = self.entries.keys().filter(made).cloned().collect();
        for key in keys {
            self.retire(&key);
        }
    }

    /// Puts out what has not been used for `idle_max` by the caller's clock, but none of `keep`.
    /// Returns what went.
    pub(super) fn evict_idle(&mut self, now: u64, idle_max: u64, keep: &BTreeSet<Key>) -> Vec<Key> {
        let mut idle = Vec::new();
        for (key, entry) in &mut self.entries {
            let busy = pinned(&entry.adapter) || keep.contains(key);
            let since = match entry.seen {
                Some((used, since)) if used == entry.used && !busy => since,
                _ => now,
            };
            entry.seen = Some((entry.used, since));
            if !busy && now.saturating_sub(since) >= idle_max {
                idle.push(key.clone());
            }
        }
        for key in &idle {
            self.retire(key);
        }
        idle
    }

    /// Lets go of what was retired and is no longer used.
    pub(super) fn forget(&mut self) {
        let bytes = &mut self.bytes;
        self.retired.retain(|adapter| {
            let stays = pinned(adapter);
            *bytes -= if stays { 0 } else { adapter.bytes() };
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::prepare::tests::prepared;
    use super::*;

    fn key(id: u8) -> Key {
        Key::Adapter(BlobId([id; 32]))
    }

    /// A memory for so many adapters of rank 1.
    fn memory(count: usize) -> (Memory, usize) {
        let bytes = prepared(1, 0.0).bytes();
        (Memory::new(count * bytes), bytes)
    }

    /// Makes room for an adapter and holds it.
    fn put(memory: &mut Memory, id: u8, keep: &[u8]) -> Result<(), NoRoom> {
        let prepared = prepared(1, f32::from(id));
        let keep = keep.iter().map(|id| key(*id)).collect();
        memory.make_room(prepared.bytes(), Some(&key(id)), &keep)?;
        let generation = memory.next_generation();
        let adapter = LoadedAdapter::new(BlobId([id; 32]), generation, prepared);
        memory.insert(key(id), Arc::new(adapter));
        Ok(())
    }

    fn ids(memory: &Memory) -> Vec<u8> {
        memory.iter().map(|(_, adapter)| adapter.id().0[0]).collect()
    }

    #[test]
    fn the_longest_unused_goes_first_and_nothing_in_use_or_promised() {
        let (mut memory, bytes) = memory(3);
        (1..=3).for_each(|id| put(&mut memory, id, &[]).unwrap());
        let first = memory.take(&key(1)).unwrap();
        put(&mut memory, 4, &[]).unwrap();
        assert_eq!(ids(&memory), [1, 3, 4]);
        put(&mut memory, 5, &[3]).unwrap();
        assert_eq!(ids(&memory), [1, 3, 5], "3 is promised, 1 in use");
        assert_eq!(put(&mut memory, 6, &[3, 5]), Err(NoRoom));
        assert_eq!(ids(&memory), [1, 3, 5], "a refusal puts nothing out");
        assert_eq!(memory.active(), (1, bytes));
        // What is replaced while in use counts until it is let go of.
        assert_eq!(put(&mut memory, 1, &[3, 5]), Err(NoRoom));
        put(&mut memory, 1, &[3]).unwrap();
        assert_eq!((ids(&memory), memory.bytes()), (vec![1, 3], 3 * bytes));
        assert_eq!(put(&mut memory, 7, &[1, 3]), Err(NoRoom));
        drop(first);
        put(&mut memory, 7, &[1, 3]).unwrap();
        assert_eq!((ids(&memory), memory.bytes()), (vec![1, 3, 7], 3 * bytes));
        // A replacement that nobody uses makes its own room.
        put(&mut memory, 7, &[1, 3, 7]).unwrap();
        assert!(memory.retire(&key(7)) && !memory.retire(&key(7)));
        assert_eq!(memory.bytes(), 2 * bytes);
    }

    #[test]
    fn idleness_is_counted_from_the_last_use() {
        let (mut memory, _) = memory(9);
        (1..=3).for_each(|id| put(&mut memory, id, &[]).unwrap());
        let none = BTreeSet::new();
        assert!(memory.evict_idle(10, 5, &none).is_empty());
        drop(memory.take(&key(2)));
        assert!(memory.evict_idle(12, 5, &none).is_empty());
        assert_eq!(memory.evict_idle(15, 5, &BTreeSet::from([key(3)])), [key(1)]);
        assert_eq!(memory.evict_idle(17, 5, &none), [key(2)]);
        assert_eq!(memory.evict_idle(20, 5, &none), [key(3)], "promised until 15");
        assert_eq!((memory.bytes(), memory.order.len()), (0, 0));
    }
}

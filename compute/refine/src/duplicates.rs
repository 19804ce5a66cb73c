//! Near-duplicates by locality-sensitive hashing: 14 band keys per document.
//!
//! Documents that share a band key are candidates; the caller compares signatures before
//! it calls them duplicates. The index is in memory and answers by key order alone, so
//! that the same inserts in the same order give the same answers everywhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::BUCKET_DOCUMENTS_MAX;
use crate::minhash::{BANDS, ROWS_PER_BAND, Signature, first_u64};

/// Domain of a band key.
const BAND_DOMAIN: &[u8] = b"openledger/refine/band/1\0";

/// Band keys of a signature, `[BANDS]`. The band's number is hashed too, so that keys of
/// different bands never meet and one map can hold them all.
#[must_use]
pub fn band_keys(signature: &Signature) -> [u64; BANDS] {
    let mut keys = [0; BANDS];
    let bands = signature.0.chunks_exact(ROWS_PER_BAND);
    for (number, (key, lanes)) in keys.iter_mut().zip(bands).enumerate() {
        let mut hasher = blake3::Hasher::new();
        hasher.update(BAND_DOMAIN);
        hasher.update(&(number as u32).to_le_bytes());
        for lane in lanes {
            hasher.update(&lane.to_le_bytes());
        }
        *key = first_u64(&hasher.finalize());
    }
    keys
}

/// An in-memory index of documents by band keys.
///
/// Worst-case memory: 14 keys a document, and [`BUCKET_DOCUMENTS_MAX`] ids a key.
#[derive(Clone, Debug, Default)]
pub struct DuplicateIndex {
    buckets: BTreeMap<u64, Vec<[u8; 32]>>,
}

impl DuplicateIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Documents already inserted that share a band with these keys, ascending by id.
    #[must_use]
    pub fn candidates(&self, bands: &[u64; BANDS]) -> Vec<[u8; 32]> {
        let found: BTreeSet<[u8; 32]> =
            bands.iter().filter_map(|key| self.buckets.get(key)).flatten().copied().collect();
        found.into_iter().collect()
    }

    /// Inserts document `id` and returns the candidates among the documents before it,
    /// ascending by id and without `id` itself. Inserting twice changes nothing.
    pub fn insert(&mut self, id: [u8; 32], bands: &[u64; BANDS]) -> Vec<[u8; 32]> {
        let mut found = self.candidates(bands);
        found.retain(|other| *other != id);
        for key in bands {
            let bucket = self.buckets.entry(*key).or_default();
            if bucket.len() < BUCKET_DOCUMENTS_MAX && !bucket.contains(&id) {
                bucket.push(id);
            }
        }
        found
    }

    /// Number of different band keys.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(from: u32, words: u32) -> String {
        (from..from + words).map(|i| format!("word{i} ")).collect()
    }

    fn bands(text: &str) -> [u64; BANDS] {
        band_keys(&Signature::of_text(text))
    }

    #[test]
    fn near_duplicates_meet_and_others_do_not() {
        let mut index = DuplicateIndex::new();
        let original = text(0, 1_000);
        assert!(index.insert([1; 32], &bands(&original)).is_empty());
        assert!(index.insert([2; 32], &bands(&text(9_000, 1_000))).is_empty());
        let copy = format!("{original} and one more line at the end");
        assert_eq!(index.insert([3; 32], &bands(&copy)), vec![[1; 32]]);
        assert_eq!(index.insert([0; 32], &bands(&original)), vec![[1; 32], [3; 32]]);
    }

    #[test]
    fn inserting_twice_changes_nothing() {
        let mut index = DuplicateIndex::new();
        let keys = bands(&text(0, 50));
        index.insert([1; 32], &keys);
        assert!(index.insert([1; 32], &keys).is_empty());
        assert_eq!(index.keys(), BANDS);
        assert_eq!(index.candidates(&keys), vec![[1; 32]]);
    }

    #[test]
    fn buckets_are_bounded() {
        let mut index = DuplicateIndex::new();
        let keys = bands(&text(0, 50));
        for id in 0..=255 {
            index.insert([id; 32], &keys);
        }
        assert_eq!(index.candidates(&keys).len(), BUCKET_DOCUMENTS_MAX);
    }
}

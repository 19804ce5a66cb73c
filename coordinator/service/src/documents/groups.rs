//! Near-duplicates among the documents of a campaign.
//!
//! Documents are placed in the order of the log. One that is not similar enough to any original
//! before it is an original itself; another is a duplicate of the first such original. Candidates
//! share a band key (see `openledger_refine::duplicates`), signatures decide. What comes late is
//! put where it belongs by placing all again, so the result depends on the log and on what is
//! collected, never on the order in which documents arrived.

use std::collections::BTreeMap;

use openledger_refine::{BANDS, DuplicateIndex, Signature, band_keys};
use openledger_wire::BlobId;

use crate::limits;

/// What is compared.
#[derive(Debug, Clone)]
struct Item {
    document: BlobId,
    signature: Signature,
}

/// The groups of one campaign. About 600 bytes a document, and 14 index entries an original.
#[derive(Debug, Default)]
pub struct Groups {
    items: BTreeMap<u64, Item>,
    /// Originals that were placed: number by document.
    originals: BTreeMap<[u8; 32], u64>,
    index: DuplicateIndex,
    last: u64,
    stale: bool,
}

impl Groups {
    /// Takes a document in. If it is behind all others, gives its place: `Some(None)` for an
    /// original, `Some(Some(number))` for a duplicate of that row. `None`: everything must be
    /// placed again.
    pub fn add(
        &mut self,
        number: u64,
        document: BlobId,
        signature: Signature,
    ) -> Option<Option<u64>> {
        self.items.insert(number, Item { document, signature });
        if self.stale || number <= self.last {
            self.stale = true;
            return None;
        }
        Some(self.place(number))
    }

    /// Whether everything must be placed again.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale
    }

    /// Places everything again, in the order of the log; gives each document's place as
    /// [`Self::add`] does. Costs about 10 us a document.
    pub fn place_all(&mut self) -> Vec<(u64, Option<u64>)> {
        (self.originals, self.index) = (BTreeMap::new(), DuplicateIndex::new());
        (self.last, self.stale) = (0, false);
        let numbers: Vec<u64> = self.items.keys().copied().collect();
        numbers.into_iter().map(|number| (number, self.place(number))).collect()
    }

    fn place(&mut self, number: u64) -> Option<u64> {
        self.last = number;
        let item = self.items.get(&number)?;
        let bands: [u64; BANDS] = band_keys(&item.signature);
        if let Some(same) = self.originals.get(&item.document.0) {
            return Some(*same);
        }
        let similar = |original: &u64| {
            self.items.get(original).is_some_and(|other| {
                let similarity = item.signature.similarity_permille(&other.signature);
                similarity >= limits::DUPLICATE_PERMILLE_MIN
            })
        };
        let candidates = self.index.candidates(&bands);
        let candidates = candidates.iter().filter_map(|id| self.originals.get(id).copied());
        if let Some(original) = candidates.filter(similar).min() {
            return Some(original);
        }
        let document = item.document.0;
        self.index.insert(document, &bands);
        self.originals.insert(document, number);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words from a number on; neighbours overlap.
    fn signature(from: u32) -> Signature {
        let text: String = (from..from + 1_000).map(|i| format!("word{i} ")).collect();
        Signature::of_text(&text)
    }

    fn document(n: u8) -> BlobId {
        BlobId([n; 32])
    }

    #[test]
    fn the_first_of_a_group_is_its_original() {
        let mut groups = Groups::default();
        assert_eq!(groups.add(1, document(9), signature(0)), Some(None));
        assert_eq!(groups.add(2, document(8), signature(5_000)), Some(None));
        assert_eq!(groups.add(4, document(7), signature(20)), Some(Some(1)));
        assert_eq!(groups.add(5, document(6), signature(5_010)), Some(Some(2)));
        assert_eq!(groups.add(6, document(9), signature(0)), Some(Some(1)), "the same bytes");
        assert_eq!(groups.add(7, document(5), signature(500)), Some(None), "a third is shared");
    }

    #[test]
    fn places_do_not_depend_on_the_order_of_arrival() {
        let all = [(1, 0), (2, 30), (3, 4_000), (4, 4_020), (5, 60), (6, 9_000)];
        let item = |(number, from): (u64, u32)| {
            (number, document(u8::try_from(number).unwrap()), signature(from))
        };
        let mut in_order = Groups::default();
        for (number, id, signature) in all.map(item) {
            assert!(in_order.add(number, id, signature).is_some());
        }
        let expected = in_order.place_all();
        assert_eq!(expected.iter().filter(|(_, original)| original.is_some()).count(), 3);
        let mut backwards = Groups::default();
        for (number, id, signature) in all.into_iter().rev().map(item) {
            backwards.add(number, id, signature);
        }
        assert!(backwards.is_stale());
        assert_eq!(backwards.place_all(), expected);
        assert!(!backwards.is_stale());
        assert_eq!(backwards.place_all(), expected);
    }
}

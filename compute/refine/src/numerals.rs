//! The numerals of a text as a multiset of hashes.
//!
//! Poisoned copies of real pages change single facts ("the TTL is 0" becomes "1", `true`
//! becomes `false`) and leave every shingle around them alone, so that texts look alike
//! while they contradict each other. Numerals are therefore compared apart: words with a
//! digit, and the truth values.

use crate::limits::NUMERALS_MAX;
use crate::minhash::first_u64;
use crate::text;

/// Domain of the hash of a numeral.
const NUMERAL_DOMAIN: &[u8] = b"openledger/refine/numeral/1\0";

/// A multiset of numerals: hashes in ascending order, equal ones repeated.
///
/// Of more than [`NUMERALS_MAX`] the smallest hashes are kept, which is the same sample
/// on both sides of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numerals {
    hashes: Vec<u64>,
    truncated: bool,
}

impl Numerals {
    /// The numerals of `text`.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let mut hashes: Vec<u64> = text::words(text).filter_map(hash_numeral).collect();
        hashes.sort_unstable();
        let truncated = hashes.len() > NUMERALS_MAX;
        hashes.truncate(NUMERALS_MAX);
        Self { hashes, truncated }
    }

    /// Builds a multiset from its parts; `None` unless ascending, within the limit, and
    /// truncated only at the limit.
    #[must_use]
    pub fn from_parts(hashes: Vec<u64>, truncated: bool) -> Option<Self> {
        let count_fits = hashes.len() <= NUMERALS_MAX;
        let truncation_fits = !truncated || hashes.len() == NUMERALS_MAX;
        (count_fits && truncation_fits && hashes.is_sorted()).then_some(Self { hashes, truncated })
    }

    /// The hashes, ascending.
    #[must_use]
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Whether the text had more numerals than are kept.
    #[must_use]
    pub const fn truncated(&self) -> bool {
        self.truncated
    }

    /// Jaccard similarity of the multisets in permille, 1,000 for two empty ones. Where
    /// one is truncated, only the range that it covers is compared.
    #[must_use]
    pub fn agreement_permille(&self, other: &Self) -> u32 {
        let covered = |side: &Self| if side.truncated { side.hashes.last().copied() } else { None };
        let end = match (covered(self), covered(other)) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b).unwrap_or(u64::MAX),
        };
        let (mut a, mut b) = (self.up_to(end), other.up_to(end));
        let total = (a.len() + b.len()) as u64;
        let mut shared = 0_u64;
        while let (Some((first_a, rest_a)), Some((first_b, rest_b))) =
            (a.split_first(), b.split_first())
        {
            match first_a.cmp(first_b) {
                std::cmp::Ordering::Less => a = rest_a,
                std::cmp::Ordering::Greater => b = rest_b,
                std::cmp::Ordering::Equal => {
                    shared += 1;
                    (a, b) = (rest_a, rest_b);
                }
            }
        }
        let permille = (shared * 1_000).checked_div(total - shared);
        permille.map_or(1_000, |permille| permille as u32)
    }

    fn up_to(&self, end: u64) -> &[u64] {
        let count = self.hashes.partition_point(|hash| *hash <= end);
        self.hashes.get(..count).unwrap_or_default()
    }
}

/// The hash of `word` if it is a numeral or a truth value.
fn hash_numeral(word: &str) -> Option<u64> {
    let truth = word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false");
    if !truth && !word.chars().any(char::is_numeric) {
        return None;
    }
    let lower = word.to_lowercase();
    let hash = blake3::Hasher::new().update(NUMERAL_DOMAIN).update(lower.as_bytes()).finalize();
    Some(first_u64(&hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(a: &str, b: &str) -> u32 {
        Numerals::of_text(a).agreement_permille(&Numerals::of_text(b))
    }

    #[test]
    fn counts_matter() {
        assert_eq!(agreement("1 2 3 3", "3 2 1 3"), 1_000);
        assert_eq!(agreement("1 2 3 3", "1 2 3"), 750);
        assert_eq!(agreement("TTL is 0", "TTL is 1"), 0);
        assert_eq!(agreement("it is true", "it is false"), 0);
        assert_eq!(agreement("no numbers", "none at all"), 1_000);
        assert_eq!(agreement("none", "7"), 0);
    }

    #[test]
    fn numerals_are_whole_words() {
        assert_eq!(Numerals::of_text("3.14 1,000 x86 v2 ⅷ two").hashes().len(), 5);
        assert_eq!(agreement("3.14", "3.15"), 0);
    }

    #[test]
    fn truncated_samples_compare() {
        let many =
            |shift: u32| -> String { (shift..shift + 9_000).map(|i| format!("{i} ")).collect() };
        let a = Numerals::of_text(&many(0));
        assert!(a.truncated() && a.hashes().len() == NUMERALS_MAX);
        assert_eq!(a.agreement_permille(&Numerals::of_text(&many(0))), 1_000);
        // 8,100 of 9,900 shared: 818 permille.
        let similar = a.agreement_permille(&Numerals::of_text(&many(900)));
        assert!((780..=850).contains(&similar), "{similar}");
        let few: String = (0..3_000).map(|i| format!("{i} ")).collect();
        assert!(a.agreement_permille(&Numerals::of_text(&few)) < 400);
    }

    #[test]
    fn parts_are_checked() {
        assert!(Numerals::from_parts(vec![1, 1, 2], false).is_some());
        assert!(Numerals::from_parts(vec![2, 1], false).is_none());
        assert!(Numerals::from_parts(vec![1], true).is_none());
        assert!(Numerals::from_parts(vec![0; NUMERALS_MAX + 1], false).is_none());
    }
}

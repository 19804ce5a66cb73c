//! Derived inputs: a pure function of seed, target, running number and corpus.

use crate::limits::{EDITS_MAX, INPUT_BYTES_MAX};

/// A small generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for one input of one target.
    #[must_use]
    pub fn of(seed: u64, target: &str, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("openledger fuzz input v1");
        hasher.update(&seed.to_be_bytes());
        hasher.update(&number.to_be_bytes());
        hasher.update(target.as_bytes());
        let mut state = [0; 8];
        hasher.finalize_xof().fill(&mut state);
        Self(u64::from_be_bytes(state))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, 0 for `n` 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.bits() % (n.max(1) as u64)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.bits().to_be_bytes()[0]
    }
}

/// Bytes with a meaning in what is decoded here: CBOR heads, text separators, compression marks.
const TOKENS: [&[u8]; 24] = [
    b"\xf6",
    b"\xa0",
    b"\x80",
    b"\x60",
    b"\x40",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\xbb\x00\x00\x00\x00\x7f\xff\xff\xff",
    b"\x9f",
    b"\xff",
    b"\x00",
    b"\r\n\r\n",
    b"\n",
    b": ",
    b"..",
    b"%00",
    b"<",
    b"</",
    b"<!--",
    b"&#x110000;",
    b"-1",
    b"18446744073709551616",
    b"\xed\xa0\x80",
];

/// Input `number` of a target. Without a corpus it is random bytes.
#[must_use]
pub fn input(seed: u64, target: &str, number: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random::of(seed, target, number);
    let from = random.below(corpus.len());
    let mut bytes = match corpus.get(from) {
        // One in 16 inputs owes nothing to the corpus.
        Some(bytes) if random.below(16) != 0 => bytes.clone(),
        _ => (0..random.below(256)).map(|_| random.byte()).collect(),
    };
    for _ in 0..=random.bits() % EDITS_MAX {
        edit(&mut random, &mut bytes, corpus);
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

fn edit(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len());
    let to = (at + 1 + random.below(32)).min(bytes.len());
    let end = at.min(bytes.len());
    match random.below(9) {
        0 => set(bytes, at, |byte| byte ^ (1 << (random.bits() % 8))),
        1 => set(bytes, at, |_| random.byte()),
        2 => set(bytes, at, |byte| byte.wrapping_add(if random.below(2) == 0 { 1 } else { 255 })),
        3 => drop(bytes.drain(end..to.max(end))),
        4 => {
            let token = TOKENS.get(random.below(TOKENS.len())).copied().unwrap_or_default();
            bytes.splice(end..end, token.iter().copied());
        }
        5 => {
            let token = TOKENS.get(random.below(TOKENS.len())).copied().unwrap_or_default();
            let over = (end + token.len()).min(bytes.len());
            bytes.splice(end..over, token.iter().copied());
        }
        6 => {
            let piece = bytes.get(end..to).unwrap_or_default().to_vec();
            let times = 1 + random.below(64);
            bytes.splice(end..end, piece.repeat(times));
        }
        7 => bytes.truncate(end),
        _ => {
            let other = corpus.get(random.below(corpus.len())).cloned().unwrap_or_default();
            let from = random.below(other.len());
            let piece = other.get(from..).unwrap_or_default().to_vec();
            bytes.splice(end.., piece);
        }
    }
}

fn set(bytes: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_repeat_by_seed_and_differ_by_number_and_target() {
        let corpus = vec![b"a corpus of one".to_vec()];
        assert_eq!(input(1, "page", 5, &corpus), input(1, "page", 5, &corpus));
        let some: Vec<_> = (0..50).map(|n| input(1, "page", n, &corpus)).collect();
        let other: Vec<_> = (0..50).map(|n| input(1, "warc", n, &corpus)).collect();
        assert_ne!(some, other);
        assert!(some.iter().collect::<std::collections::BTreeSet<_>>().len() > 40);
    }

    #[test]
    fn inputs_stay_small_and_need_no_corpus() {
        let corpus = vec![vec![b'x'; INPUT_BYTES_MAX]];
        for number in 0..500 {
            assert!(input(2, "page", number, &corpus).len() <= INPUT_BYTES_MAX);
            let _ = input(2, "page", number, &[]);
            let _ = input(2, "page", number, &[Vec::new()]);
        }
    }
}

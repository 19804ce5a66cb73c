//! A counter-based generator: the n-th draw of a seed and a label is a hash, so adding a draw
//! somewhere does not shift all others.

/// Draws from a seed.
#[derive(Clone, Debug)]
pub struct Random {
    key: [u8; 32],
    counter: u64,
}

impl Random {
    /// The stream of a seed and a label.
    #[must_use]
    pub fn new(seed: u64, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("openledger simulation stream v1");
        hasher.update(&seed.to_be_bytes()).update(label.as_bytes());
        Self { key: *hasher.finalize().as_bytes(), counter: 0 }
    }

    /// 32 fresh bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        self.counter += 1;
        *blake3::keyed_hash(&self.key, &self.counter.to_be_bytes()).as_bytes()
    }

    /// A number below `bound`, near enough uniform for 64 bits; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let bytes = self.bytes();
        let mut first = [0u8; 8];
        first.copy_from_slice(&bytes[..8]);
        let wide = u128::from(u64::from_be_bytes(first)) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// True in `permille` of a thousand draws.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_label() {
        let draw = |label| {
            let mut random = Random::new(7, label);
            (0..20).map(|_| random.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw("a"), draw("a"));
        assert_ne!(draw("a"), draw("b"));
        assert!(draw("a").iter().all(|n| *n < 1_000));
    }
}

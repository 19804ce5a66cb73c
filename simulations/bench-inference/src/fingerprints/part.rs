//! A part of a long run.

use std::str::FromStr;

use thiserror::Error;

/// Part so and so of so many: the parts' pieces of work are interleaved, so that each is like the
/// whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    number: u64,
    of: u64,
}

/// A text that names no part.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
#[error("read the part {0:?}: write K/N with K from 1 to N, as 2/4")]
pub struct PartError(String);

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// One of so many equal shares of this part.
    pub(super) const fn share(self, number: u64, of: u64) -> Self {
        let of = if of == 0 { 1 } else { of };
        Self { number: self.number * of + number, of: self.of * of }
    }

    /// Whether a piece of work is in it.
    pub(super) const fn has(self, piece: u64) -> bool {
        piece % self.of == self.number
    }
}

impl FromStr for Part {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let wrong = || PartError(text.to_owned());
        let (number, of) = text.split_once('/').ok_or_else(wrong)?;
        let number = number.parse::<u64>().map_err(|_| wrong())?;
        let of = of.parse::<u64>().map_err(|_| wrong())?;
        match number.checked_sub(1) {
            // More would not be parts of anything.
            Some(first) if number <= of && of <= 1_000 => Ok(Self { number: first, of }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_their_shares_make_up_the_whole() {
        let shares = ["1/3", "2/3", "3/3"].iter().flat_map(|text| {
            let part: Part = text.parse().unwrap();
            (0..2).map(move |number| part.share(number, 2))
        });
        let shares: Vec<Part> = shares.collect();
        for piece in 0..100 {
            assert_eq!(shares.iter().filter(|share| share.has(piece)).count(), 1);
        }
        assert!(Part::WHOLE.has(7));
        for bad in ["", "1", "0/2", "3/2", "a/b", "1/2000", "-1/2"] {
            assert_eq!(bad.parse::<Part>(), Err(PartError(bad.to_owned())));
        }
    }
}

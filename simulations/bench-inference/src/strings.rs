//! The strings that tokenizers are compared on, of all classes of Unicode.
//!
//! They are those of the committed vectors, drawn by the rule in `compute/inference/vectors`.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use flate2::read::ZlibDecoder;

use crate::varint::varint;

const CATEGORIES: &[u8] = include_bytes!("../../../compute/inference/vectors/categories.bin");
const FRAGMENTS: &str = include_str!("../../../compute/inference/vectors/fragments.txt");

/// General categories of Unicode, surrogates included.
const CATEGORY_COUNT: usize = 30;

/// The place of surrogates among them; no string has one.
const SURROGATES: usize = 27;

/// The code points of one category: runs of first and length.
type Runs = Vec<(u32, u32)>;

/// Draws strings by number.
#[derive(Debug)]
pub struct Strings {
    categories: Vec<Runs>,
    fragments: Vec<String>,
}

/// Draws of one string: SplitMix64 (Steele, Lea and Flood 2014).
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }
}

impl Strings {
    /// Reads the tables that this crate brings.
    ///
    /// # Errors
    /// Tables that are damaged.
    pub fn new() -> Result<Self> {
        let mut inflated = Vec::new();
        ZlibDecoder::new(CATEGORIES)
            .read_to_end(&mut inflated)
            .context("inflate the categories")?;
        let categories = runs(&inflated).context("read the categories: the table is damaged")?;
        let fragments = FRAGMENTS.lines().map(unescaped).collect::<Option<_>>();
        let fragments = fragments.context("read the fragments: an escape is damaged")?;
        Ok(Self { categories, fragments })
    }

    /// String `number`.
    #[must_use]
    pub fn string(&self, number: u64) -> String {
        let mut draws = Draws(number << 32);
        let mut text = String::new();
        for _ in 0..1 + draws.below(12) {
            // Tables were checked to have something of everything.
            let _ = self.piece(&mut draws, &mut text);
        }
        text
    }

    fn piece(&self, draws: &mut Draws, text: &mut String) -> Option<()> {
        match draws.below(12) {
            0..=3 => {
                let category = self.category(draws)?;
                text.push(character(draws, category)?);
            }
            4 | 5 => {
                let category = self.category(draws)?;
                for _ in 0..1 + draws.below(6) {
                    text.push(character(draws, category)?);
                }
            }
            6 => text.push(ascii(b' ', draws.below(95))),
            7 => {
                let space = *draws.of(&[' ', '\n', '\t', '\r', '\u{a0}', ' '])?;
                text.extend(std::iter::repeat_n(space, 1 + draws.below(4)));
            }
            8 | 9 => {
                if draws.below(2) == 1 {
                    text.push(' ');
                }
                for _ in 0..1 + draws.below(8) {
                    text.push(ascii(b'a', draws.below(26)));
                }
            }
            10 => {
                for _ in 0..1 + draws.below(6) {
                    text.push(ascii(b'0', draws.below(10)));
                }
            }
            _ => text.push_str(draws.of(&self.fragments)?),
        }
        Some(())
    }

    fn category(&self, draws: &mut Draws) -> Option<&Runs> {
        let number = draws.below(CATEGORY_COUNT - 1);
        self.categories.get(if number >= SURROGATES { number + 1 } else { number })
    }
}

fn character(draws: &mut Draws, category: &Runs) -> Option<char> {
    let (first, length) = *draws.of(category)?;
    char::from_u32(first + draws.below(length as usize) as u32)
}

fn ascii(first: u8, offset: usize) -> char {
    char::from(first + offset as u8)
}

/// The table: runs that cover all code points in order, each a length and a category.
fn runs(mut left: &[u8]) -> Option<Vec<Runs>> {
    let mut categories = vec![Runs::new(); CATEGORY_COUNT];
    let mut first = 0u32;
    while first < 0x11_0000 {
        let length = varint(&mut left)?;
        let (category, rest) = left.split_first()?;
        left = rest;
        categories.get_mut(usize::from(*category))?.push((first, length));
        first = first.checked_add(length)?;
    }
    let all = left.is_empty() && first == 0x11_0000;
    (all && categories.iter().all(|runs| !runs.is_empty())).then_some(categories)
}

/// A line with Rust's escapes undone.
fn unescaped(line: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        text.push(match rest.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            '\\' => '\\',
            'u' => {
                let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
            }
            _ => return None,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script that makes the committed vectors draws the same.
    #[test]
    fn the_ten_thousand_strings_are_those_of_the_vectors() {
        let strings = Strings::new().unwrap();
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut bytes = 0;
        for number in 0..10_000 {
            let text = strings.string(number);
            bytes += text.len();
            for byte in text.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        assert_eq!((hash, bytes), (0x1383_8862_b999_bdce, 321_248));
    }
}

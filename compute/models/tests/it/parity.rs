//! The tokenizer against llama.cpp's own, on ten thousand strings of all classes of Unicode.
//!
//! The strings are drawn by the rule in the README beside the vectors; of llama.cpp's ids a digest
//! is kept for each string.

use std::io::Read as _;
use std::path::Path;

use openledger_models::{Model, SpecialTokens};

use crate::support::model_path;

const STRINGS: u64 = 10_000;

fn vectors(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../inference/vectors");
    std::fs::read(folder.join(name)).unwrap()
}

/// Draws of one string: SplitMix64 (Steele, Lea and Flood 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A category, without surrogates.
    fn category(&mut self) -> usize {
        let category = self.below(29);
        if category >= 27 { category + 1 } else { category }
    }

    fn character(&mut self, runs: &Runs, category: usize) -> char {
        let (first, length) = runs[category][self.below(runs[category].len())];
        char::from_u32(first + self.below(length as usize) as u32).unwrap()
    }
}

/// For each category its runs of code points: first and length.
type Runs = Vec<Vec<(u32, u32)>>;

fn runs() -> Runs {
    let mut inflated = Vec::new();
    let packed = vectors("categories.bin");
    flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut inflated).unwrap();
    let mut runs: Runs = vec![Vec::new(); 30];
    let (mut bytes, mut first) = (inflated.into_iter(), 0u32);
    while first < 0x11_0000 {
        let (mut length, mut shift) = (0u32, 0);
        loop {
            let byte = bytes.next().unwrap();
            length |= u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        runs[usize::from(bytes.next().unwrap())].push((first, length));
        first += length;
    }
    runs
}

fn fragments() -> Vec<String> {
    let text = String::from_utf8(vectors("fragments.txt")).unwrap();
    text.lines().map(unescaped).collect()
}

fn unescaped(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        text.push(match rest.next().unwrap() {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            '\\' => '\\',
            'u' => {
                assert_eq!(rest.next(), Some('{'));
                let digits: String = rest.by_ref().take_while(|c| *c != '}').collect();
                char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
            }
            other => panic!("no escape: {other:?}"),
        });
    }
    text
}

fn string(number: u64, runs: &Runs, fragments: &[String]) -> String {
    let mut draws = Draws(number << 32);
    let mut text = String::new();
    for _ in 0..1 + draws.below(12) {
        match draws.below(12) {
            0..=3 => {
                let category = draws.category();
                text.push(draws.character(runs, category));
            }
            4 | 5 => {
                let category = draws.category();
                for _ in 0..1 + draws.below(6) {
                    text.push(draws.character(runs, category));
                }
            }
            6 => text.push(char::from(0x20 + draws.below(95) as u8)),
            7 => {
                let kind = draws.below(6);
                for _ in 0..1 + draws.below(4) {
                    text.push([' ', '\n', '\t', '\r', '\u{a0}', ' '][kind]);
                }
            }
            8 | 9 => {
                if draws.below(2) == 1 {
                    text.push(' ');
                }
                for _ in 0..1 + draws.below(8) {
                    text.push(char::from(b'a' + draws.below(26) as u8));
                }
            }
            10 => {
                for _ in 0..1 + draws.below(6) {
                    text.push(char::from(b'0' + draws.below(10) as u8));
                }
            }
            _ => text.push_str(&fragments[draws.below(fragments.len())]),
        }
    }
    text
}

/// FNV-1a of 64 bits over the ids, folded to 32.
fn digest(ids: &[u32]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in ids.iter().flat_map(|id| id.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    (hash >> 32) as u32 ^ hash as u32
}

#[test]
fn ids_are_those_of_llama_cpp_on_all_classes_of_unicode() {
    let model = Model::open(&model_path()).unwrap();
    let (runs, fragments) = (runs(), fragments());
    let digests = vectors("tokenizer.bin");
    let (digests, _) = digests.as_chunks::<4>();
    assert_eq!(digests.len() as u64, STRINGS);
    let mut wrong = Vec::new();
    for (number, expected) in (0..STRINGS).zip(digests) {
        let text = string(number, &runs, &fragments);
        let special = if number % 2 == 1 { SpecialTokens::Parse } else { SpecialTokens::AsText };
        let ids = model.tokenizer().encode(&text, special);
        if digest(&ids) != u32::from_le_bytes(*expected) {
            wrong.push(format!("{number}: {text:?} became {ids:?}"));
        }
    }
    let shown: Vec<&String> = wrong.iter().take(20).collect();
    assert!(wrong.is_empty(), "{} of {STRINGS} differ: {shown:#?}", wrong.len());
}

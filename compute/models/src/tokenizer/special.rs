//! Tokens that are found in raw text before anything is cut: control tokens, and those that the
//! makers of a model defined.
//!
//! The longest are looked for first, each in all that the longer ones left over, as llama.cpp does.

use super::error::TokenizerError;
use super::vocabulary::{Kind, Vocabulary};
use crate::limits::SPECIAL_TOKENS_MAX;

/// A stretch of raw text, or a token found in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    Text(&'a str),
    Token(u32),
}

/// The special tokens of a vocabulary, the longest first.
#[derive(Clone, Debug)]
pub(super) struct Special {
    ids: Vec<u32>,
    /// Whether white space behind a token belongs to it (Phi-3 and its relatives).
    strips_right: bool,
}

impl Special {
    pub(super) fn new(vocabulary: &Vocabulary, model: &str) -> Result<Self, TokenizerError> {
        let wanted = Kind::CONTROL.with(Kind::USER_DEFINED).with(Kind::UNKNOWN);
        let mut found: Vec<(usize, u32)> = vocabulary
            .iter()
            .filter(|(id, _)| vocabulary.kind(*id).has(wanted))
            .map(|(id, text)| (text.len(), id))
            .collect();
        if found.len() > SPECIAL_TOKENS_MAX {
            return Err(TokenizerError::SpecialTokens { found: found.len() });
        }
        found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let model = model.to_ascii_lowercase();
        let strips_right = model.contains("phi-3") || model.contains("phi3");
        Ok(Self { ids: found.into_iter().map(|(_, id)| id).collect(), strips_right })
    }

    /// Finds them in a text. Without `parses_control`, control tokens are ordinary text.
    pub(super) fn fragments<'a>(
        &self,
        vocabulary: &Vocabulary,
        text: &'a str,
        parses_control: bool,
    ) -> Vec<Fragment<'a>> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(text));
        }
        let pairs = Pairs::of(text);
        for id in &self.ids {
            if !parses_control && vocabulary.kind(*id).has(Kind::CONTROL.with(Kind::UNKNOWN)) {
                continue;
            }
            let may_be_there = |wanted: &&str| pairs.may_have(wanted) && text.contains(wanted);
            let Some(wanted) = vocabulary.text(*id).filter(may_be_there) else { continue };
            let strips = self.strips_right && !matches!(wanted, "<unk>" | "<s>" | "<|endoftext|>");
            let mut next = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                match fragment {
                    Fragment::Text(text) => cut(text, wanted, *id, strips, &mut next),
                    Fragment::Token(_) => next.push(fragment),
                }
            }
            fragments = next;
        }
        fragments
    }
}

/// Which pairs of neighbouring bytes a text has: a look at it passes over nearly all of the
/// thousands of tokens that some makers define, without a search of the text for each.
struct Pairs([u64; 1_024]);

impl Pairs {
    fn of(text: &str) -> Self {
        let mut pairs = Self([0; 1_024]);
        for pair in text.as_bytes().windows(2) {
            let (word, bit) = Self::place(pair);
            if let Some(word) = pairs.0.get_mut(word) {
                *word |= bit;
            }
        }
        pairs
    }

    fn place(pair: &[u8]) -> (usize, u64) {
        let number = pair.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        (number / 64, 1 << (number % 64))
    }

    /// Whether a text with these pairs may have another within it.
    fn may_have(&self, wanted: &str) -> bool {
        wanted.as_bytes().windows(2).all(|pair| {
            let (word, bit) = Self::place(pair);
            self.0.get(word).is_some_and(|word| word & bit != 0)
        })
    }
}

fn cut<'a>(
    mut text: &'a str,
    wanted: &str,
    id: u32,
    strips: bool,
    fragments: &mut Vec<Fragment<'a>>,
) {
    while let Some((before, mut after)) = text.split_once(wanted) {
        if !before.is_empty() {
            fragments.push(Fragment::Text(before));
        }
        fragments.push(Fragment::Token(id));
        if strips {
            after = after.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
        }
        text = after;
    }
    if !text.is_empty() {
        fragments.push(Fragment::Text(text));
    }
}

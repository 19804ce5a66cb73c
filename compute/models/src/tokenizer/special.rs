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
        for id in &self.ids {
            if !parses_control && vocabulary.kind(*id).has(Kind::CONTROL.with(Kind::UNKNOWN)) {
                continue;
            }
            let Some(wanted) = vocabulary.text(*id).filter(|wanted| text.contains(wanted)) else {
                continue;
            };
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

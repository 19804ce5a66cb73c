//! The tokens of a model: their texts, their kinds, and finding one by its text.

use crate::gguf::{Gguf, Texts, required};
use crate::limits::{TOKEN_BYTES_MAX, VOCABULARY_MAX};

use super::error::TokenizerError;

/// What a token is, as flags: a token may be several things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    pub(super) const NORMAL: Self = Self(1);
    pub(super) const UNKNOWN: Self = Self(2);
    pub(super) const CONTROL: Self = Self(4);
    pub(super) const USER_DEFINED: Self = Self(8);
    pub(super) const BYTE: Self = Self(16);
    /// Unused, undefined, or of a number that nobody knows.
    pub(super) const OTHER: Self = Self(0);

    /// The kind of a number in `tokenizer.ggml.token_type`.
    const fn of(number: i64) -> Self {
        match number {
            1 => Self::NORMAL,
            2 => Self::UNKNOWN,
            3 => Self::CONTROL,
            4 => Self::USER_DEFINED,
            6 => Self::BYTE,
            _ => Self::OTHER,
        }
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The tokens of a model.
#[derive(Clone, Debug)]
pub(super) struct Vocabulary {
    texts: Texts,
    kinds: Vec<Kind>,
    scores: Vec<f32>,
    /// All tokens by their texts: the first eight bytes, then the id.
    sorted: Vec<(u64, u32)>,
}

impl Vocabulary {
    pub(super) fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let key = "tokenizer.ggml.tokens";
        let listed = required(key, gguf.texts(key)?)?;
        let mut vocabulary = Self::new(listed.len(), listed.iter())?;
        vocabulary.kinds = kinds(gguf, listed.len())?;
        vocabulary.scores = scores(gguf, listed.len())?;
        Ok(vocabulary)
    }

    /// Tokens by their texts, in the order of their ids, all of them ordinary ones.
    pub(super) fn new<'a>(
        tokens: usize,
        listed: impl Iterator<Item = &'a str>,
    ) -> Result<Self, TokenizerError> {
        if tokens == 0 || tokens > VOCABULARY_MAX {
            return Err(TokenizerError::TokenCount { tokens });
        }
        let mut texts = Texts::with_capacity(tokens);
        for (id, text) in listed.enumerate() {
            if text.len() > TOKEN_BYTES_MAX {
                return Err(TokenizerError::TokenTooLong { id, bytes: text.len() });
            }
            match text {
                "" => texts.push(&format!("[EMPTY_{id}]")),
                _ => texts.push(text),
            };
        }
        let mut sorted: Vec<(u64, u32)> =
            (0u32..).zip(texts.iter()).map(|(id, text)| (prefix(text), id)).collect();
        let text = |id: u32| texts.get(id as usize).unwrap_or_default();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| text(a.1).cmp(text(b.1))));
        for (first, second) in sorted.iter().zip(sorted.iter().skip(1)) {
            if first.0 == second.0 && text(first.1) == text(second.1) {
                return Err(TokenizerError::DuplicateToken { first: first.1, second: second.1 });
            }
        }
        let kinds = vec![Kind::NORMAL; texts.len()];
        Ok(Self { texts, kinds, scores: Vec::new(), sorted })
    }

    pub(super) const fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)
    }

    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or_default()
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: Kind) {
        if let Some(known) = self.kinds.get_mut(id as usize) {
            *known = kind;
        }
    }

    pub(super) fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or_default()
    }

    /// Every id with its text, in order of the ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        (0u32..).zip(self.texts.iter())
    }

    /// The token of a text.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let wanted = prefix(text);
        let key = |id: u32| self.text(id).unwrap_or_default();
        let at = self
            .sorted
            .binary_search_by(|(known, id)| known.cmp(&wanted).then_with(|| key(*id).cmp(text)))
            .ok()?;
        self.sorted.get(at).map(|(_, id)| *id)
    }
}

/// The first eight bytes of a text as a number that sorts like the text; shorter ones are filled
/// with zeros, and told apart by the comparison that follows.
fn prefix(text: &str) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(text.as_bytes()) {
        *to = *from;
    }
    u64::from_be_bytes(bytes)
}

fn kinds(gguf: &Gguf, tokens: usize) -> Result<Vec<Kind>, TokenizerError> {
    let key = "tokenizer.ggml.token_type";
    let Some(numbers) = gguf.integers(key)? else { return Ok(vec![Kind::NORMAL; tokens]) };
    if numbers.len() < tokens {
        return Err(TokenizerError::ListLength { key, found: numbers.len(), wanted: tokens });
    }
    Ok(numbers.iter().take(tokens).map(|number| Kind::of(*number)).collect())
}

fn scores(gguf: &Gguf, tokens: usize) -> Result<Vec<f32>, TokenizerError> {
    let key = "tokenizer.ggml.scores";
    let Some(scores) = gguf.floats(key)? else { return Ok(Vec::new()) };
    if scores.len() < tokens {
        return Err(TokenizerError::ListLength { key, found: scores.len(), wanted: tokens });
    }
    match scores.iter().take(tokens).position(|score| !score.is_finite()) {
        Some(id) => Err(TokenizerError::BadScore { id }),
        // Adding zero makes one zero of two.
        None => Ok(scores.iter().take(tokens).map(|score| *score as f32 + 0.0).collect()),
    }
}

//! Following a constraint along an answer.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::compile::Grammar;
use super::error::{MaskError, shortened};

/// The tokens that may come next, a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    bits: Vec<u32>,
}

impl TokenMask {
    fn new(set: &SimpleVob) -> Self {
        Self { bits: set.as_slice().to_vec() }
    }

    /// Bits of 32 tokens each, the lowest first; tokens beyond them are not allowed.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.bits
    }

    /// Whether a token may come.
    #[must_use]
    pub fn allows(&self, token: u32) -> bool {
        self.bits.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// How many may come.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn forbid(&mut self, token: u32) {
        if let Some(word) = self.bits.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Makes what may not come impossible. What is no number stays, so that it is noticed.
    pub(crate) fn apply(&self, logits: &mut [f32]) {
        let mut words = self.bits.iter();
        for some in logits.chunks_mut(32) {
            let word = words.next().copied().unwrap_or(0);
            for (bit, logit) in some.iter_mut().enumerate() {
                if word >> bit & 1 == 0 && !logit.is_nan() {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// A place in an answer: what came before, as the grammar sees it.
pub(crate) struct Walk {
    matcher: Matcher,
    grammar: Arc<Grammar>,
    /// An end token came: nothing may follow.
    ended: bool,
}

impl Walk {
    /// At the beginning.
    pub(crate) fn new(grammar: &Arc<Grammar>) -> Self {
        Self { matcher: grammar.matcher(), grammar: Arc::clone(grammar), ended: false }
    }

    /// The tokens that may come next.
    pub(crate) fn mask(&mut self) -> Result<TokenMask, MaskError> {
        if self.ended {
            return Err(MaskError::DeadEnd);
        }
        let set = self.matcher.compute_mask_or_eos().map_err(|error| self.failed(&error))?;
        let mut mask = TokenMask::new(&set);
        if !self.may_end()? {
            for end in self.grammar.ends() {
                mask.forbid(*end);
            }
        }
        if mask.count() == 0 { Err(MaskError::DeadEnd) } else { Ok(mask) }
    }

    /// Takes a token; says whether it may come.
    pub(crate) fn take(&mut self, token: u32) -> Result<bool, MaskError> {
        if self.ended {
            return Ok(false);
        }
        if self.grammar.ends().contains(&token) {
            self.ended = self.may_end()?;
            return Ok(self.ended);
        }
        let taken = self.matcher.try_consume_tokens(&[token]);
        taken.map(|count| count == 1).map_err(|error| self.failed(&error))
    }

    /// Whether the answer is whole as it is.
    fn may_end(&mut self) -> Result<bool, MaskError> {
        if self.matcher.is_stopped() && self.matcher.stop_reason().is_ok() {
            return Ok(true);
        }
        self.matcher.is_accepting().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &impl core::fmt::Display) -> MaskError {
        MaskError::TooComplex { reason: shortened(&error.to_string()) }
    }
}

/// A sequence's constraint. Its place is found again from the answer after the sequence had to give
/// its own place up, so that only those that run take memory.
pub(crate) struct Constrained {
    grammar: Arc<Grammar>,
    walk: Option<Walk>,
}

impl core::fmt::Debug for Constrained {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Constrained").field("walks", &self.walk.is_some()).finish_non_exhaustive()
    }
}

impl Constrained {
    pub(crate) const fn new(grammar: Arc<Grammar>) -> Self {
        Self { grammar, walk: None }
    }

    /// The tokens that may come after this answer, whose last token was told by
    /// [`Constrained::took`] or which was never seen.
    pub(crate) fn mask(&mut self, answer: &[u32]) -> Result<TokenMask, MaskError> {
        if self.walk.is_none() {
            self.walk = Some(walk(&self.grammar, answer)?);
        }
        self.walk.as_mut().map_or(Err(MaskError::DeadEnd), Walk::mask)
    }

    /// A token was drawn.
    pub(crate) fn took(&mut self, token: u32) -> Result<(), MaskError> {
        match self.walk.as_mut().map(|walk| walk.take(token)).transpose()? {
            Some(false) => Err(MaskError::DeadEnd),
            _ => Ok(()),
        }
    }

    /// Gives its memory back.
    pub(crate) fn rest(&mut self) {
        self.walk = None;
    }
}

/// The place after an answer that fits.
fn walk(grammar: &Arc<Grammar>, answer: &[u32]) -> Result<Walk, MaskError> {
    let mut walk = Walk::new(grammar);
    for &token in answer {
        if !walk.take(token)? {
            return Err(MaskError::DeadEnd);
        }
    }
    Ok(walk)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use openledger_models::{Model, SpecialTokens};

    use super::*;
    use crate::constraint::{Constraint, Constraints};

    /// The masks before each token of an answer and at its end.
    fn masks(grammar: &Arc<Grammar>, answer: &[u32]) -> Vec<TokenMask> {
        let mut along = Constrained::new(Arc::clone(grammar));
        let mut masks = Vec::new();
        for (at, &token) in answer.iter().enumerate() {
            masks.push(along.mask(&answer[..at]).unwrap());
            assert!(masks[at].allows(token), "{at}");
            along.took(token).unwrap();
        }
        masks.push(along.mask(answer).unwrap());
        masks
    }

    #[test]
    fn masks_are_a_function_of_constraint_and_answer_alone() {
        let path = std::env::var_os("OPENLEDGER_MODEL").unwrap();
        let model = Arc::new(Model::open(Path::new(&path)).unwrap());
        let schema = r#"{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}, "b": {"enum": [1, "x"]}}, "required": ["a"]}"#;
        let constraint = Constraint::JsonSchema(schema.to_owned());
        let text = "{ \"a\": [\"gr\u{fc}n\", \"two words, here\"], \"b\": \"x\"}";
        let answer = model.tokenizer().encode(text, SpecialTokens::AsText);
        let [first, other] = [(); 2].map(|()| Constraints::new(Arc::clone(&model)));
        let grammar = first.grammar(&constraint).unwrap();
        let known = masks(&grammar, &answer);
        // Compiled again, and with the first one's caches warm.
        assert_eq!(masks(&other.grammar(&constraint).unwrap(), &answer), known);
        assert_eq!(masks(&grammar, &answer), known);
        let mut along = Constrained::new(grammar);
        for (at, mask) in known.iter().enumerate() {
            along.rest();
            assert_eq!(along.mask(&answer[..at]).unwrap(), *mask, "begun again at {at}");
        }
        // The end is allowed at the end, and nothing else is but blanks.
        let ends: Vec<u32> = model.tokenizer().end_tokens().collect();
        let (last, before) = known.split_last().unwrap();
        assert!(ends.iter().all(|end| last.allows(*end)));
        assert!(before.iter().all(|mask| !ends.iter().any(|end| mask.allows(*end))));
    }

    #[test]
    fn what_is_not_allowed_becomes_impossible_and_no_number_stays_one() {
        let mask = TokenMask { bits: vec![0b101] };
        let mut logits = vec![1.0; 40];
        logits[1] = f32::NAN;
        mask.apply(&mut logits);
        assert_eq!((logits[0], logits[2], logits[3]), (1.0, 1.0, f32::NEG_INFINITY));
        assert!(logits[1].is_nan() && logits[39] == f32::NEG_INFINITY);
        assert_eq!((mask.count(), mask.allows(2), mask.allows(32)), (2, true, false));
    }
}

//! How tokens are drawn: what a request says of it, and what it makes of the logits before.

mod drawing;
mod narrow;

pub use drawing::{Drawn, SampleError, draw, sample, sample_allowed};
pub(crate) use drawing::{candidates, likeliest, likeliest_of};
pub(crate) use narrow::{Likeliest, sample_likeliest};

use std::borrow::Cow;
use std::collections::BTreeMap;

use thiserror::Error;

use crate::constraint::TokenMask;
use crate::limits::{
    LOGIT_BIAS_MAX, LOGIT_BIASES_MAX, PENALTY_MAX, REPETITION_PENALTY_MAX, TEMPERATURE_MAX,
};
use crate::prune::Pruning;

/// How tokens are drawn. Biases come first, then the penalty for repetition, then those for presence
/// and frequency, then what a constraint forbids, then the temperature, then min-p, top-k and top-p.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token (the lowest id among equals); 1 draws as the model says; more
    /// is more daring.
    pub temperature: f32,
    /// Draws from the likeliest tokens that together have this share; 1 is all.
    pub top_p: f32,
    /// Draws from this many of the likeliest tokens; 0 is all. Applied before `top_p`.
    pub top_k: usize,
    /// Draws from the tokens that are at least this share as likely as the likeliest; 0 is all.
    /// Applied before `top_k`, after the temperature (as vLLM does).
    pub min_p: f32,
    /// The seed of all draws of a request.
    pub seed: [u8; 32],
    /// Taken from the logit of each token that the answer already holds.
    pub presence_penalty: f32,
    /// Taken from the logit of each token as often as the answer already holds it.
    pub frequency_penalty: f32,
    /// The logits of tokens that prompt or answer hold are divided by it where positive and
    /// multiplied with it where negative; 1 changes nothing (Keskar et al. 2019, with the whole
    /// prompt as vLLM takes it).
    pub repetition_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: BTreeMap<u32, f32>,
}

/// What penalties look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History<'a> {
    /// The prompt.
    pub prompt: &'a [u32],
    /// The answer so far.
    pub answer: &'a [u32],
}

/// Why a way of drawing was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SamplingError {
    /// The temperature.
    #[error("temperature {0} is not between 0 and {TEMPERATURE_MAX}")]
    Temperature(f32),
    /// The share.
    #[error("top_p {0} is not above 0 and at most 1")]
    TopP(f32),
    /// A penalty.
    #[error("{name} penalty {value} is not between -{PENALTY_MAX} and {PENALTY_MAX}")]
    Penalty {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f32,
    },
    /// The least share of the likeliest.
    #[error("min_p {0} is not between 0 and 1")]
    MinP(f32),
    /// The penalty for repetition.
    #[error(
        "repetition penalty {0} is not between {least} and {REPETITION_PENALTY_MAX}",
        least = 1.0 / REPETITION_PENALTY_MAX
    )]
    Repetition(f32),
    /// A bias.
    #[error(
        "the bias {bias} of token {token} is not between -{LOGIT_BIAS_MAX} and {LOGIT_BIAS_MAX}"
    )]
    Bias {
        /// Whose.
        token: u32,
        /// Its value.
        bias: f32,
    },
    /// Too many biases.
    #[error("{asked} tokens with a bias, at most {LOGIT_BIASES_MAX} are possible")]
    Biases {
        /// How many.
        asked: usize,
    },
    /// A bias for a token that the model does not have.
    #[error("token {token}, which has a bias, is not among the model's {vocab}")]
    UnknownToken {
        /// Which.
        token: u32,
        /// Tokens of the model.
        vocab: usize,
    },
}

impl Sampling {
    /// Always the likeliest token.
    #[must_use]
    pub const fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: [0; 32],
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: BTreeMap::new(),
        }
    }

    /// As the model says, by this seed.
    #[must_use]
    pub fn seeded(temperature: f32, seed: [u8; 32]) -> Self {
        Self { temperature, seed, ..Self::greedy() }
    }

    /// Checks that all numbers are within their ranges.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), SamplingError> {
        if !(0.0..=TEMPERATURE_MAX).contains(&self.temperature) {
            return Err(SamplingError::Temperature(self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(SamplingError::TopP(self.top_p));
        }
        for (name, value) in
            [("presence", self.presence_penalty), ("frequency", self.frequency_penalty)]
        {
            if !(-PENALTY_MAX..=PENALTY_MAX).contains(&value) {
                return Err(SamplingError::Penalty { name, value });
            }
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(SamplingError::MinP(self.min_p));
        }
        let most = REPETITION_PENALTY_MAX;
        if !(1.0 / most..=most).contains(&self.repetition_penalty) {
            return Err(SamplingError::Repetition(self.repetition_penalty));
        }
        let asked = self.logit_bias.len();
        if asked > LOGIT_BIASES_MAX {
            return Err(SamplingError::Biases { asked });
        }
        let wrong = |bias: &f32| !(-LOGIT_BIAS_MAX..=LOGIT_BIAS_MAX).contains(bias);
        match self.logit_bias.iter().find(|(_, bias)| wrong(bias)) {
            Some((&token, &bias)) => Err(SamplingError::Bias { token, bias }),
            None => Ok(()),
        }
    }

    /// Checks that a model of so many tokens has those that are named.
    pub(crate) fn check_tokens(&self, vocab: usize) -> Result<(), SamplingError> {
        match self.logit_bias.last_key_value() {
            Some((&token, _)) if token as usize >= vocab => {
                Err(SamplingError::UnknownToken { token, vocab })
            }
            _ => Ok(()),
        }
    }

    /// Which tokens take part.
    pub(crate) const fn pruning(&self) -> Pruning {
        Pruning { min_p: self.min_p, top_k: self.top_k, top_p: self.top_p }
    }

    /// By how much [`Sampling::adjusted`] may widen a difference of logits: the steeper side of the
    /// penalty for repetition.
    pub(crate) const fn stretch(&self) -> f32 {
        self.repetition_penalty.max(1.0 / self.repetition_penalty)
    }

    /// The logits after biases, penalties and what is not allowed.
    pub(crate) fn allowed<'a>(
        &self,
        logits: &'a [f32],
        history: History<'_>,
        mask: Option<&TokenMask>,
    ) -> Cow<'a, [f32]> {
        let mut adjusted = self.adjusted(logits, history);
        if let Some(mask) = mask {
            mask.apply(adjusted.to_mut());
        }
        adjusted
    }

    /// The logits after biases and penalties.
    pub(crate) fn adjusted<'a>(&self, logits: &'a [f32], history: History<'_>) -> Cow<'a, [f32]> {
        let counted = self.presence_penalty != 0.0 || self.frequency_penalty != 0.0;
        let repeats = self.repetition_penalty != 1.0;
        if !counted && !repeats && self.logit_bias.is_empty() {
            return Cow::Borrowed(logits);
        }
        let mut logits = logits.to_vec();
        for (&token, bias) in &self.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        if repeats {
            self.penalise_repetition(&mut logits, history);
        }
        if counted {
            let mut counts = BTreeMap::<u32, u16>::new();
            for &token in history.answer {
                let count = counts.entry(token).or_default();
                *count = count.saturating_add(1);
            }
            for (token, count) in counts {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit -= self.presence_penalty + self.frequency_penalty * f32::from(count);
                }
            }
        }
        Cow::Owned(logits)
    }

    fn penalise_repetition(&self, logits: &mut [f32], history: History<'_>) {
        let mut seen = vec![false; logits.len()];
        for &token in history.prompt.iter().chain(history.answer) {
            if let Some(seen) = seen.get_mut(token as usize) {
                *seen = true;
            }
        }
        for (logit, _) in logits.iter_mut().zip(seen).filter(|(_, seen)| *seen) {
            let penalty = self.repetition_penalty;
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

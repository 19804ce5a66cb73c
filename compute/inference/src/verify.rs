//! Whether an answer is the one that a request's seed draws.
//!
//! One prefill over prompt and answer gives the logits at every position; since sampling is a pure
//! function of logits, seed and position, each token can be checked on its own. Another backend's
//! logits differ a little, so a token is accepted if some logits within a [`Tolerance`] of ours
//! draw it. A prefill of the right model over another model's text does not pass: that text is not
//! what the seed draws. Where the request has a constraint, it is followed along the answer: what
//! it forbids is not drawn from any logits.
//!
//! One rejection proves nothing by itself; who rules calls further verifiers.

use core::ops::ControlFlow;

use openledger_kernels::fused::KvFormat;
use openledger_kernels::math::exp_f64;
use thiserror::Error;

use crate::backend::RowOutput;
use crate::class::{BackendKind, of_class};
use crate::constraint::{ConstraintError, MaskError, TokenMask, Walk};
use crate::engine::Engine;
use crate::fingerprint::compare::FingerprintTolerance;
use crate::plan::Wants;
use crate::prune::{Candidate, reach};
use crate::request::{Request, SubmitError};
use crate::sampling::{History, SampleError, Sampling, candidates, draw, likeliest};
use crate::score::ScoreError;
use crate::text::TextStream;

/// How far what an honest node computed may lie from what we compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Largest difference of a logit.
    pub logit: f32,
    /// What fingerprints stay within.
    pub fingerprint: FingerprintTolerance,
}

impl Tolerance {
    /// Reference backend against reference backend. They are made to agree bit for bit (measured:
    /// 0 difference between decoding and prefill, with one thread and two, in both copies of the
    /// kernels); this leaves room for a compiler that rounds one operation otherwise.
    pub const REFERENCE: Self = Self {
        logit: 0.001,
        fingerprint: FingerprintTolerance { distance: 0.001, noise: 0.0001, sigmas: 5.0 },
    };

    /// Two classes of which one rounds activations to 12 bits, or adapters to 8. Measured: chunks
    /// are 0.0016 to 0.0025 apart.
    pub const ROUNDED: Self = Self {
        logit: 0.15,
        fingerprint: FingerprintTolerance { distance: 0.008, noise: 0.0025, sigmas: 5.0 },
    };

    /// An answer that was written over keys and values of 8 bits, or with activations of which most
    /// have 8. Measured: chunks are 0.012 to 0.023 apart, and 0.011.
    pub const NARROW_KV: Self = Self {
        logit: 0.5,
        fingerprint: FingerprintTolerance { distance: 0.05, noise: 0.02, sigmas: 5.0 },
    };

    /// What an answer of class `written` stays within when an engine of class `checked` checks it;
    /// nothing for a class that this build does not know, and for a checker that keeps keys and
    /// values, or most activations, in 8 bits: its own noise would hide a weak adapter, so it judges
    /// its own class alone. Devices of one class that is not exact differ as two classes do.
    /// It is the rules that say which classes may be compared, not a node.
    #[must_use]
    pub fn between(written: &str, checked: &str) -> Option<Self> {
        let ((writer, writes, _), (checker, checks, _)) = (of_class(written)?, of_class(checked)?);
        match (writes, checks) {
            _ if written == checked && writer.exact() => Some(Self::REFERENCE),
            (_, KvFormat::Q8) => None,
            _ if checker == BackendKind::Int12 => None,
            (KvFormat::Q8, _) => Some(Self::NARROW_KV),
            _ if writer == BackendKind::Int12 => Some(Self::NARROW_KV),
            _ => Some(Self::ROUNDED),
        }
    }
}

/// Room for the rounding of sums of chances.
const CHANCE_SLACK: f64 = 1e-9;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verification {
    /// Every token is one that could be drawn, and the answer ends where it must.
    pub accepted: bool,
    /// The first token that could not be drawn; the answer's length if it ends too early.
    pub first_mismatch: Option<usize>,
    /// By how much the worst token passed, or failed if negative: in logits for greedy requests, in
    /// probability for others. 0 if no token was looked at.
    pub worst_margin: f32,
}

/// Why an answer could not be checked. This says nothing about the answer.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The request is not one that this engine could serve.
    #[error("verify an answer: {0}")]
    Request(#[from] SubmitError),
    /// The tokens could not be run.
    #[error("verify an answer: {0}")]
    Score(#[from] ScoreError),
    /// Our own logits are broken.
    #[error("verify an answer: {0}")]
    Sample(#[from] SampleError),
    /// The request's constraint.
    #[error("verify an answer: {0}")]
    Constraint(#[from] ConstraintError),
    /// The constraint could not be followed as far as the answer goes.
    #[error("verify an answer: {0}")]
    Mask(#[from] MaskError),
    /// A tolerance that makes no sense.
    #[error("verify an answer: the tolerance {0} is not a number from 0 to 1")]
    Tolerance(f32),
}

impl Engine {
    /// Checks an answer to a request: all its tokens, an end token included.
    ///
    /// # Errors
    /// A request that this engine could not serve, or a backend that failed: nothing is then known
    /// of the answer.
    pub fn verify(
        &mut self,
        request: &Request,
        claimed: &[u32],
        tolerance: Tolerance,
    ) -> Result<Verification, VerifyError> {
        self.verify_tokens(request, claimed, tolerance, &mut |_, _| ())
    }

    /// Checks the tokens, and shows the hidden state that each was drawn from, with the token's
    /// index in its sequence.
    pub(crate) fn verify_tokens(
        &mut self,
        request: &Request,
        claimed: &[u32],
        tolerance: Tolerance,
        states: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<Verification, VerifyError> {
        if !(0.0..=1.0).contains(&tolerance.logit) {
            return Err(VerifyError::Tolerance(tolerance.logit));
        }
        self.check(request)?;
        let mut walk = self.grammar(request)?.map(|grammar| Walk::new(&grammar));
        let shape = self.end_of(request, claimed);
        let mut worst = f64::INFINITY;
        let mut mismatch = None;
        // Tokens past the end, or that the model does not have, need no look.
        let vocab = self.model.config().vocab;
        let known = claimed.iter().take_while(|token| (**token as usize) < vocab).count();
        let checked = claimed.get(..known.min(shape.unwrap_or(known))).unwrap_or_default();
        if let Some((_, fed)) = checked.split_last() {
            let tokens: Vec<u32> = request.prompt.iter().chain(fed).copied().collect();
            let first = request.prompt.len() - 1;
            let mut broken = None;
            let (adapters, merge) = (&request.adapters, request.merge);
            let wants = Wants::Logits;
            self.each_output(&tokens, adapters, merge, first, wants, &mut |position, output| {
                let RowOutput::Logits { logits, hidden } = output else {
                    return ControlFlow::Continue(());
                };
                states(position + 1, &hidden);
                let index = position - first;
                match judge(&logits, request, checked, index, walk.as_mut(), tolerance) {
                    Ok(margin) => {
                        worst = worst.min(margin);
                        if margin < 0.0 {
                            mismatch = Some(index);
                            return ControlFlow::Break(());
                        }
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        broken = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
            if let Some(error) = broken {
                return Err(error);
            }
        }
        let unknown = (known < claimed.len()).then_some(known);
        let first_mismatch = mismatch.or(match (unknown, shape) {
            (Some(unknown), Some(shape)) => Some(unknown.min(shape)),
            (unknown, shape) => unknown.or(shape),
        });
        let worst_margin = if worst.is_finite() { worst as f32 } else { 0.0 };
        Ok(Verification { accepted: first_mismatch.is_none(), first_mismatch, worst_margin })
    }

    /// Where an answer fails to end as it must: the first token after its end, or its length if it
    /// is cut off.
    fn end_of(&self, request: &Request, claimed: &[u32]) -> Option<usize> {
        let tokenizer = self.model.tokenizer();
        let mut text = TextStream::new(request.stop.clone());
        for (index, &token) in claimed.iter().enumerate() {
            let ends = !request.ignore_end && tokenizer.is_end(token);
            let last = index + 1 >= request.tokens_max;
            if ends || text.push(tokenizer, token).stopped || last {
                let next = index + 1;
                return (next < claimed.len()).then_some(next);
            }
        }
        Some(claimed.len())
    }
}

/// By how much the answer's token at `index` passes; follows the constraint over it if it does.
fn judge(
    logits: &[f32],
    request: &Request,
    answer: &[u32],
    index: usize,
    walk: Option<&mut Walk>,
    tolerance: Tolerance,
) -> Result<f64, VerifyError> {
    let (before, rest) = answer.split_at(index.min(answer.len()));
    let history = History { prompt: &request.prompt, answer: before };
    let token = rest.first().copied().unwrap_or(u32::MAX);
    let position = (request.prompt.len() + index) as u64;
    let sampling = &request.sampling;
    let Some(walk) = walk else {
        return Ok(margin(logits, sampling, history, position, token, tolerance, None)?);
    };
    let mask = walk.mask()?;
    if !mask.allows(token) {
        return Ok(-1.0);
    }
    let margin = margin(logits, sampling, history, position, token, tolerance, Some(&mask))?;
    Ok(if walk.take(token)? { margin } else { -1.0 })
}

/// By how much a token passes at a position; negative if no logits within the tolerance draw it.
fn margin(
    logits: &[f32],
    sampling: &Sampling,
    history: History<'_>,
    position: u64,
    token: u32,
    tolerance: Tolerance,
    mask: Option<&TokenMask>,
) -> Result<f64, SampleError> {
    let adjusted = sampling.allowed(logits, history, mask);
    let (_, top) = likeliest(&adjusted)?;
    // Biases and the other penalties move all logits of a token alike.
    let slack = f64::from(tolerance.logit) * f64::from(sampling.stretch());
    if sampling.temperature == 0.0 {
        let own = adjusted.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        // A token tied with the best within the slack may be the best; equals go by the lowest id,
        // which a difference within the slack can change too.
        return Ok(f64::from(own) - f64::from(top) + 2.0 * slack);
    }
    let candidates = candidates(&adjusted, top, sampling.temperature);
    let slack = slack / f64::from(sampling.temperature);
    Ok(interval_margin(&candidates, sampling, position, token, slack))
}

/// How deep the random number of a position lies in a token's interval of the cumulative
/// distribution, the interval widened by what `slack` (in scaled logits) can move its ends.
pub(crate) fn interval_margin(
    candidates: &[Candidate],
    sampling: &Sampling,
    position: u64,
    token: u32,
    slack: f64,
) -> f64 {
    let reach = reach(candidates, sampling.pruning(), slack);
    let (mut own, mut before, mut after) = (None, [0.0; 2], [0.0; 2]);
    for candidate in candidates {
        let certain = if candidate.scaled >= reach.certain { candidate.chance } else { 0.0 };
        let possible = if candidate.scaled >= reach.possible { candidate.chance } else { 0.0 };
        let side = match candidate.token.cmp(&token) {
            core::cmp::Ordering::Less => &mut before,
            core::cmp::Ordering::Greater => &mut after,
            core::cmp::Ordering::Equal => {
                own = Some(possible);
                continue;
            }
        };
        side[0] += certain;
        side[1] += possible;
    }
    let Some(own) = own.filter(|own| *own > 0.0) else { return -1.0 };
    let (up, down) = (exp_f64(slack), exp_f64(-slack));
    let own = own * up;
    let lowest = before[0] * down / (before[0] * down + own + after[1] * up);
    let highest = (before[1] * up + own) / (before[1] * up + own + after[0] * down);
    let number = draw(&sampling.seed, position);
    (number - lowest).min(highest - number) + CHANCE_SLACK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::sample;

    fn logits(seed: u64) -> Vec<f32> {
        let value = |i: u64| {
            let mixed = (i + seed * 1_000).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed >> 40) as f32 / (1u64 << 21) as f32
        };
        (0..500).map(value).collect()
    }

    fn samplings() -> Vec<Sampling> {
        let base = |seed| Sampling::seeded(0.8, [seed; 32]);
        vec![
            Sampling::greedy(),
            base(1),
            Sampling { top_k: 20, ..base(2) },
            Sampling { top_p: 0.8, ..base(3) },
            Sampling { top_k: 50, top_p: 0.9, temperature: 1.5, ..base(4) },
            Sampling { presence_penalty: 1.0, frequency_penalty: 0.5, ..base(5) },
            Sampling { min_p: 0.2, ..base(6) },
            Sampling { min_p: 0.05, top_k: 80, top_p: 0.9, ..base(7) },
            Sampling { repetition_penalty: 1.3, ..base(8) },
            Sampling { repetition_penalty: 0.7, min_p: 0.1, ..base(9) },
            Sampling { repetition_penalty: 1.8, ..Sampling::greedy() },
            Sampling { logit_bias: (0..300).map(|t| (t, t as f32 / 100.0)).collect(), ..base(10) },
        ]
    }

    #[test]
    fn what_was_drawn_passes_even_from_logits_that_differ_within_the_tolerance() {
        for sampling in samplings() {
            for position in 0..200u64 {
                let theirs = logits(position);
                let said: Vec<u32> = (0..position as u32).map(|i| i * 7 % 500).collect();
                let (prompt, answer) = said.split_at(said.len() / 2);
                let history = History { prompt, answer };
                let token = sample(&theirs, &sampling, history, position).unwrap().token;
                for (tolerance, noise) in [(0.0, 0.0), (0.02, 0.019)] {
                    let sign = |i: usize| ((i * 31 + position as usize) % 3) as f32 - 1.0;
                    let ours: Vec<f32> =
                        theirs.iter().enumerate().map(|(i, l)| l + sign(i) * noise).collect();
                    let tolerance = Tolerance { logit: tolerance, ..Tolerance::REFERENCE };
                    let margin =
                        margin(&ours, &sampling, history, position, token, tolerance, None)
                            .unwrap();
                    assert!(margin >= 0.0, "{sampling:?} at {position}: {margin}");
                }
            }
        }
    }

    #[test]
    fn another_token_or_seed_fails() {
        for sampling in samplings() {
            let (mut others, mut seeds) = (0, 0);
            for position in 0..200u64 {
                let logits = logits(position);
                let nothing = History::default();
                let token = sample(&logits, &sampling, nothing, position).unwrap().token;
                let other = (token + 250) % 500;
                let check = |sampling: &Sampling, token| {
                    let tolerance = Tolerance::REFERENCE;
                    margin(&logits, sampling, nothing, position, token, tolerance, None).unwrap()
                };
                others += usize::from(check(&sampling, other) < 0.0);
                let reseeded = Sampling { seed: [99; 32], ..sampling.clone() };
                seeds += usize::from(check(&reseeded, token) < 0.0);
            }
            assert!(others >= 197, "{sampling:?}: {others}");
            assert!(seeds >= 120 || sampling.temperature == 0.0, "{sampling:?}: {seeds}");
        }
    }
}

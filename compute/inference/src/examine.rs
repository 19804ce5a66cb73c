//! What running somebody's answer through the model says of it, in numbers.
//!
//! [`Engine::verify_claim`] comes to a verdict; this does not. Whoever checks work for a network
//! must not be asked for a yes or a no, which cost nothing, but for numbers that he cannot have
//! without doing the work, and that others can hold against the answer's own. So the answer's
//! log-probabilities and fingerprint are no arguments here, and there is no tolerance.

use core::ops::ControlFlow;

use openledger_kernels::reference::log_sum_exp;

use crate::backend::RowOutput;
use crate::engine::Engine;
use crate::fingerprint::{Fingerprint, Sketch, sketch};
use crate::limits::ADAPTER_WEIGHT_MAX;
use crate::plan::Wants;
use crate::request::Request;
use crate::sampling::{History, SampleError, Sampling, candidates, likeliest};
use crate::score::ScoreError;
use crate::verify::{VerifyError, interval_margin};

/// Slacks above this are not told apart: no rounding gets near them.
pub const SLACK_MAX: f64 = 16.0;

/// Halvings in the search for a slack: down to less than a millionth of a logit.
const HALVINGS: u32 = 24;

/// What was found of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Of each token the natural logarithm of its probability under the model at temperature 1.
    pub logprobs: Vec<f32>,
    /// Of each token by how much logits would have to differ from ours for the request's sampler to
    /// draw it: 0 for the one that it draws, [`SLACK_MAX`] for what comes after the answer's end.
    pub slacks: Vec<f64>,
    /// Whether its last token ends an answer.
    pub ends: bool,
    /// Of all its tokens.
    pub fingerprint: Fingerprint,
    /// What the request's adapters together add to the numbers of the fingerprint; nothing if it
    /// names none.
    pub effect: Option<Fingerprint>,
}

impl Engine {
    /// Runs prompt and answer in one prefill, and twice more if the request names adapters.
    ///
    /// # Errors
    /// A request that this engine could not serve, an answer that it has no room for, or a backend
    /// that failed. This says nothing about the answer.
    pub fn examine(&mut self, request: &Request, answer: &[u32]) -> Result<Findings, VerifyError> {
        self.check(request)?;
        let vocab = self.model.config().vocab;
        // What the model does not have cannot be run; something else is, and nobody draws it.
        let run: Vec<u32> =
            answer.iter().map(|&token| if (token as usize) < vocab { token } else { 0 }).collect();
        let Some((&last, fed)) = run.split_last() else { return Ok(Findings::default()) };
        let is_end = |token: &u32| !request.ignore_end && self.model.tokenizer().is_end(*token);
        let ended = answer.iter().position(is_end).unwrap_or(answer.len());
        let mut found = Findings { ends: is_end(&last), ..Findings::default() };
        let tokens: Vec<u32> = request.prompt.iter().chain(fed).copied().collect();
        let first = request.prompt.len().saturating_sub(1);
        let (mut own, mut broken) = (Vec::with_capacity(run.len()), None);
        let (adapters, merge) = (&request.adapters, request.merge);
        self.each_output(
            &tokens,
            adapters,
            merge,
            first,
            Wants::Logits,
            &mut |position, output| {
                let RowOutput::Logits { logits, hidden } = output else {
                    return ControlFlow::Continue(());
                };
                own.push(sketch(&hidden, position as u64 + 1));
                let index = position.saturating_sub(first);
                let token = answer.get(index).copied().unwrap_or(u32::MAX);
                let logit = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
                found.logprobs.push(logit - log_sum_exp(&logits));
                let before = run.get(..index).unwrap_or_default();
                let history = History { prompt: &request.prompt, answer: before };
                let at = position as u64 + 1;
                let slack = match slack(&logits, &request.sampling, history, at, token) {
                    _ if index > ended => SLACK_MAX,
                    Ok(slack) => slack,
                    Err(error) => {
                        broken = Some(error);
                        return ControlFlow::Break(());
                    }
                };
                found.slacks.push(slack);
                ControlFlow::Continue(())
            },
        )?;
        if let Some(error) = broken {
            return Err(error.into());
        }
        found.fingerprint = Fingerprint::new(&own);
        found.effect = self.effect_of_all(request, &run)?;
        Ok(found)
    }

    /// What all adapters of a request add to an answer's sketches: half of what lies between twice
    /// of them and none. Neither run is the one that the fingerprint is from, else its noise would
    /// be in both.
    fn effect_of_all(
        &mut self,
        request: &Request,
        answer: &[u32],
    ) -> Result<Option<Fingerprint>, ScoreError> {
        let heaviest =
            request.adapters.iter().fold(0.0f32, |top, (_, weight)| top.max(weight.abs()));
        if request.adapters.is_empty() {
            return Ok(None);
        }
        let factor = if heaviest * 2.0 <= ADAPTER_WEIGHT_MAX { 2.0 } else { 0.5 };
        let scaled: Vec<_> =
            request.adapters.iter().map(|(id, weight)| (*id, weight * factor)).collect();
        let with = self.sketches(request, answer, &scaled)?;
        let without = self.sketches(request, answer, &[])?;
        let added = |(with, without): (&Sketch, &Sketch)| -> Sketch {
            core::array::from_fn(|i| match (with.get(i), without.get(i)) {
                (Some(with), Some(without)) => (with - without) / factor,
                _ => 0.0,
            })
        };
        let effect: Vec<Sketch> = with.iter().zip(&without).map(added).collect();
        Ok(Some(Fingerprint::new(&effect)))
    }
}

/// The least difference of logits with which a token is drawn at a position.
fn slack(
    logits: &[f32],
    sampling: &Sampling,
    history: History<'_>,
    position: u64,
    token: u32,
) -> Result<f64, SampleError> {
    let adjusted = sampling.adjusted(logits, history);
    let (best, top) = likeliest(&adjusted)?;
    let stretch = f64::from(sampling.stretch());
    if sampling.temperature == 0.0 {
        let own = adjusted.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        // The token may rise and the best one fall.
        let apart = (f64::from(top) - f64::from(own)) / 2.0 / stretch;
        return Ok(if token == best { 0.0 } else { apart.min(SLACK_MAX) });
    }
    let temperature = f64::from(sampling.temperature);
    let candidates = candidates(&adjusted, top, sampling.temperature);
    let draws = |slack: f64| {
        let slack = slack * stretch / temperature;
        interval_margin(&candidates, sampling, position, token, slack) >= 0.0
    };
    if draws(0.0) {
        return Ok(0.0);
    }
    if !draws(SLACK_MAX) {
        return Ok(SLACK_MAX);
    }
    let (mut low, mut high) = (0.0, SLACK_MAX);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if draws(middle) { high = middle } else { low = middle }
    }
    Ok(high)
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

    /// What verifiers rely on: an honest answer's slack is at most what its logits were off, and
    /// two who check see slacks that differ by at most what theirs do.
    #[test]
    fn a_slack_is_never_more_than_the_difference_of_logits() {
        let samplings =
            [Sampling::greedy(), Sampling::seeded(0.8, [1; 32]), Sampling::seeded(1.4, [2; 32])];
        for sampling in samplings {
            let mut moved = 0;
            for position in 0..200 {
                let (theirs, nothing) = (logits(position), History::default());
                let token = sample(&theirs, &sampling, nothing, position).unwrap().token;
                assert_eq!(slack(&theirs, &sampling, nothing, position, token), Ok(0.0));
                let sign = |i: usize| ((i * 31 + position as usize) % 3) as f32 - 1.0;
                let ours: Vec<f32> =
                    theirs.iter().enumerate().map(|(i, l)| l + sign(i) * 0.05).collect();
                let found = slack(&ours, &sampling, nothing, position, token).unwrap();
                assert!(found <= 0.0501, "{sampling:?} at {position}: {found}");
                moved += usize::from(found > 0.0);
                let other = (token + 250) % 500;
                let here = slack(&theirs, &sampling, nothing, position, other).unwrap();
                let there = slack(&ours, &sampling, nothing, position, other).unwrap();
                assert!(here > 0.0 && (here - there).abs() <= 0.0501, "{here} and {there}");
            }
            assert!(moved > 0, "{sampling:?}");
        }
    }

    #[test]
    fn what_nobody_draws_has_the_largest_slack() {
        let (logits, nothing) = (logits(1), History::default());
        for sampling in [Sampling::greedy(), Sampling::seeded(0.8, [1; 32])] {
            assert_eq!(slack(&logits, &sampling, nothing, 1, 500), Ok(SLACK_MAX));
        }
    }
}

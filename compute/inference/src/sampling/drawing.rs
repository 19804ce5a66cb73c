//! Drawing tokens: a pure function of logits, seed and position.
//!
//! There is no generator with a state: the random number of a position is a hash of seed and
//! position, so anyone who holds the seed can repeat or check any draw on its own. The
//! distribution is laid out by token id, not by probability, because ids do not move
//! when another machine's logits differ in their last digits.

use openledger_kernels::math::exp_f64;
use openledger_kernels::reference::log_sum_exp;
use thiserror::Error;

use super::{History, Sampling};
use crate::constraint::TokenMask;
use crate::limits::LOGIT_REACH;
use crate::prune::{Candidate, prune};

/// Domain of the random numbers.
const SAMPLER_DOMAIN: &str = "openledger sampler v1";

/// Why no token could be drawn.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleError {
    /// Logits without a largest number: the weights, an adapter or the device are broken.
    #[error(
        "the model's output holds no number or one that is not finite; check the model file and the adapters"
    )]
    NotFinite,
}

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability under the model itself: temperature 1, all tokens, no
    /// biases or penalties.
    pub logprob: f32,
}

/// The random number of a position, in `[0, 1)`: 53 bits of a hash keyed by the seed.
#[must_use]
pub fn draw(seed: &[u8; 32], position: u64) -> f64 {
    let key = blake3::derive_key(SAMPLER_DOMAIN, seed);
    let hash = blake3::keyed_hash(&key, &position.to_le_bytes());
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

/// The likeliest token, the lowest id among equals, if all logits are numbers.
pub(crate) fn likeliest(logits: &[f32]) -> Result<(u32, f32), SampleError> {
    let mut best = (0, f32::NEG_INFINITY);
    let mut sound = true;
    for (token, &logit) in logits.iter().enumerate() {
        sound &= !logit.is_nan();
        if logit > best.1 {
            best = (token as u32, logit);
        }
    }
    if sound && best.1.is_finite() { Ok(best) } else { Err(SampleError::NotFinite) }
}

/// The tokens within reach of `top`, by id, with their chances relative to its.
pub(crate) fn candidates(logits: &[f32], top: f32, temperature: f32) -> Vec<Candidate> {
    let tokens = logits.iter().enumerate().map(|(token, logit)| (token as u32, *logit));
    candidates_of(tokens, top, temperature)
}

/// The same of tokens with their logits, by id.
pub(super) fn candidates_of(
    tokens: impl Iterator<Item = (u32, f32)>,
    top: f32,
    temperature: f32,
) -> Vec<Candidate> {
    let scaled = |logit: f32| (f64::from(logit) - f64::from(top)) / f64::from(temperature);
    let within = |(token, logit): (u32, f32)| {
        let scaled = scaled(logit);
        (scaled > -LOGIT_REACH).then(|| Candidate { token, scaled, chance: exp_f64(scaled) })
    };
    tokens.filter_map(within).collect()
}

/// Draws one of the candidates, which come in the order of their ids; nothing if there are none.
pub(super) fn drawn_among(
    mut candidates: Vec<Candidate>,
    sampling: &Sampling,
    position: u64,
) -> Option<u32> {
    prune(&mut candidates, sampling.pruning());
    let total: f64 = candidates.iter().map(|candidate| candidate.chance).sum();
    let target = draw(&sampling.seed, position) * total;
    let mut below = 0.0;
    let drawn = candidates.iter().find(|candidate| {
        below += candidate.chance;
        below > target
    });
    drawn.or(candidates.last()).map(|candidate| candidate.token)
}

/// Draws the token at `position` of a sequence that holds `history`.
///
/// # Errors
/// Logits that are no numbers.
pub fn sample(
    logits: &[f32],
    sampling: &Sampling,
    history: History<'_>,
    position: u64,
) -> Result<Drawn, SampleError> {
    sample_allowed(logits, sampling, history, position, None)
}

/// The same among the tokens that a constraint allows.
///
/// # Errors
/// Logits that are no numbers.
pub fn sample_allowed(
    logits: &[f32],
    sampling: &Sampling,
    history: History<'_>,
    position: u64,
    mask: Option<&TokenMask>,
) -> Result<Drawn, SampleError> {
    let adjusted = sampling.allowed(logits, history, mask);
    let (best, top) = likeliest(&adjusted)?;
    let token = if sampling.temperature == 0.0 {
        best
    } else {
        let candidates = candidates(&adjusted, top, sampling.temperature);
        drawn_among(candidates, sampling, position).unwrap_or(best)
    };
    let logit = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    Ok(Drawn { token, logprob: logit - log_sum_exp(logits) })
}

/// The `count` likeliest tokens with their log-probabilities, likeliest first.
pub(crate) fn likeliest_of(logits: &[f32], count: u8) -> Vec<(u32, f32)> {
    let total = log_sum_exp(logits);
    let mut all: Vec<(u32, f32)> =
        logits.iter().enumerate().map(|(token, &logit)| (token as u32, logit - total)).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let count = usize::from(count).min(all.len());
    if count < all.len() {
        all.select_nth_unstable_by(count, order);
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 6] = [1.0, 3.0, 2.0, 3.0, -4.0, 0.5];

    fn seeded(temperature: f32) -> Sampling {
        Sampling::seeded(temperature, [7; 32])
    }

    const NOTHING: History<'static> = History { prompt: &[], answer: &[] };

    const fn said(answer: &[u32]) -> History<'_> {
        History { prompt: &[], answer }
    }

    /// How often each token comes in `draws` draws.
    fn counts(sampling: &Sampling, answer: &[u32], draws: u64) -> [f64; 6] {
        let mut counts = [0.0; 6];
        for position in 0..draws {
            let drawn = sample(&LOGITS, sampling, said(answer), position).unwrap();
            counts[drawn.token as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_likeliest_and_the_lowest_id_among_equals() {
        let drawn = sample(&LOGITS, &Sampling::greedy(), NOTHING, 9).unwrap();
        assert_eq!(drawn.token, 1);
        let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
        assert!((f64::from(drawn.logprob) - (3.0 - total.ln())).abs() < 1e-5);
    }

    #[test]
    fn draws_follow_the_distribution_and_repeat_by_seed_and_position() {
        let sampling = seeded(1.0);
        let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
        for (count, logit) in counts(&sampling, &[], 20_000).into_iter().zip(LOGITS) {
            assert!((count - f64::from(logit).exp() / total).abs() < 0.02, "{count}");
        }
        let tokens = |seed| {
            let sampling = Sampling { seed: [seed; 32], ..sampling.clone() };
            (0..64)
                .map(|p| sample(&LOGITS, &sampling, NOTHING, p).unwrap().token)
                .collect::<Vec<_>>()
        };
        assert_eq!(tokens(1), tokens(1));
        assert_ne!(tokens(1), tokens(2));
    }

    #[test]
    fn top_k_and_top_p_leave_the_likeliest_only() {
        let pair = counts(&Sampling { top_k: 2, ..seeded(1.0) }, &[], 2_000);
        assert!((pair[1] - 0.5).abs() < 0.05 && pair[1] + pair[3] > 0.999, "{pair:?}");
        let first = counts(&Sampling { top_k: 1, ..seeded(1.0) }, &[], 100);
        assert!(first[1] > 0.999, "the lowest id among equals: {first:?}");
        // The two likeliest have 39 % each, the third 14 %.
        let two = counts(&Sampling { top_p: 0.7, ..seeded(1.0) }, &[], 2_000);
        assert!(two[1] + two[3] > 0.999 && two[3] > 0.4, "{two:?}");
        let three = counts(&Sampling { top_p: 0.85, ..seeded(1.0) }, &[], 2_000);
        assert!(three[2] > 0.1 && three[0] == 0.0, "{three:?}");
    }

    #[test]
    fn penalties_count_what_the_answer_holds() {
        let presence = Sampling { presence_penalty: 2.0, ..Sampling::greedy() };
        assert_eq!(sample(&LOGITS, &presence, said(&[1]), 0).unwrap().token, 3);
        let frequency = Sampling { frequency_penalty: 0.4, ..Sampling::greedy() };
        assert_eq!(sample(&LOGITS, &frequency, said(&[1, 1, 3]), 0).unwrap().token, 3);
        assert_eq!(sample(&LOGITS, &frequency, said(&[1, 3, 3, 1, 1, 3]), 0).unwrap().token, 2);
    }

    #[test]
    fn repetition_is_penalised_in_prompt_and_answer_on_either_side_of_zero() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::greedy() };
        let history = History { prompt: &[1, 1, 4, 9], answer: &[3] };
        let adjusted = sampling.adjusted(&LOGITS, history);
        assert_eq!(*adjusted, [1.0, 1.5, 2.0, 1.5, -8.0, 0.5]);
        assert_eq!(sample(&LOGITS, &sampling, history, 0).unwrap().token, 2);
        let fond = Sampling { repetition_penalty: 0.5, ..Sampling::greedy() };
        assert_eq!(fond.adjusted(&LOGITS, history)[4], -2.0);
        assert_eq!((sampling.stretch(), fond.stretch()), (2.0, 2.0));
    }

    #[test]
    fn biases_forbid_and_force_tokens_and_come_before_penalties() {
        let forced = Sampling { logit_bias: [(4, 100.0)].into(), ..seeded(1.0) };
        assert!(counts(&forced, &[], 100)[4] > 0.99);
        let forbidden = Sampling { logit_bias: [(1, -100.0), (3, -100.0)].into(), ..seeded(1.0) };
        let found = counts(&forbidden, &[], 500);
        assert!(found[1] == 0.0 && found[3] == 0.0 && found[2] > 0.5, "{found:?}");
        let drawn = sample(&LOGITS, &forced, NOTHING, 0).unwrap();
        assert!(drawn.logprob < -7.0, "as the model itself has it");
        let both = Sampling { repetition_penalty: 2.0, ..forced };
        assert_eq!(both.adjusted(&LOGITS, said(&[4]))[4], 48.0);
        assert!(both.check_tokens(5).is_ok());
        let error = both.check_tokens(4).unwrap_err().to_string();
        assert!(error.contains("token 4, which has a bias"), "{error}");
    }

    #[test]
    fn min_p_leaves_what_is_likely_enough_next_to_the_likeliest() {
        // e^-1 of the likeliest is 0.37, e^-2 is 0.14.
        let some = counts(&Sampling { min_p: 0.3, ..seeded(1.0) }, &[], 2_000);
        assert!(some[2] > 0.1 && some[0] == 0.0, "{some:?}");
        let few = counts(&Sampling { min_p: 0.4, ..seeded(1.0) }, &[], 2_000);
        assert!(few[1] + few[3] > 0.999 && few[3] > 0.4, "{few:?}");
        let hot = counts(&Sampling { min_p: 0.4, ..seeded(2.0) }, &[], 2_000);
        assert!(hot[2] > 0.1, "after the temperature: {hot:?}");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let broken = [0.0, f32::NAN];
        assert_eq!(sample(&broken, &Sampling::greedy(), NOTHING, 0), Err(SampleError::NotFinite));
        assert_eq!(sample(&[], &seeded(1.0), NOTHING, 0), Err(SampleError::NotFinite));
        let masked = [f32::NEG_INFINITY, 0.0];
        assert_eq!(sample(&masked, &seeded(1.0), NOTHING, 0).unwrap().token, 1);
        for (sampling, says) in [
            (seeded(f32::NAN), "temperature NaN"),
            (seeded(-0.5), "temperature -0.5"),
            (Sampling { top_p: 0.0, ..seeded(1.0) }, "top_p 0"),
            (Sampling { presence_penalty: 3.0, ..seeded(1.0) }, "presence penalty 3"),
            (Sampling { min_p: 1.5, ..seeded(1.0) }, "min_p 1.5 is not between 0 and 1"),
            (Sampling { repetition_penalty: 0.0, ..seeded(1.0) }, "penalty 0 is not between 0.25"),
            (Sampling { logit_bias: [(7, -101.0)].into(), ..seeded(1.0) }, "bias -101 of token 7"),
            (
                Sampling { logit_bias: (0..301).map(|t| (t, 1.0)).collect(), ..seeded(1.0) },
                "301 tokens with a bias",
            ),
        ] {
            let error = sampling.check().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn random_numbers_are_fixed_for_ever() {
        // A change of these is a change of every verification: it needs a new domain.
        let numbers = [0, 1, u64::MAX].map(|position| draw(&[7; 32], position).to_bits());
        let fixed = [0x3F92_614D_793A_F7C0, 0x3FE4_EA8E_1325_26AA, 0x3FCA_1286_DF07_E438];
        assert_eq!(numbers, fixed, "{numbers:#x?}");
        let mean = (0..10_000).map(|position| draw(&[3; 32], position)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn the_likeliest_come_first() {
        let top = likeliest_of(&LOGITS, 3);
        assert_eq!(top.iter().map(|top| top.0).collect::<Vec<_>>(), [1, 3, 2]);
        assert_eq!(likeliest_of(&LOGITS, 20).len(), 6);
    }
}

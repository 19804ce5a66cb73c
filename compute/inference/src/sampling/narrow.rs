//! Drawing from the likeliest tokens alone, where no other can be drawn: what a device gives back
//! instead of all logits.

use super::Sampling;
use super::drawing::{Drawn, SampleError, candidates_of, drawn_among};

/// The likeliest tokens of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Likeliest {
    /// With their logits, likeliest first and among equals the lowest id first; none if the
    /// logits were not all numbers.
    pub(crate) tokens: Vec<(u32, f32)>,
    /// The logarithm of the sum of all exponentials.
    pub(crate) log_sum_exp: f32,
}

impl Likeliest {
    /// The `count` likeliest with their log-probabilities.
    pub(crate) fn first(&self, count: u8) -> Vec<(u32, f32)> {
        let tokens = self.tokens.iter().take(count.into());
        tokens.map(|(token, logit)| (*token, logit - self.log_sum_exp)).collect()
    }
}

impl Sampling {
    /// How many of the likeliest tokens decide a draw; nothing if any token may be drawn.
    pub(crate) fn decided_by(&self) -> Option<usize> {
        let counted = self.presence_penalty != 0.0 || self.frequency_penalty != 0.0;
        if counted || self.repetition_penalty != 1.0 || !self.logit_bias.is_empty() {
            return None;
        }
        match self.top_k {
            _ if self.temperature == 0.0 => Some(1),
            0 => None,
            top_k => Some(top_k),
        }
    }
}

/// What [`super::sample`] draws from all logits, of which these are the likeliest: at least as
/// many as [`Sampling::decided_by`] says.
pub(crate) fn sample_likeliest(
    likeliest: &Likeliest,
    sampling: &Sampling,
    position: u64,
) -> Result<Drawn, SampleError> {
    let first = likeliest.tokens.first().filter(|(_, logit)| logit.is_finite());
    let Some(&(best, top)) = first else { return Err(SampleError::NotFinite) };
    let token = if sampling.temperature == 0.0 {
        best
    } else {
        // In the order of ids, as the distribution is laid out.
        let mut tokens = likeliest.tokens.clone();
        tokens.sort_unstable_by_key(|(token, _)| *token);
        let candidates = candidates_of(tokens.into_iter(), top, sampling.temperature);
        drawn_among(candidates, sampling, position).unwrap_or(best)
    };
    let logit = likeliest.tokens.iter().find(|(own, _)| *own == token).map_or(top, |one| one.1);
    Ok(Drawn { token, logprob: logit - likeliest.log_sum_exp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::{History, likeliest_of, sample};
    use openledger_kernels::reference::log_sum_exp;

    #[test]
    fn the_likeliest_decide_as_all_logits_do() {
        // Many are equal, also at the edge of what takes part.
        let logits: Vec<f32> = (0..3000u32).map(|i| (i * 37 % 101 / 4) as f32 * 0.3).collect();
        let whole = log_sum_exp(&logits);
        let tokens = likeliest_of(&logits, 64);
        let tokens = tokens.iter().map(|(token, _)| (*token, logits[*token as usize])).collect();
        let likeliest = Likeliest { tokens, log_sum_exp: whole };
        assert_eq!(likeliest.first(5), likeliest_of(&logits, 5));
        for (top_k, top_p, min_p) in [(64, 1.0, 0.0), (40, 0.9, 0.0), (7, 0.5, 0.3), (1, 1.0, 0.0)]
        {
            for position in 0..200 {
                let seeded = Sampling::seeded(0.8, [3; 32]);
                let sampling = Sampling { top_k, top_p, min_p, ..seeded };
                assert_eq!(sampling.decided_by(), Some(top_k));
                let expected = sample(&logits, &sampling, History::default(), position).unwrap();
                assert_eq!(sample_likeliest(&likeliest, &sampling, position).unwrap(), expected);
            }
        }
        let greedy = sample(&logits, &Sampling::greedy(), History::default(), 0).unwrap();
        assert_eq!(sample_likeliest(&likeliest, &Sampling::greedy(), 0).unwrap(), greedy);
    }

    #[test]
    fn what_may_change_any_logit_asks_for_all() {
        let greedy = Sampling::greedy();
        assert_eq!(greedy.decided_by(), Some(1));
        assert_eq!(Sampling::seeded(1.0, [0; 32]).decided_by(), None);
        for sampling in [
            Sampling { presence_penalty: 0.1, ..greedy.clone() },
            Sampling { frequency_penalty: 0.1, ..greedy.clone() },
            Sampling { repetition_penalty: 1.1, ..greedy.clone() },
            Sampling { logit_bias: [(1, 2.0)].into(), ..greedy },
        ] {
            assert_eq!(sampling.decided_by(), None);
        }
        let none = Likeliest { tokens: Vec::new(), log_sum_exp: 0.0 };
        assert!(sample_likeliest(&none, &Sampling::greedy(), 0).is_err());
    }
}

//! Which tokens take part in a draw: min-p (Nguyen et al. 2024), then top-k, then top-p (Holtzman et
//! al. 2020).
//!
//! Once exactly, for drawing, and once for checking a draw whose logits are known only to within a
//! tolerance: then some tokens certainly take part and some possibly.

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) token: u32,
    /// Its logit's distance to the largest, over the temperature: 0 or negative.
    pub(crate) scaled: f64,
    /// The exponential of that.
    pub(crate) chance: f64,
}

/// Which tokens may be left out of a draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pruning {
    /// Chances below this share of the likeliest's do not take part; 0 leaves out none.
    pub(crate) min_p: f32,
    /// At most this many take part; 0 is all.
    pub(crate) top_k: usize,
    /// As few of the likeliest as have this share of what is left; 1 is all.
    pub(crate) top_p: f32,
}

/// How many candidates are put in order at first; most draws need no more.
const SORTED_FIRST: usize = 256;

/// Likeliest first, the lowest id first among equals.
fn order(a: &Candidate, b: &Candidate) -> core::cmp::Ordering {
    b.scaled.total_cmp(&a.scaled).then(a.token.cmp(&b.token))
}

/// Keeps those that take part. Takes and leaves the candidates in the order of their ids.
pub(crate) fn prune(candidates: &mut Vec<Candidate>, pruning: Pruning) {
    let Pruning { min_p, top_k, top_p } = pruning;
    if min_p > 0.0 {
        candidates.retain(|candidate| candidate.chance >= f64::from(min_p));
    }
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k, order);
        candidates.truncate(top_k);
        candidates.sort_unstable_by_key(|candidate| candidate.token);
    }
    if top_p < 1.0 {
        let total: f64 = candidates.iter().map(|candidate| candidate.chance).sum();
        let kept = share(candidates, f64::from(top_p) * total);
        candidates.truncate(kept);
        candidates.sort_unstable_by_key(|candidate| candidate.token);
    }
}

/// Puts the likeliest in front, and says how many of them reach `enough`.
fn share(candidates: &mut [Candidate], enough: f64) -> usize {
    let mut sorted = SORTED_FIRST;
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, order);
        }
        sorted = sorted.min(candidates.len());
        let front = candidates.get_mut(..sorted).unwrap_or_default();
        front.sort_unstable_by(order);
        let mut sum = 0.0;
        let reached = front.iter().position(|candidate| {
            sum += candidate.chance;
            sum >= enough
        });
        match reached {
            Some(last) => return last + 1,
            None if sorted == candidates.len() => return sorted,
            None => sorted *= 8,
        }
    }
}

/// Down to which scaled logit tokens take part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reach {
    /// From here up a token certainly takes part.
    pub(crate) certain: f64,
    /// From here up it possibly does.
    pub(crate) possible: f64,
}

impl Reach {
    /// Of those that take part by both rules.
    const fn and(self, other: Self) -> Self {
        Self {
            certain: self.certain.max(other.certain),
            possible: self.possible.max(other.possible),
        }
    }
}

/// As [`prune`], but every scaled logit may be wrong by `slack`.
pub(crate) fn reach(candidates: &[Candidate], pruning: Pruning, slack: f64) -> Reach {
    let Pruning { min_p, top_k, top_p } = pruning;
    let everything = Reach { certain: f64::NEG_INFINITY, possible: f64::NEG_INFINITY };
    let by_chance =
        if min_p > 0.0 { reach_of_chance(candidates, min_p, slack) } else { everything };
    if (top_k == 0 || top_k >= candidates.len()) && top_p >= 1.0 {
        return by_chance;
    }
    let mut sorted = candidates.to_vec();
    sorted.sort_unstable_by(order);
    let by_count = match (top_k.checked_sub(1).and_then(|k| sorted.get(k)), sorted.get(top_k)) {
        (Some(last), Some(next)) => Reach {
            // The next must not be able to overtake; nor the last to fall behind.
            certain: (next.scaled + 2.0 * slack).next_up(),
            possible: last.scaled - 2.0 * slack,
        },
        _ => everything,
    };
    // Both keep the likeliest, so what both keep is what the stricter one keeps.
    let before = by_chance.and(by_count);
    if top_p >= 1.0 {
        return before;
    }
    before.and(reach_of_share(&sorted, before, f64::from(top_p), slack))
}

/// A token takes part if its chance is no less than a share of the likeliest's, whichever that is:
/// the distance of the two may be wrong by twice the slack.
fn reach_of_chance(candidates: &[Candidate], min_p: f32, slack: f64) -> Reach {
    let least = |shift: f64| {
        let kept = candidates
            .iter()
            .map(|candidate| candidate.scaled)
            .filter(|scaled| openledger_kernels::math::exp_f64(scaled + shift) >= f64::from(min_p));
        kept.fold(f64::INFINITY, f64::min)
    };
    Reach { certain: least(-2.0 * slack), possible: least(2.0 * slack) }
}

/// A token takes part while the likelier ones have less than the share; their chances, and those of
/// the rest, are pushed by `slack` to where they help or hinder most.
fn reach_of_share(sorted: &[Candidate], before: Reach, share: f64, slack: f64) -> Reach {
    let sums = |reach: f64| {
        let mut sum = 0.0;
        let mut sums = vec![0.0];
        sums.extend(sorted.iter().map(|candidate| {
            sum += if candidate.scaled >= reach { candidate.chance } else { 0.0 };
            sum
        }));
        (sum, sums)
    };
    let (certain_total, certain) = sums(before.certain);
    let (possible_total, possible) = sums(before.possible);
    let at = |sums: &[f64], index: usize| sums.get(index).copied().unwrap_or(0.0);
    let (up, down) =
        (openledger_kernels::math::exp_f64(slack), openledger_kernels::math::exp_f64(-slack));
    let mut reach = Reach { certain: f64::INFINITY, possible: f64::INFINITY };
    let (mut above, mut level) = (0, 0);
    for candidate in sorted {
        while sorted.get(above).is_some_and(|o| o.scaled > candidate.scaled + 2.0 * slack) {
            above += 1;
        }
        while sorted.get(level).is_some_and(|o| o.scaled >= candidate.scaled - 2.0 * slack) {
            level += 1;
        }
        let likelier = at(&certain, above) * down;
        let rest = (possible_total - at(&certain, above)) * up;
        if likelier < share * (likelier + rest) {
            reach.possible = candidate.scaled;
        }
        let likelier = (at(&possible, level) - candidate.chance).max(0.0) * up;
        let rest = (certain_total - at(&certain, level) + candidate.chance) * down;
        if likelier < share * (likelier + rest) {
            reach.certain = candidate.scaled;
        }
    }
    // The likeliest token always takes part.
    reach.possible = reach.possible.min(0.0);
    reach
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_kernels::math::exp_f64;

    fn candidates(seed: u64, count: u32) -> Vec<Candidate> {
        let scaled = |token: u32| {
            let mixed = (u64::from(token) + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            -((mixed >> 50) as f64) / 1_000.0
        };
        let mut all: Vec<_> = (0..count)
            .map(|token| Candidate { token, scaled: scaled(token), chance: 0.0 })
            .collect();
        let top = all.iter().map(|c| c.scaled).fold(f64::NEG_INFINITY, f64::max);
        for candidate in &mut all {
            candidate.scaled -= top;
            candidate.chance = exp_f64(candidate.scaled);
        }
        all
    }

    /// The rules written down plainly.
    fn plain(all: &[Candidate], pruning: Pruning) -> Vec<u32> {
        let Pruning { min_p, top_k, top_p } = pruning;
        let mut sorted = all.to_vec();
        let best = sorted.iter().map(|c| c.chance).fold(0.0, f64::max);
        sorted.retain(|c| c.chance / best >= f64::from(min_p));
        sorted.sort_by(order);
        if top_k > 0 {
            sorted.truncate(top_k);
        }
        let total: f64 = sorted.iter().map(|c| c.chance).sum();
        let mut before = 0.0;
        let mut kept = Vec::new();
        for candidate in sorted {
            if top_p < 1.0 && before >= f64::from(top_p) * total {
                break;
            }
            before += candidate.chance;
            kept.push(candidate.token);
        }
        kept.sort_unstable();
        kept
    }

    fn prunings() -> impl Iterator<Item = Pruning> {
        let shares = [(0, 1.0), (5, 1.0), (0, 0.5), (40, 0.9), (0, 0.99), (0, 0.999), (1, 0.1)];
        let pair = move |min_p| {
            shares.into_iter().map(move |(top_k, top_p)| Pruning { min_p, top_k, top_p })
        };
        [0.0, 0.02, 0.3, 0.98, 1.0].into_iter().flat_map(pair)
    }

    #[test]
    fn pruning_is_what_its_definition_says() {
        for seed in 0..20 {
            for pruning in prunings() {
                let all = candidates(seed, 700);
                let mut kept = all.clone();
                prune(&mut kept, pruning);
                let kept: Vec<u32> = kept.iter().map(|c| c.token).collect();
                assert_eq!(kept, plain(&all, pruning), "{pruning:?}");
            }
        }
    }

    #[test]
    fn reach_brackets_what_pruning_keeps_for_every_change_within_the_slack() {
        let slack = 0.03;
        for seed in 0..30 {
            for pruning in prunings() {
                let all = candidates(seed, 300);
                let reach = reach(&all, pruning, slack);
                for change in 0..6u32 {
                    let mut moved = all.clone();
                    for candidate in &mut moved {
                        let sign = f64::from((candidate.token * 7 + change * 3) % 5) / 2.0 - 1.0;
                        candidate.scaled += sign * slack;
                    }
                    let top = moved.iter().map(|c| c.scaled).fold(f64::NEG_INFINITY, f64::max);
                    for candidate in &mut moved {
                        candidate.scaled -= top;
                        candidate.chance = exp_f64(candidate.scaled);
                    }
                    let mut kept = moved.clone();
                    prune(&mut kept, pruning);
                    let kept: Vec<u32> = kept.iter().map(|c| c.token).collect();
                    for candidate in &all {
                        let inside = kept.binary_search(&candidate.token).is_ok();
                        let note = (candidate, &reach, pruning);
                        assert!(inside || candidate.scaled < reach.certain, "{note:?}");
                        assert!(!inside || candidate.scaled >= reach.possible, "{note:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_slack_nothing_is_only_possible() {
        for seed in 0..10 {
            let all = candidates(seed, 300);
            for min_p in [0.0, 0.2] {
                let reach = reach(&all, Pruning { min_p, top_k: 40, top_p: 0.9 }, 0.0);
                let count = |from: f64| all.iter().filter(|c| c.scaled >= from).count();
                assert_eq!(count(reach.certain), count(reach.possible));
            }
        }
    }
}

//! How far a claimed fingerprint lies from one's own, and how much of each adapter is in it.
//!
//! Two kinds of hardware round differently; so do activations of 12 bits and of 32. What
//! that does to a hidden state is noise: it has a size, and no direction. Leaving an adapter out,
//! or taking it at another weight, moves the state along a direction that a verifier can compute:
//! half of what lies between the states without the adapter and with twice of it. Projected on that
//! direction the noise of an answer's many sums averages out, and what remains is the share of the
//! adapter that is in it: 1 in an honest answer, 0 where it was left out, 0.9 where it was scaled
//! by 0.9 (least squares with one unknown). Neither of the two runs is the one that claims are
//! compared with: else its noise would be in both factors, and never average out.

use openledger_wire::ids::BlobId;

use crate::fingerprint::{CHUNK_TOKENS, Fingerprint, SKETCH, Sketch};

/// Fewer tokens than this at the end are compared together with the chunk before: their distance
/// alone would be a matter of luck.
const TAIL_TOKENS_MIN: usize = CHUNK_TOKENS / 2;

/// How much of an adapter is in an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterShare {
    /// Which.
    pub id: BlobId,
    /// The estimate; 1 is all of it at its weight.
    pub share: f64,
    /// By what the relative size of the noise is to be multiplied to get the estimate's standard
    /// error: the adapter's effect is that much smaller than what noise adds up to. Infinite
    /// where it has none.
    pub resolution: f64,
}

/// What a claimed fingerprint and one's own have to say of each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Of each chunk the length of the difference over the length of one's own.
    pub distances: Vec<f64>,
    /// Of each adapter of the request, by id.
    pub shares: Vec<AdapterShare>,
}

/// What honest answers of a pair of backend classes stay within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FingerprintTolerance {
    /// Largest distance of a chunk.
    pub distance: f64,
    /// Relative size of the noise (root mean square).
    pub noise: f64,
    /// By how many standard errors an adapter's share may differ from 1.
    pub sigmas: f64,
}

impl Comparison {
    /// Compares a claim with what one's own runs give: sketches of all tokens, and of what each
    /// adapter adds to them.
    pub(crate) fn new(
        claimed: &Fingerprint,
        own: &[Sketch],
        effects: &[(BlobId, Vec<Sketch>)],
    ) -> Self {
        let claimed: Vec<f64> = claimed.values().collect();
        let own: Vec<f64> = numbers(own).collect();
        let difference: Vec<f64> = claimed.iter().zip(&own).map(|(a, b)| a - b).collect();
        let share = |(id, effect): &(BlobId, Vec<Sketch>)| {
            let effect: Vec<f64> = numbers(effect).collect();
            let strength = dot(&effect, &effect);
            let resolution = (dot(&own, &own) / strength / own.len() as f64).sqrt();
            let share =
                if strength > 0.0 { 1.0 + dot(&difference, &effect) / strength } else { 1.0 };
            AdapterShare { id: *id, share, resolution }
        };
        Self {
            distances: distances(&difference, &own),
            shares: effects.iter().map(share).collect(),
        }
    }

    /// Whether an honest answer could look like this.
    #[must_use]
    pub fn within(&self, tolerance: &FingerprintTolerance) -> bool {
        let near = self.distances.iter().all(|distance| *distance <= tolerance.distance);
        near && self.shares.iter().all(|share| share.within(tolerance))
    }
}

impl AdapterShare {
    /// Whether the share is 1 for all that can be told.
    #[must_use]
    pub fn within(&self, tolerance: &FingerprintTolerance) -> bool {
        let error = self.resolution * tolerance.noise;
        (self.share - 1.0).abs() <= error * tolerance.sigmas
    }

    /// Whether a share of `other` would have been told from 1.
    #[must_use]
    pub fn tells(&self, other: f64, tolerance: &FingerprintTolerance) -> bool {
        let error = self.resolution * tolerance.noise;
        (1.0 - other).abs() > 2.0 * error * tolerance.sigmas
    }
}

fn numbers(sketches: &[Sketch]) -> impl Iterator<Item = f64> + '_ {
    sketches.iter().flatten().map(|value| f64::from(*value))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Relative lengths of the differences, chunk by chunk.
fn distances(difference: &[f64], own: &[f64]) -> Vec<f64> {
    let tokens = own.len() / SKETCH;
    let mut chunks = (tokens / CHUNK_TOKENS).max(usize::from(tokens > 0));
    if tokens % CHUNK_TOKENS >= TAIL_TOKENS_MIN && tokens > CHUNK_TOKENS {
        chunks += 1;
    }
    let chunk = |index: usize| {
        let first = index * CHUNK_TOKENS * SKETCH;
        let last = if index + 1 == chunks { own.len() } else { first + CHUNK_TOKENS * SKETCH };
        let (difference, own) = (difference.get(first..last)?, own.get(first..last)?);
        let (difference, own) = (dot(difference, difference), dot(own, own));
        Some(if difference == 0.0 { 0.0 } else { (difference / own).sqrt() })
    };
    (0..chunks).filter_map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::sketch;

    const TOLERANCE: FingerprintTolerance =
        FingerprintTolerance { distance: 0.08, noise: 0.02, sigmas: 5.0 };

    /// A repeatable number between -1 and 1.
    fn random(seed: u64) -> f32 {
        let mixed = (seed ^ 0x5DEE_CE66).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn states(tokens: usize, salt: u64, size: f32) -> Vec<Vec<f32>> {
        let number = |t: usize, i: usize| random(salt << 40 | (t * 600 + i) as u64) * size;
        (0..tokens).map(|t| (0..576).map(|i| number(t, i)).collect()).collect()
    }

    fn plus(a: &[Vec<f32>], b: &[Vec<f32>], weight: f32) -> Vec<Vec<f32>> {
        let row =
            |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| a + b * weight).collect();
        a.iter().zip(b).map(row).collect()
    }

    fn sketches(states: &[Vec<f32>]) -> Vec<Sketch> {
        states.iter().enumerate().map(|(at, state)| sketch(state, at as u64)).collect()
    }

    /// A claim with `share` of an adapter whose effect is a tenth of the state, under noise of 2 %.
    fn claim(share: f32, tokens: usize, salt: u64) -> Comparison {
        let base = states(tokens, 1, 1.0);
        let effect = states(tokens, 2, 0.1);
        let noise = states(tokens, 3 + salt, 0.02);
        let claimed = plus(&plus(&base, &effect, share), &noise, 1.0);
        let effects = [(BlobId::ZERO, sketches(&effect))];
        let claimed = Fingerprint::new(&sketches(&claimed));
        Comparison::new(&claimed, &sketches(&plus(&base, &effect, 1.0)), &effects)
    }

    #[test]
    fn the_share_of_an_adapter_is_found_below_the_noise() {
        for salt in 0..50 {
            let honest = claim(1.0, 64, salt);
            assert!(honest.within(&TOLERANCE), "{honest:?}");
            for share in [0.0, 0.8, 1.3] {
                let cheat = claim(share, 64, salt);
                assert!((cheat.shares[0].share - f64::from(share)).abs() < 0.1, "{cheat:?}");
                assert!(cheat.shares[0].tells(f64::from(share), &TOLERANCE) || share == 0.8);
                assert!(share == 0.8 || !cheat.within(&TOLERANCE), "{share}: {cheat:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_held_against_anybody() {
        let own = sketches(&states(40, 1, 1.0));
        let nothing = vec![[0.0; SKETCH]; 40];
        let same = Comparison::new(&Fingerprint::new(&own), &own, &[(BlobId::ZERO, nothing)]);
        assert!(same.within(&TOLERANCE));
        assert!(!same.shares[0].tells(0.0, &TOLERANCE));
        let nothing = Comparison::new(&Fingerprint::default(), &[], &[]);
        assert!(nothing.within(&TOLERANCE) && nothing.distances.is_empty());
    }

    #[test]
    fn another_state_is_far_away_in_its_own_chunk() {
        let own = states(100, 1, 1.0);
        let mut other = own.clone();
        other[40] = states(1, 9, 1.0).remove(0);
        let found =
            Comparison::new(&Fingerprint::new(&sketches(&other)), &sketches(&own), &[]).distances;
        // 100 tokens are three chunks, and four more tokens with the last.
        assert_eq!(found.len(), 3);
        assert!(found[0] < 1e-3 && found[2] < 1e-3);
        assert!(found[1] > 0.08);
    }
}

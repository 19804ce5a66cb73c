//! What checks of many claims found, to be put together from parts.

use std::collections::BTreeMap;

use openledger_inference::{ClaimCheck, Tolerance};
use openledger_sim::figures::{Figures, Kind};
use serde::{Deserialize, Serialize};

/// Of a pair: who wrote, or which cheat, and who checked.
type Pairs = BTreeMap<(String, String), Tally>;

/// All of a run, or of a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tallies {
    /// By writer and checker.
    #[serde(with = "listed")]
    pub(super) honest: Pairs,
    /// By cheat and checker.
    #[serde(with = "listed")]
    pub(super) cheats: Pairs,
}

impl Tallies {
    /// Adds what another part found.
    pub fn merge(&mut self, other: Self) {
        for (own, other) in [(&mut self.honest, other.honest), (&mut self.cheats, other.cheats)] {
            for (pair, tally) in other {
                own.entry(pair).or_default().merge(tally);
            }
        }
    }
}

/// JSON has no pairs for keys.
mod listed {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Pairs;

    pub(super) fn serialize<S: Serializer>(pairs: &Pairs, to: S) -> Result<S::Ok, S::Error> {
        pairs.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Pairs, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}

/// What checks of claims of one kind by one class found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) claims: u64,
    /// Chunks that were claimed.
    pub(super) chunks_claimed: u64,
    pub(super) rejected: u64,
    /// Of those, for a token.
    by_token: u64,
    /// Of chunks that were compared.
    distances: Vec<f32>,
    /// Distances of adapters' shares from 1, in standard errors.
    deviations: Vec<f32>,
}

impl Tally {
    /// Takes in what a check of an answer of so many chunks found.
    pub(super) fn add(&mut self, check: &ClaimCheck, chunks: u64, tolerance: &Tolerance) {
        self.claims += 1;
        self.chunks_claimed += chunks;
        self.rejected += u64::from(!check.accepted);
        self.by_token += u64::from(!check.tokens.accepted);
        let Some(comparison) = &check.fingerprint else { return };
        self.distances.extend(comparison.distances.iter().map(|distance| *distance as f32));
        let noise = tolerance.fingerprint.noise;
        let deviation = |share: f64, error: f64| ((share - 1.0).abs() / (error * noise)) as f32;
        let shares = comparison.shares.iter().filter(|share| share.resolution.is_finite());
        self.deviations.extend(shares.map(|share| deviation(share.share, share.resolution)));
    }

    fn merge(&mut self, other: Self) {
        self.claims += other.claims;
        self.chunks_claimed += other.chunks_claimed;
        self.rejected += other.rejected;
        self.by_token += other.by_token;
        self.distances.extend(other.distances);
        self.deviations.extend(other.deviations);
    }

    /// What a pair's tolerance is chosen by.
    pub(super) fn show(&self, figures: &mut Figures, name: &str) {
        let counts = serde_json::json!({
            "claims": self.claims, "rejected": self.rejected, "by token": self.by_token,
        });
        figures.show(name, counts, "", Kind::Exact);
        let parts = [("distance", &self.distances), ("share", &self.deviations)];
        for (what, values) in parts.into_iter().filter(|(_, values)| !values.is_empty()) {
            let mut values = values.clone();
            values.sort_by(f32::total_cmp);
            let at = |share: f64| {
                let index = (values.len().saturating_sub(1) as f64 * share) as usize;
                values.get(index).map_or(0.0, |value| (f64::from(*value) * 1e5).round() / 1e5)
            };
            let all = serde_json::json!({
                "least": at(0.0), "median": at(0.5), "p99": at(0.99), "largest": at(1.0),
                "count": values.len(),
            });
            figures.show(&format!("{name}: {what}"), all, "", Kind::Exact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_from_files_and_add_up() {
        let tally = |claims: u64| Tally {
            claims,
            chunks_claimed: 2 * claims,
            rejected: 1,
            by_token: 1,
            distances: vec![0.5],
            deviations: vec![1.5],
        };
        let pair = |name: &str| ("a writer".to_owned(), name.to_owned());
        let part = Tallies {
            honest: BTreeMap::from([(pair("one"), tally(3)), (pair("two"), tally(4))]),
            cheats: BTreeMap::from([(pair("one"), tally(5))]),
        };
        let text = serde_json::to_string(&part).unwrap();
        let mut all: Tallies = serde_json::from_str(&text).unwrap();
        assert_eq!(all, part);
        all.merge(part);
        let one = &all.honest[&pair("one")];
        assert_eq!((one.claims, one.chunks_claimed, one.rejected), (6, 12, 2));
        assert_eq!((one.distances.len(), one.deviations.len()), (2, 2));
        assert_eq!(all.cheats[&pair("one")].claims, 10);
    }
}

//! What a caller on this machine may ask for beyond a call.
//!
//! Calls travel between nodes and have one spelling; this does not. What changes the answer is granted
//! by this machine's own engine alone, and refused where a peer would have to answer. Who asks and
//! how urgently only orders what waits here, and is not told to peers.

use openledger_inference::{CallerId, MajoritySign, Merge, MergeStrategy, Priority};
use openledger_wire::call::CallFailure;
use serde::{Deserialize, Serialize};

use super::{codes, failure};

/// Wishes beyond a call. Thousandths, as in calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wishes {
    /// Leaves out tokens less likely than this share of the likeliest; 0 leaves out none.
    pub min_p_permille: u16,
    /// Penalty for tokens that prompt or answer hold; 1000 is none.
    pub repetition_permille: u32,
    /// Added to the logits of tokens, by their ids.
    pub logit_bias_permille: Vec<(u32, i32)>,
    /// Below 0 for what may wait, above 0 for what matters more than the caller's other calls.
    pub urgency: i8,
    /// The caller's name, hashed by the engine; empty for nobody in particular.
    pub caller: String,
    /// The call is of no use if it has not begun after so many milliseconds; 0 for no such time.
    pub timeout_ms: u32,
    /// How several adapters become one; nothing adds up their updates.
    pub merge: Option<MergeWish>,
    /// Whether the end of the answer brings its fingerprint.
    pub fingerprint: bool,
}

/// How several adapters become one, in LoRAX's words. Thousandths, as in calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeWish {
    /// "linear", "ties", "dare_linear" or "dare_ties".
    pub strategy: String,
    /// The share of numbers that trimming or dropping keeps.
    pub density_permille: u16,
    /// "total" or "frequency": how signs are elected.
    pub majority_sign_method: String,
}

impl Default for MergeWish {
    fn default() -> Self {
        let strategy = MergeStrategy::Linear.name().to_owned();
        Self { strategy, density_permille: 1_000, majority_sign_method: "total".to_owned() }
    }
}

impl MergeWish {
    /// Whether it says anything beyond a sum.
    #[must_use]
    pub fn makes_product(&self) -> bool {
        self.of_engine().strategy != MergeStrategy::Linear
    }

    /// Which words make no sense.
    ///
    /// # Errors
    /// The first field that does not, and what it may be.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let strategy = self.strategy.parse::<MergeStrategy>();
        strategy.map_err(|error| ("merge_strategy", error.to_string()))?;
        let sign = self.majority_sign_method.parse::<MajoritySign>();
        sign.map_err(|error| ("majority_sign_method", error.to_string()))?;
        match self.density_permille {
            1..=1_000 => Ok(()),
            _ => Err(("density", "density must be above 0 and at most 1".to_owned())),
        }
    }

    /// The same in the engine's words; what makes no sense is a sum.
    #[must_use]
    pub fn of_engine(&self) -> Merge {
        Merge {
            strategy: self.strategy.parse().unwrap_or_default(),
            density: f32::from(self.density_permille) / 1e3,
            majority_sign_method: self.majority_sign_method.parse().unwrap_or_default(),
        }
    }
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            min_p_permille: 0,
            repetition_permille: 1_000,
            logit_bias_permille: Vec::new(),
            urgency: 0,
            caller: String::new(),
            timeout_ms: 0,
            merge: None,
            fingerprint: false,
        }
    }
}

impl Wishes {
    /// Whether the answer depends on them.
    #[must_use]
    pub fn change_the_answer(&self) -> bool {
        self.min_p_permille > 0
            || self.repetition_permille != 1_000
            || !self.logit_bias_permille.is_empty()
            || self.merge.as_ref().is_some_and(MergeWish::makes_product)
    }

    /// How much the call matters to the engine.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        match self.urgency {
            ..0 => Priority::Low,
            0 => Priority::Normal,
            1.. => Priority::High,
        }
    }

    /// Whose share it counts against.
    #[must_use]
    pub fn caller_id(&self) -> Option<CallerId> {
        (!self.caller.is_empty()).then(|| CallerId::of(self.caller.as_bytes()))
    }
}

/// What is said where only a peer could answer.
#[must_use]
pub fn only_here() -> CallFailure {
    let message = "min_p, repetition_penalty, logit_bias and merges other than linear are only done by this node's own engine, and not all that the call names is here; get it with `openledger model fetch`, or leave them out";
    failure(codes::INVALID, message, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_the_answer_keeps_a_call_here() {
        let plain = Wishes::default();
        assert!(!plain.change_the_answer());
        let who = Wishes { urgency: 1, caller: "ann".to_owned(), ..plain.clone() };
        assert!(!who.change_the_answer());
        assert_eq!(who.priority(), Priority::High);
        assert_eq!(Wishes { urgency: -5, ..plain.clone() }.priority(), Priority::Low);
        let sum = Wishes { merge: Some(MergeWish::default()), timeout_ms: 9, ..plain.clone() };
        assert!(!sum.change_the_answer(), "peers add up, too");
        assert!(who.caller_id().is_some() && plain.caller_id().is_none());
        for wishes in [
            Wishes { min_p_permille: 1, ..plain.clone() },
            Wishes { repetition_permille: 1_100, ..plain.clone() },
            Wishes { logit_bias_permille: vec![(5, 0)], ..plain.clone() },
            Wishes {
                merge: Some(MergeWish { strategy: "dare_ties".to_owned(), ..MergeWish::default() }),
                ..plain.clone()
            },
        ] {
            assert!(wishes.change_the_answer(), "{wishes:?}");
        }
    }
}

//! What a caller on this machine may ask for beyond a call.
//!
//! Calls travel between nodes and have one spelling; this does not. What changes the answer is granted
//! by this machine's own engine alone, and refused where a peer would have to answer. Who asks and
//! how urgently only orders what waits here, and is not told to peers.

use openledger_inference::{CallerId, Priority};
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
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            min_p_permille: 0,
            repetition_permille: 1_000,
            logit_bias_permille: Vec::new(),
            urgency: 0,
            caller: String::new(),
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
    let message = "min_p, repetition_penalty and logit_bias are only done by this node's own engine, and the model is not here; add it with `openledger model fetch`, or leave them out";
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
        assert!(who.caller_id().is_some() && plain.caller_id().is_none());
        for wishes in [
            Wishes { min_p_permille: 1, ..plain.clone() },
            Wishes { repetition_permille: 1_100, ..plain.clone() },
            Wishes { logit_bias_permille: vec![(5, 0)], ..plain.clone() },
        ] {
            assert!(wishes.change_the_answer(), "{wishes:?}");
        }
    }
}

//! What a node asks of its infer worker: the wire's requests, and calls with wishes.

use openledger_wire::call::Call;
use openledger_wire::worker::InferRequest;
use serde::{Deserialize, Serialize};

use crate::serving::Wishes;

/// One frame to an infer worker after the one that set it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum InferAsk {
    /// As the wire has it.
    Plain(InferRequest),
    /// Answer a call with wishes beyond it.
    Wishing {
        /// Correlates the answers.
        id: u64,
        /// The call.
        call: Box<Call>,
        /// What is wished.
        wishes: Box<Wishes>,
    },
}

impl From<InferRequest> for InferAsk {
    fn from(request: InferRequest) -> Self {
        Self::Plain(request)
    }
}

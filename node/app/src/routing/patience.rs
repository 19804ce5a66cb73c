//! How long is waited for whom.

use std::time::Duration;

use crate::limits;

/// How long is waited for whom; [`Patience::default`] gives the figures of [`crate::limits`].
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a peer's answer; each comes within [`Patience::poll`], so this is a dead one.
    pub answer: Duration,
    /// For a peer's answer about vectors, which it computes first.
    pub vectors: Duration,
    /// For the next token of a peer that does answer.
    pub token: Duration,
    /// For room at peers that are all busy.
    pub busy: Duration,
    /// Before a peer that waits for tokens is told that there are none yet.
    pub poll: Duration,
    /// For more tokens to send along with one.
    pub linger: Duration,
    /// For the next question about a call before it counts as abandoned.
    pub abandoned: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: limits::PEER_ANSWER_TIME_MAX,
            vectors: limits::PEER_VECTORS_TIME_MAX,
            token: limits::PEER_TOKEN_TIME_MAX,
            busy: limits::PEER_BUSY_TIME_MAX,
            poll: limits::PEER_POLL,
            linger: limits::PEER_LINGER,
            abandoned: limits::PEER_ABANDONED,
        }
    }
}

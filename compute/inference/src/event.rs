//! What a step tells its caller.

use thiserror::Error;

use crate::adapters::AdapterSetError;
use crate::constraint::MaskError;
use crate::fingerprint::Fingerprint;
use crate::request::SequenceId;
use crate::sampling::SampleError;

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its answer, or a stop string appeared.
    Stop,
    /// As many tokens as the request allows.
    Length,
    /// The caller cancelled it.
    Cancelled,
}

/// What a sequence used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, tokens that did not have to be run: an earlier or a running sequence with the same
    /// adapters began with them.
    pub cached_tokens: usize,
    /// Tokens drawn, an end token included.
    pub completion_tokens: usize,
}

/// Why a sequence failed.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SequenceError {
    /// The adapters that it waited for will not come.
    #[error("get its adapters: {0}")]
    Adapters(AdapterSetError),
    /// No token could be drawn.
    #[error("draw a token at position {position}: {source}")]
    Sample {
        /// Where.
        position: usize,
        /// Why.
        source: SampleError,
    },
    /// Its constraint could not be followed any further.
    #[error("draw a token at position {position}: {source}")]
    Constraint {
        /// Where.
        position: usize,
        /// Why.
        source: MaskError,
    },
    /// It did not get a place in time.
    #[error(
        "start it: its deadline {deadline_ms} ms had come by {now_ms} ms; ask again with a later one, or at another node"
    )]
    Deadline {
        /// When it had to have started.
        deadline_ms: u64,
        /// When it was looked at.
        now_ms: u64,
    },
    /// The backend failed in so many steps in a row.
    #[error(
        "run it: the backend failed {failures} times in a row, last with: {last}; see the log and restart the engine"
    )]
    Backend {
        /// Failures in a row.
        failures: u32,
        /// What it said last.
        last: String,
    },
}

/// What happened to a sequence in a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A token was drawn.
    Token {
        /// Whose.
        sequence: SequenceId,
        /// The token.
        token: u32,
        /// Text that this token completed: whole characters only, and nothing that may yet turn
        /// out to be the start of a stop string. Often empty. The texts of all events of a sequence
        /// are its answer.
        text: String,
        /// Natural logarithm of the token's probability under the model at temperature 1.
        logprob: f32,
        /// The likeliest tokens with theirs, as many as the request asked for, likeliest first.
        top: Vec<(u32, f32)>,
    },
    /// The sequence ended; its pages are free.
    Finished {
        /// Which.
        sequence: SequenceId,
        /// Why.
        reason: FinishReason,
        /// What it used.
        usage: Usage,
        /// Of the tokens drawn here: all but those that [`resume`](crate::Engine::resume) was given.
        fingerprint: Fingerprint,
    },
    /// The sequence failed; its pages are free.
    Failed {
        /// Which.
        sequence: SequenceId,
        /// Why.
        error: SequenceError,
    },
}

impl Event {
    /// Whose event this is.
    #[must_use]
    pub const fn sequence(&self) -> SequenceId {
        match self {
            Self::Token { sequence, .. }
            | Self::Finished { sequence, .. }
            | Self::Failed { sequence, .. } => *sequence,
        }
    }
}

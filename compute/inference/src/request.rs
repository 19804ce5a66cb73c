//! What a caller asks for.

use core::fmt;

use openledger_wire::ids::BlobId;
use thiserror::Error;

use crate::adapters::{AdapterSetError, Merge};
use crate::constraint::{Constraint, ConstraintError};
use crate::limits::{LOGPROBS_MAX, STOP_BYTES_MAX, STOPS_MAX};
use crate::sampling::{Sampling, SamplingError};

/// Names a sequence in an engine; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sequence {}", self.0)
    }
}

/// Domain of the names of callers.
const CALLER_DOMAIN: &str = "openledger caller v1";

/// Names a caller, so that it gets its share and no more. A hash: names of any length are taken,
/// and none is seen in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId([u8; 16]);

impl CallerId {
    /// The caller of this name.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let hash = blake3::derive_key(CALLER_DOMAIN, name);
        Self(hash.first_chunk().copied().unwrap_or_default())
    }
}

/// How much a request matters among those of its own caller; it takes nothing from other callers.
/// Only [`Priority::Low`] is heard by all: it lets everybody pass. Who waits rises with time, so
/// nobody waits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// After all others, whoever they are from.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// Before the caller's other requests.
    High,
}

/// A prompt to be continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Token ids, special tokens included; nothing is added.
    pub prompt: Vec<u32>,
    /// Adapters with their weights; the order does not matter. Empty is the bare base.
    pub adapters: Vec<(BlobId, f32)>,
    /// How several adapters are put together.
    pub merge: Merge,
    /// Tokens to draw at most.
    pub tokens_max: usize,
    /// How to draw.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// What the answer must look like.
    pub constraint: Option<Constraint>,
    /// How many of the likeliest tokens to report with each token.
    pub logprobs: Option<u8>,
    /// Goes on after an end token (benchmarks).
    pub ignore_end: bool,
    /// Who asks; nothing is nobody in particular, who has a share like any other caller.
    pub caller: Option<CallerId>,
    /// How much it matters among the caller's own.
    pub priority: Priority,
    /// Until when it must have started, in milliseconds of the clock of
    /// [`set_now`](crate::Engine::set_now); one that has not by then fails.
    pub deadline_ms: Option<u64>,
}

/// Why a request was refused.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SubmitError {
    /// There is nothing to continue.
    #[error("submit a request: its prompt is empty; send at least one token")]
    EmptyPrompt,
    /// There is nothing to draw.
    #[error("submit a request: it allows 0 tokens; allow at least one")]
    NoTokens,
    /// A token that the model does not have.
    #[error("submit a request: token {token} of its prompt is not among the model's {vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocab: usize,
    },
    /// It does not fit into the model's context.
    #[error(
        "submit a request: {prompt} prompt tokens and {tokens_max} to draw exceed the model's context of {context}; shorten the prompt or ask for less"
    )]
    Context {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to draw.
        tokens_max: usize,
        /// The model's context.
        context: usize,
    },
    /// It would not fit into this engine's memory even alone.
    #[error(
        "submit a request: {prompt} prompt tokens and {tokens_max} to draw exceed the {held} positions that this engine's KV pages hold; shorten the prompt, ask for less or give the engine more pages"
    )]
    Memory {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to draw.
        tokens_max: usize,
        /// Positions that all pages hold.
        held: usize,
    },
    /// An adapter.
    #[error("submit a request: {0}")]
    Adapters(#[from] AdapterSetError),
    /// The backend runs none.
    #[error(
        "submit a request: this model is an exported graph, which has no place for adapter {adapter}; leave it out, or ask a node that serves the base itself"
    )]
    AdaptersRefused {
        /// The first that was asked for.
        adapter: BlobId,
    },
    /// How to draw.
    #[error("submit a request: {0}")]
    Sampling(#[from] SamplingError),
    /// What the answer must look like.
    #[error("submit a request: {0}")]
    Constraint(#[from] ConstraintError),
    /// Stop strings.
    #[error(
        "submit a request: stop string {index} has {bytes} bytes; up to {STOPS_MAX} of 1 to {STOP_BYTES_MAX} bytes are possible"
    )]
    Stop {
        /// Which, from 0.
        index: usize,
        /// Its bytes.
        bytes: usize,
    },
    /// Alternatives per token.
    #[error(
        "submit a request: {asked} log-probabilities per token asked for, at most {LOGPROBS_MAX} are possible"
    )]
    Logprobs {
        /// What was asked for.
        asked: u8,
    },
    /// Too many wait already.
    #[error(
        "submit a request: {queued} are waiting already; try again in {retry_after_ms} ms or at another node"
    )]
    QueueFull {
        /// Requests that wait.
        queued: usize,
        /// When a place is likely to be free, in milliseconds, as far as can be told from how fast
        /// it went so far.
        retry_after_ms: u64,
    },
    /// Too many of this caller wait already.
    #[error(
        "submit a request: {queued} of this caller are waiting already, as many as one caller may have; try again in {retry_after_ms} ms or at another node"
    )]
    CallerFull {
        /// Requests of the caller that wait.
        queued: usize,
        /// When one of them is likely to have started, in milliseconds.
        retry_after_ms: u64,
    },
}

impl SubmitError {
    /// When to ask again, in milliseconds, if that helps.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::QueueFull { retry_after_ms, .. } | Self::CallerFull { retry_after_ms, .. } => {
                Some(*retry_after_ms)
            }
            _ => None,
        }
    }
}

impl Request {
    /// A greedy request on the bare base.
    #[must_use]
    pub const fn greedy(prompt: Vec<u32>, tokens_max: usize) -> Self {
        Self {
            prompt,
            adapters: Vec::new(),
            merge: Merge::LINEAR,
            tokens_max,
            sampling: Sampling::greedy(),
            stop: Vec::new(),
            constraint: None,
            logprobs: None,
            ignore_end: false,
            caller: None,
            priority: Priority::Normal,
            deadline_ms: None,
        }
    }

    /// Checks everything that does not depend on the engine's state.
    pub(crate) fn check(
        &self,
        vocab: usize,
        context: usize,
        held: usize,
    ) -> Result<(), SubmitError> {
        let (prompt, tokens_max) = (self.prompt.len(), self.tokens_max);
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if tokens_max == 0 {
            return Err(SubmitError::NoTokens);
        }
        let all = prompt.saturating_add(tokens_max);
        if all > context {
            return Err(SubmitError::Context { prompt, tokens_max, context });
        }
        if all > held {
            return Err(SubmitError::Memory { prompt, tokens_max, held });
        }
        if let Some(&token) = self.prompt.iter().find(|&&token| token as usize >= vocab) {
            return Err(SubmitError::UnknownToken { token, vocab });
        }
        self.sampling.check()?;
        self.sampling.check_tokens(vocab)?;
        let bad = |(index, stop): (usize, &String)| {
            let bytes = stop.len();
            let good = index < STOPS_MAX && (1..=STOP_BYTES_MAX).contains(&bytes);
            (!good).then_some(SubmitError::Stop { index, bytes })
        };
        if let Some(error) = self.stop.iter().enumerate().find_map(bad) {
            return Err(error);
        }
        if self.constraint.is_some() && self.ignore_end {
            return Err(ConstraintError::IgnoresEnd.into());
        }
        match self.logprobs {
            Some(asked) if asked > LOGPROBS_MAX => Err(SubmitError::Logprobs { asked }),
            _ => Ok(()),
        }
    }
}

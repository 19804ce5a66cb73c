//! What an engine has done so far, for `status` and for tests.

use crate::engine::Engine;

/// Counts since the engine was made, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Steps that ran something.
    pub steps: u64,
    /// Tokens that were run, those of prompts and those drawn.
    pub tokens_run: u64,
    /// Tokens of prompts that were found in the prefix cache and not run.
    pub tokens_reused: u64,
    /// Sequences that were sent back to wait, for pages or for another's share.
    pub preempted: u64,
    /// Requests that did not start before their deadline.
    pub expired: u64,
    /// Pages that can be found by what they hold, free ones included.
    pub pages_findable: usize,
    /// Such pages that were given up because their place was needed.
    pub pages_evicted: u64,
}

impl Engine {
    /// What it has done so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            tokens_reused: self.scheduler.reused(),
            preempted: self.scheduler.preempted(),
            pages_findable: self.scheduler.pages.findable(),
            pages_evicted: self.scheduler.pages.evicted(),
            ..self.counted
        }
    }
}

//! Running given tokens: logits at every position, and embeddings.
//!
//! It happens at once, between steps. Pages are borrowed, from running sequences if none are free
//! (they are resumed by the steps that follow), and given back before it returns.

use core::ops::ControlFlow;

use openledger_wire::ids::BlobId;
use thiserror::Error;

use crate::adapters::{AdapterSet, AdapterSetError, Merge};
use crate::backend::{BackendError, RowOutput};
use crate::engine::Engine;
use crate::plan::{PlannedSequence, Row, StepPlan, Wants};

/// Why given tokens were not run.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ScoreError {
    /// Nothing to run.
    #[error("score tokens: there are none; send at least one")]
    Empty,
    /// A token that the model does not have.
    #[error("score tokens: token {token} is not among the model's {vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocab: usize,
    },
    /// More than the model's context, or than this engine's pages hold.
    #[error(
        "score tokens: {tokens} tokens exceed the {limit} that the model's context and this engine's KV pages allow; send fewer"
    )]
    TooMany {
        /// How many.
        tokens: usize,
        /// How many can be run.
        limit: usize,
    },
    /// An adapter.
    #[error("score tokens: {0}")]
    Adapters(#[from] AdapterSetError),
    /// The backend.
    #[error("score tokens: {0}")]
    Backend(#[from] BackendError),
    /// An embedding without a direction.
    #[error(
        "embed tokens: the hidden states have no finite mean; check the model file and the adapters"
    )]
    NotFinite,
}

/// What happens to the numbers of a position.
type Visit<'a> = dyn FnMut(usize, &[f32]) -> ControlFlow<()> + 'a;

/// What happens to all that comes out of a position.
pub(crate) type VisitOutput<'a> = dyn FnMut(usize, RowOutput) -> ControlFlow<()> + 'a;

impl Engine {
    /// The logits at every position of `tokens`, `[tokens, vocab]`: those at position `p` predict
    /// the token at `p + 1`. Nothing is added in front. Mind the memory: 4 bytes a number.
    ///
    /// # Errors
    /// Tokens that cannot be run.
    pub fn logits_of(
        &mut self,
        tokens: &[u32],
        adapters: &[(BlobId, f32)],
    ) -> Result<Vec<Vec<f32>>, ScoreError> {
        let mut all = Vec::with_capacity(tokens.len());
        self.each_logits(tokens, adapters, 0, &mut |_, logits| {
            all.push(logits.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    /// Calls `visit` with each position from `first` on and its logits, in order, until it breaks.
    ///
    /// # Errors
    /// Tokens that cannot be run.
    pub fn each_logits(
        &mut self,
        tokens: &[u32],
        adapters: &[(BlobId, f32)],
        first: usize,
        visit: &mut Visit<'_>,
    ) -> Result<(), ScoreError> {
        let merge = Merge::LINEAR;
        self.each_output(tokens, adapters, merge, first, Wants::Logits, &mut |position, output| {
            match output {
                RowOutput::Logits { logits: values, .. } | RowOutput::Hidden(values) => {
                    visit(position, &values)
                }
                RowOutput::Nothing | RowOutput::Likeliest { .. } => ControlFlow::Continue(()),
            }
        })
    }

    /// Calls `visit` with each position from `first` on and what was wanted of it, in order,
    /// until it breaks.
    pub(crate) fn each_output(
        &mut self,
        tokens: &[u32],
        adapters: &[(BlobId, f32)],
        merge: Merge,
        first: usize,
        wanted: Wants,
        visit: &mut VisitOutput<'_>,
    ) -> Result<(), ScoreError> {
        let adapters = self.adapters.resolve(adapters, &merge)?;
        let wants = |position| if position < first { Wants::Nothing } else { wanted };
        self.score(tokens, &adapters, &wants, visit)
    }

    /// A vector of length 1, `[hidden]`, that stands for a text: the mean of its tokens' hidden
    /// states after the last norm.
    ///
    /// # Errors
    /// Tokens that cannot be run, or states that are no numbers.
    pub fn embed(
        &mut self,
        tokens: &[u32],
        adapters: &[(BlobId, f32)],
    ) -> Result<Vec<f32>, ScoreError> {
        let adapters = self.adapters.resolve(adapters, &Merge::LINEAR)?;
        let mut sums = vec![0.0f64; self.model.config().hidden];
        self.score(tokens, &adapters, &|_| Wants::Hidden, &mut |_, output| {
            if let RowOutput::Hidden(state) = output {
                for (sum, value) in sums.iter_mut().zip(state) {
                    *sum += f64::from(value);
                }
            }
            ControlFlow::Continue(())
        })?;
        let norm = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        if !norm.is_finite() || norm == 0.0 {
            return Err(ScoreError::NotFinite);
        }
        Ok(sums.iter().map(|sum| (sum / norm) as f32).collect())
    }

    fn score(
        &mut self,
        tokens: &[u32],
        adapters: &AdapterSet,
        wants: &dyn Fn(usize) -> Wants,
        visit: &mut VisitOutput<'_>,
    ) -> Result<(), ScoreError> {
        let config = self.model.config();
        let (vocab, limit) = (config.vocab, config.context.min(self.scheduler.pages.positions()));
        if tokens.is_empty() {
            return Err(ScoreError::Empty);
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(ScoreError::UnknownToken { token, vocab });
        }
        let too_many = ScoreError::TooMany { tokens: tokens.len(), limit };
        if tokens.len() > limit {
            return Err(too_many);
        }
        let needed = self.scheduler.pages.needed(tokens.len());
        let mut pages = self.scheduler.borrow(needed).ok_or(too_many)?;
        let outcome = self.score_chunks(tokens, adapters, &pages, wants, visit);
        self.scheduler.pages.give(&mut pages);
        if outcome.is_err() {
            // What the backend holds of others may be lost with it.
            self.scheduler.preempt_all();
        }
        Ok(outcome?)
    }

    fn score_chunks(
        &mut self,
        tokens: &[u32],
        adapters: &AdapterSet,
        pages: &[u32],
        wants: &dyn Fn(usize) -> Wants,
        visit: &mut VisitOutput<'_>,
    ) -> Result<(), BackendError> {
        let chunk = self.options.chunk_tokens_max;
        for (index, tokens) in tokens.chunks(chunk).enumerate() {
            let rows = tokens.iter().enumerate().map(|(offset, &token)| {
                let position = index * chunk + offset;
                Row { sequence: 0, position, token, wants: wants(position) }
            });
            let sequence = PlannedSequence { pages: pages.to_vec(), adapters: adapters.clone() };
            let plan = StepPlan { rows: rows.collect(), sequences: vec![sequence] };
            let outputs = self.backend.run(&plan)?;
            for (row, output) in plan.rows.iter().zip(outputs) {
                let nothing = output == RowOutput::Nothing;
                if !nothing && visit(row.position, output).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

//! What a backend is asked to run in one step.

use openledger_kernels::reference::AttentionRow;

use crate::adapters::AdapterSet;
use crate::backend::BackendError;

/// What is to come out of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Only its keys and values.
    Nothing,
    /// The logits of the next token, `[vocab]`, and the hidden state that they come from.
    Logits,
    /// The hidden state after the last norm, `[hidden]`.
    Hidden,
}

/// One token of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose: an index into [`StepPlan::sequences`].
    pub sequence: usize,
    /// Its position, from 0. Rows of one sequence come in order, without gaps, after all positions
    /// that earlier steps have run.
    pub position: usize,
    /// The token.
    pub token: u32,
    /// What is wanted.
    pub wants: Wants,
}

/// What the rows of a sequence share.
#[derive(Clone, Debug)]
pub struct PlannedSequence {
    /// Its pages, in order of positions: at least as many as its rows reach into.
    pub pages: Vec<u32>,
    /// Its adapters, pinned to their generations.
    pub adapters: AdapterSet,
}

/// One step: rows of many sequences, decoding rows first.
#[derive(Clone, Debug, Default)]
pub struct StepPlan {
    /// The rows.
    pub rows: Vec<Row>,
    /// What they refer to.
    pub sequences: Vec<PlannedSequence>,
}

impl StepPlan {
    /// What each row attends to.
    ///
    /// # Errors
    /// A row of a sequence that the plan does not have.
    pub(crate) fn seen(&self) -> Result<Vec<AttentionRow<'_>>, BackendError> {
        let seen = |row: &Row| {
            let sequence = self.sequences.get(row.sequence).ok_or_else(|| BackendError::Plan {
                what: format!("a row names sequence {} of {}", row.sequence, self.sequences.len()),
            })?;
            Ok(AttentionRow { pages: &sequence.pages, positions: row.position + 1 })
        };
        self.rows.iter().map(seen).collect()
    }
}

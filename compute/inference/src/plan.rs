//! What a backend is asked to run in one step.

use crate::adapters::AdapterSet;

/// What is to come out of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Only its keys and values.
    Nothing,
    /// The logits of the next token, `[vocab]`.
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

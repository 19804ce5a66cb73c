//! Buffers that steps use again and again, so that none allocates for a layer.

use openledger_kernels::packed::Activations;

/// All buffers of a step. They grow to the largest step and stay.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What products read: quantised once, used by all matrices that share it.
    pub(super) inputs: Activations,
    /// Hidden states, `[rows, hidden]`.
    pub(super) x: Vec<f32>,
    /// Their norms, then what a block adds to them, `[rows, hidden]`.
    pub(super) h: Vec<f32>,
    /// `[rows, query_width]`.
    pub(super) q: Vec<f32>,
    /// `[rows, kv_width]`.
    pub(super) k: Vec<f32>,
    /// `[rows, kv_width]`.
    pub(super) v: Vec<f32>,
    /// `[rows, query_width]`.
    pub(super) attended: Vec<f32>,
    /// `[rows, feed_forward]`.
    pub(super) gate: Vec<f32>,
    /// `[rows, feed_forward]`.
    pub(super) up: Vec<f32>,
    /// Hidden states of rows that something is wanted of, `[such rows, hidden]`.
    pub(super) last: Vec<f32>,
    /// `[up to HEAD_ROWS_MAX, vocab]`.
    pub(super) logits: Vec<f32>,
    /// Rows by adapter.
    pub(super) rows: Vec<u32>,
    pub(super) scores: Vec<f32>,
}

/// The first `len` numbers of a buffer, which grows if it must. They hold whatever was there.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    buffer.get_mut(..len).unwrap_or_default()
}

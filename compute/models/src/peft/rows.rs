//! The order of rows of query and key.
//!
//! The transformers library turns the two halves of a head together; llama.cpp's converter reorders
//! the rows of query and key of the llama architecture so that neighbours are turned together
//! (`LlamaModel.permute` of its `convert_hf_to_gguf.py`). An adapter's B has the order of the
//! program that wrote it, and must follow the model's.

use crate::config::{ModelConfig, RopeLayout};
use crate::model::Site;

/// B (`[out, rank]`) of a site in the order of the model's own rows, from the library's order.
#[must_use]
pub fn to_engine_rows(b: Vec<f32>, rank: usize, site: Site, config: &ModelConfig) -> Vec<f32> {
    match config.rope_layout {
        RopeLayout::Interleaved => to_neighbours(b, rank, site, config.head_dim),
        RopeLayout::Halves => b,
    }
}

/// The opposite: B in the library's order.
#[must_use]
pub fn to_peft_rows(b: Vec<f32>, rank: usize, site: Site, config: &ModelConfig) -> Vec<f32> {
    match config.rope_layout {
        RopeLayout::Interleaved => to_halves(b, rank, site, config.head_dim),
        RopeLayout::Halves => b,
    }
}

/// From halves turned together to neighbours turned together.
pub(super) fn to_neighbours(b: Vec<f32>, rank: usize, site: Site, head_dim: usize) -> Vec<f32> {
    reorder(b, rank, site, head_dim, |row| (row % 2) * (head_dim / 2) + row / 2)
}

/// The opposite.
pub(super) fn to_halves(b: Vec<f32>, rank: usize, site: Site, head_dim: usize) -> Vec<f32> {
    reorder(b, rank, site, head_dim, |row| 2 * (row % (head_dim / 2)) + row / (head_dim / 2))
}

/// `source` says which row of a head comes to a place.
fn reorder(
    b: Vec<f32>,
    rank: usize,
    site: Site,
    head_dim: usize,
    source: impl Fn(usize) -> usize,
) -> Vec<f32> {
    let is_turned = matches!(site, Site::Query | Site::Key);
    if !is_turned || !head_dim.is_multiple_of(2) {
        return b;
    }
    let mut ordered = Vec::with_capacity(b.len());
    for head in b.chunks(head_dim * rank.max(1)) {
        for row in 0..head_dim {
            let from = source(row) * rank;
            ordered.extend_from_slice(head.get(from..from + rank).unwrap_or_default());
        }
    }
    ordered
}

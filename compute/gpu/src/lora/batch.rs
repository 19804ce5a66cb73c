//! Which rows of a step have which adapters.

use super::LoraArena;
use crate::error::GpuError;

/// Rows that one workgroup serves.
const TILE: usize = 4;

/// One adapter of a group of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraPart {
    /// Its slot in the arena.
    pub slot: usize,
    /// Its weight in a mixture; 1 alone.
    pub weight: f32,
}

/// Rows of a step that have the same adapters.
#[derive(Clone, Copy, Debug)]
pub struct LoraRows<'a> {
    /// The adapters, all of which are added.
    pub parts: &'a [LoraPart],
    /// Numbers of rows.
    pub rows: &'a [u32],
}

/// What a step uploads once for all its layers: tasks of up to four rows (first adapter, how many,
/// first row, how many), adapters (slot and weight), rows.
#[derive(Clone, Debug, Default)]
pub struct LoraBatch {
    words: Vec<u32>,
    pub(super) tasks: usize,
    pub(super) first_part: usize,
    pub(super) first_row: usize,
    /// Rows that have adapters.
    pub(super) listed: usize,
    /// Ranks of a row, adapters in blocks of four.
    pub(super) room: usize,
    /// Rows of the step.
    pub(super) tokens: usize,
}

impl LoraBatch {
    /// The batch of a step of `tokens` rows. Rows without adapters are in no group.
    ///
    /// # Errors
    /// A slot without an adapter, a row outside the step or in two groups.
    pub fn new(
        arena: &LoraArena,
        tokens: usize,
        groups: &[LoraRows<'_>],
    ) -> Result<Self, GpuError> {
        let mut seen = vec![false; tokens];
        let (mut tasks, mut parts, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let mut room = 0;
        for group in groups {
            if group.parts.is_empty() {
                continue;
            }
            let first_part = parts.len() as u32 / 2;
            for part in group.parts {
                if !arena.holds(part.slot) {
                    let what = format!("slot {} of the arena holds no adapter", part.slot);
                    return Err(GpuError::misuse(what));
                }
                parts.extend([part.slot as u32, part.weight.to_bits()]);
            }
            for tile in group.rows.chunks(TILE) {
                let (first, count) = (rows.len() as u32, tile.len() as u32);
                tasks.extend([first_part, group.parts.len() as u32, first, count]);
                for &row in tile {
                    match seen.get_mut(row as usize) {
                        Some(seen) if !*seen => *seen = true,
                        _ => {
                            return Err(GpuError::misuse(format!(
                                "row {row} is not among {tokens}, or has two groups of adapters"
                            )));
                        }
                    }
                    rows.push(row);
                }
            }
            let ranks = |site| {
                let rank = |part: &LoraPart| arena.rank(part.slot, site).next_multiple_of(4);
                group.parts.iter().map(rank).sum()
            };
            room = (0..arena.sites()).map(ranks).fold(room, usize::max);
        }
        let (count, first_part) = (tasks.len() / 4, tasks.len());
        let (first_row, listed) = (first_part + parts.len(), rows.len());
        let mut words = tasks;
        words.extend(parts);
        words.extend(rows);
        Ok(Self { words, tasks: count, first_part, first_row, listed, room, tokens })
    }

    /// What is uploaded; empty where no row has an adapter.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether no row has an adapter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks == 0
    }
}

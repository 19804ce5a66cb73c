//! Which workgroup works on what.

use core::ops::Range;

use openledger_kernels::reference::AttentionRow;

use super::Attention;
use crate::error::GpuError;
use crate::limits::PARTIALS_MAX;

/// The tasks of one kernel, as places in the plan's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first_task: usize,
    pub(super) tasks: usize,
    pub(super) first_join: usize,
    /// Rows whose chunks are joined.
    pub(super) joins: usize,
    pub(super) chunk: usize,
}

/// What the rows of a step attend to, shared out among workgroups; the same for all layers that
/// have the same window.
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    /// For each row where its partial results start; tasks of three words; rows to be joined.
    words: Vec<u32>,
    pub(super) rows: usize,
    pub(super) window: u32,
    pub(super) singles: Part,
    pub(super) tiles: Part,
    /// Partial results, each for all heads of a row.
    pub(super) chunks: usize,
}

/// Chunks that a row sees positions of.
fn chunks_of(positions: usize, window: u32, chunk: usize) -> Range<usize> {
    positions.saturating_sub(window as usize) / chunk..positions.div_ceil(chunk)
}

impl AttentionPlan {
    /// Shares out rows. With a window, a row sees only so many of its last positions.
    ///
    /// # Errors
    /// A window of 0, a row that sees nothing, more partial results than can be counted.
    pub fn new(
        kernels: &Attention,
        rows: &[AttentionRow<'_>],
        window: Option<usize>,
    ) -> Result<Self, GpuError> {
        if window == Some(0) || rows.iter().any(|row| row.positions == 0) {
            return Err(GpuError::misuse("a row of attention sees nothing"));
        }
        let window = window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX);
        let mut words = vec![0; rows.len()];
        let (mut chunks, mut runs) = (0, runs(rows));
        // Runs of one row, and of several.
        let mut single = Vec::new();
        let mut several = Vec::new();
        for run in runs.drain(..) {
            if run.len() == 1 { &mut single } else { &mut several }.push(run);
        }
        let mut part = |runs: &[Range<usize>], tiling: &super::Tiling| {
            let mut part = Part { first_task: words.len(), chunk: tiling.chunk, ..Part::default() };
            let mut joins = Vec::new();
            for run in runs {
                for first in run.clone().step_by(tiling.rows) {
                    let tile = first..run.end.min(first + tiling.rows);
                    let Some(seen) = rows.get(tile.clone()) else { continue };
                    let all = |row: &AttentionRow<'_>| chunks_of(row.positions, window, part.chunk);
                    let from = seen.iter().map(|row| all(row).start).min().unwrap_or(0);
                    let to = seen.iter().map(|row| all(row).end).max().unwrap_or(0);
                    for chunk in from..to {
                        words.extend([tile.start as u32, tile.len() as u32, chunk as u32]);
                        part.tasks += 1;
                    }
                    for (row, seen) in tile.zip(seen) {
                        let own = all(seen).len();
                        if own > 1 {
                            if let Some(start) = words.get_mut(row) {
                                *start = chunks as u32;
                            }
                            chunks += own;
                            joins.push(row as u32);
                        }
                    }
                }
            }
            part.first_join = words.len();
            part.joins = joins.len();
            words.extend(joins);
            part
        };
        let singles = part(&single, &kernels.single.tiling);
        let tiles = part(&several, &kernels.tile.tiling);
        if chunks > PARTIALS_MAX || words.len() > u32::MAX as usize {
            let what = format!("{chunks} partial results of attention, at most {PARTIALS_MAX}");
            return Err(GpuError::misuse(what));
        }
        Ok(Self { words, rows: rows.len(), window, singles, tiles, chunks })
    }

    /// What is uploaded; never empty unless there are no rows.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}

/// Runs of neighbours that name the same list of pages and see one position more each.
fn runs(rows: &[AttentionRow<'_>]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut before: Option<&AttentionRow<'_>> = None;
    for (index, row) in rows.iter().enumerate() {
        let follows = before.is_some_and(|before| {
            before.positions + 1 == row.positions && core::ptr::eq(before.pages, row.pages)
        });
        match runs.last_mut() {
            Some(last) if follows => last.end = index + 1,
            _ => runs.push(index..index + 1),
        }
        before = Some(row);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_sequence_make_a_run() {
        let (a, b) = ([0, 1], [0, 1]);
        let row = |pages, positions| AttentionRow { pages, positions };
        let rows = [row(&a[..], 3), row(&a, 4), row(&b, 5), row(&b, 7), row(&b, 8)];
        assert_eq!(runs(&rows), [0..2, 2..3, 3..5]);
    }

    #[test]
    fn chunks_are_those_that_the_window_reaches() {
        assert_eq!(chunks_of(1, u32::MAX, 4), 0..1);
        assert_eq!(chunks_of(4, u32::MAX, 4), 0..1);
        assert_eq!(chunks_of(5, u32::MAX, 4), 0..2);
        assert_eq!(chunks_of(9, 4, 4), 1..3);
        assert_eq!(chunks_of(8, 4, 4), 1..2);
    }
}

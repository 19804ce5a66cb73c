//! What all layers of a step share: where each row stands, and its pages.

use openledger_kernels::reference::AttentionRow;

use crate::error::GpuError;

/// Rows of a step with their positions and pages, in the words that kernels read: for each row
/// where its pages start and its position; then the pages of each sequence.
#[derive(Clone, Debug, Default)]
pub struct RowTable {
    words: Vec<u32>,
    rows: usize,
}

impl RowTable {
    /// The table of these rows: each stands at the last position that it sees. Neighbours that
    /// name the same list of pages share it.
    ///
    /// # Errors
    /// A row that sees nothing or more than its pages hold, a page that is not among `pages`.
    pub fn new(
        rows: &[AttentionRow<'_>],
        page_tokens: usize,
        pages: usize,
    ) -> Result<Self, GpuError> {
        let mut words = vec![0; rows.len() * 2];
        let mut last: Option<(&[u32], u32)> = None;
        for (row, entry) in rows.iter().zip(0..) {
            let held = row.pages.len().saturating_mul(page_tokens);
            let start = match last {
                Some((same, start)) if core::ptr::eq(same, row.pages) => start,
                _ => {
                    if let Some(page) = row.pages.iter().find(|page| **page as usize >= pages) {
                        return Err(GpuError::misuse(format!("page {page} is not among {pages}")));
                    }
                    let start = u32::try_from(words.len()).unwrap_or(u32::MAX);
                    words.extend(row.pages);
                    last = Some((row.pages, start));
                    start
                }
            };
            if row.positions == 0 || row.positions > held || row.positions > u32::MAX as usize {
                let seen = row.positions;
                let what = format!("a row sees {seen} positions of the {held} in its pages");
                return Err(GpuError::misuse(what));
            }
            let entry: usize = entry;
            if let Some([at, position]) =
                words.get_mut(entry * 2..).and_then(|w| w.first_chunk_mut())
            {
                (*at, *position) = (start, (row.positions - 1) as u32);
            }
        }
        Ok(Self { words, rows: rows.len() })
    }

    /// What is uploaded.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// How many rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }
}

//! Which pages of keys and values are free.
//!
//! Numbers only; the memory is the backend's. Pages are handed out lowest first, so a run is
//! repeatable.

use std::collections::BTreeSet;

/// The pages of an engine.
#[derive(Debug)]
pub(crate) struct PagePool {
    free: BTreeSet<u32>,
    total: usize,
    page_tokens: usize,
}

impl PagePool {
    /// All pages free.
    pub(crate) fn new(total: usize, page_tokens: usize) -> Self {
        let total = total.min(u32::MAX as usize);
        Self { free: (0..total as u32).collect(), total, page_tokens }
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    /// Positions that all pages hold together.
    pub(crate) const fn positions(&self) -> usize {
        self.total.saturating_mul(self.page_tokens)
    }

    /// Pages that so many positions need.
    pub(crate) const fn needed(&self, positions: usize) -> usize {
        positions.div_ceil(self.page_tokens)
    }

    /// Takes a page.
    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop_first()
    }

    /// Gives pages back.
    pub(crate) fn give(&mut self, pages: &mut Vec<u32>) {
        for page in pages.drain(..) {
            let new = self.free.insert(page);
            debug_assert!(new, "page {page} given back twice");
        }
    }
}

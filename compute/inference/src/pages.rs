//! Which pages of keys and values are free, which are shared, and what they hold.
//!
//! Numbers only; the memory is the backend's. A page that is full may be given a key
//! ([`crate::prefix`]); from then on nobody writes to it, any sequence with the same beginning may
//! hold it too, and after its last holder it stays findable until its place is needed. Blank pages
//! are handed out first, lowest first, then the longest unheld, so a run is repeatable.

use std::collections::{BTreeMap, BTreeSet};

use crate::prefix::PageKey;

#[derive(Clone, Debug, Default)]
struct Page {
    /// Sequences that hold it.
    holders: u32,
    /// What it is found by, if it is full.
    key: Option<PageKey>,
    /// When its last holder let go, counted in releases.
    released: u64,
}

/// The pages of an engine.
#[derive(Debug)]
pub(crate) struct PagePool {
    pages: Vec<Page>,
    /// Unheld and without a key.
    blank: BTreeSet<u32>,
    /// Unheld with a key, by when they were released.
    idle: BTreeMap<u64, u32>,
    keyed: BTreeMap<PageKey, u32>,
    releases: u64,
    evicted: u64,
    page_tokens: usize,
    /// Whether pages are found again at all.
    remembers: bool,
}

impl PagePool {
    /// All pages blank.
    pub(crate) fn new(total: usize, page_tokens: usize, remembers: bool) -> Self {
        let total = total.min(u32::MAX as usize);
        Self {
            pages: vec![Page::default(); total],
            blank: (0..total as u32).collect(),
            idle: BTreeMap::new(),
            keyed: BTreeMap::new(),
            releases: 0,
            evicted: 0,
            page_tokens,
            remembers,
        }
    }

    /// Pages that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.blank.len() + self.idle.len()
    }

    pub(crate) const fn total(&self) -> usize {
        self.pages.len()
    }

    pub(crate) const fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Pages that can be found by their keys, held or not.
    pub(crate) fn findable(&self) -> usize {
        self.keyed.len()
    }

    /// Findable pages that were given up for others so far.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Positions that all pages hold together.
    pub(crate) const fn positions(&self) -> usize {
        self.total().saturating_mul(self.page_tokens)
    }

    /// Pages that so many positions need.
    pub(crate) const fn needed(&self, positions: usize) -> usize {
        positions.div_ceil(self.page_tokens)
    }

    /// Takes a page to write to.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let page = match self.blank.pop_first() {
            Some(page) => page,
            None => {
                let (_, page) = self.idle.pop_first()?;
                self.evicted += 1;
                page
            }
        };
        let entry = self.pages.get_mut(page as usize)?;
        if let Some(key) = entry.key.take() {
            self.keyed.remove(&key);
        }
        entry.holders = 1;
        Some(page)
    }

    /// How many hold the page with this key; nothing if there is none.
    pub(crate) fn holders(&self, key: &PageKey) -> Option<u32> {
        let page = self.keyed.get(key)?;
        self.pages.get(*page as usize).map(|page| page.holders)
    }

    /// Whether a page has one holder only, so that releasing it would make it free.
    pub(crate) fn is_held_once(&self, page: u32) -> bool {
        self.pages.get(page as usize).is_some_and(|page| page.holders == 1)
    }

    /// Holds the page with this key, if there is one.
    pub(crate) fn find(&mut self, key: &PageKey) -> Option<u32> {
        let page = *self.keyed.get(key)?;
        let entry = self.pages.get_mut(page as usize)?;
        if entry.holders == 0 {
            self.idle.remove(&entry.released);
        }
        entry.holders += 1;
        Some(page)
    }

    /// Makes a held, full page findable. Where another page has the key already, that one is held
    /// instead and this one let go. Returns the page to be used from now on.
    pub(crate) fn publish(&mut self, page: u32, key: PageKey) -> u32 {
        if !self.remembers {
            return page;
        }
        if let Some(other) = self.find(&key) {
            self.release(page);
            return other;
        }
        if let Some(entry) = self.pages.get_mut(page as usize) {
            if let Some(old) = entry.key.replace(key) {
                self.keyed.remove(&old);
            }
            self.keyed.insert(key, page);
        }
        page
    }

    /// Lets go of a page.
    pub(crate) fn release(&mut self, page: u32) {
        let Some(entry) = self.pages.get_mut(page as usize) else { return };
        debug_assert!(entry.holders > 0, "page {page} given back twice");
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return;
        }
        if entry.key.is_some() {
            self.releases += 1;
            entry.released = self.releases;
            self.idle.insert(self.releases, page);
        } else {
            self.blank.insert(page);
        }
    }

    /// Lets go of all pages of a sequence, the last first: what others are most likely to need, its
    /// beginning, is given up last.
    pub(crate) fn give(&mut self, pages: &mut Vec<u32>) {
        for page in pages.drain(..).rev() {
            self.release(page);
        }
    }

    /// Finds nothing any more: what the pages hold is lost.
    pub(crate) fn forget(&mut self) {
        self.blank.extend(core::mem::take(&mut self.idle).into_values());
        self.keyed.clear();
        for page in &mut self.pages {
            page.key = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(byte: u8) -> PageKey {
        [byte; 32]
    }

    #[test]
    fn a_full_page_is_found_again_until_its_place_is_needed() {
        let mut pool = PagePool::new(3, 4, true);
        let page = pool.take().unwrap();
        assert_eq!(pool.find(&key(1)), None);
        assert_eq!(pool.publish(page, key(1)), page);
        assert_eq!(pool.find(&key(1)), Some(page));
        assert_eq!((pool.free(), pool.holders(&key(1))), (2, Some(2)));
        pool.release(page);
        assert!(pool.is_held_once(page));
        pool.release(page);
        assert_eq!((pool.free(), pool.findable(), pool.holders(&key(1))), (3, 1, Some(0)));
        let others: Vec<u32> = (0..2).filter_map(|_| pool.take()).collect();
        assert!(!others.contains(&page), "blank pages first");
        assert_eq!(pool.find(&key(1)), Some(page));
        assert_eq!(pool.take(), None, "what is held is never taken");
        pool.release(page);
        assert_eq!(pool.take(), Some(page));
        assert_eq!((pool.find(&key(1)), pool.evicted()), (None, 1));
    }

    #[test]
    fn the_end_of_a_sequence_is_given_up_before_its_beginning_and_the_old_before_the_new() {
        let mut pool = PagePool::new(4, 4, true);
        for first in [1, 3] {
            let mut pages: Vec<u32> = (0..2).filter_map(|_| pool.take()).collect();
            for (page, byte) in pages.iter().zip(first..) {
                pool.publish(*page, key(byte));
            }
            pool.give(&mut pages);
        }
        let mut gone = Vec::new();
        for _ in 0..4 {
            pool.take().unwrap();
            let lost =
                (1..5).find(|byte| !gone.contains(byte) && pool.holders(&key(*byte)).is_none());
            gone.extend(lost);
        }
        assert_eq!(gone, [2, 1, 4, 3]);
    }

    #[test]
    fn two_pages_that_hold_the_same_become_one() {
        let mut pool = PagePool::new(3, 4, true);
        let (one, two) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!(pool.publish(one, key(9)), one);
        assert_eq!(pool.publish(two, key(9)), one);
        assert_eq!((pool.free(), pool.holders(&key(9))), (2, Some(2)));
    }

    #[test]
    fn what_is_forgotten_or_not_remembered_is_not_found_and_not_lost() {
        let mut pool = PagePool::new(2, 4, true);
        let (held, idle) = (pool.take().unwrap(), pool.take().unwrap());
        pool.publish(held, key(1));
        pool.publish(idle, key(2));
        pool.release(idle);
        pool.forget();
        assert_eq!((pool.find(&key(1)), pool.find(&key(2)), pool.free()), (None, None, 1));
        pool.release(held);
        assert_eq!(pool.free(), 2);
        let mut pool = PagePool::new(1, 4, false);
        let page = pool.take().unwrap();
        assert_eq!(pool.publish(page, key(1)), page);
        assert_eq!(pool.find(&key(1)), None);
    }
}

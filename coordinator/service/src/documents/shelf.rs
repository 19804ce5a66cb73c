//! The rows of all documents that were accepted, with what became of each.
//!
//! Rows are numbered from 1 in the order of the log; numbers never change. Counts are kept beside
//! the rows, so that asking for them costs nothing. About one kilobyte a row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openledger_wire::{BlobId, CampaignId, Height, TaskId};
use serde::Serialize;

use super::follow::Proven;
use super::obtain::Fault;
use crate::limits;

/// Where a collected document stands among those of its campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Not compared yet.
    Open,
    /// Kept: no original before it is similar.
    Original,
    /// A near-duplicate of the original in this row.
    DuplicateOf(u64),
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It is being fetched, or will be.
    Waiting {
        /// Attempts so far.
        tries: u32,
        /// What was wrong with the last one.
        fault: Option<Fault>,
    },
    /// It is here and is what was proven.
    Collected {
        /// Its title.
        title: Option<String>,
        /// ISO 639-3 code.
        language: String,
        /// Words of its text.
        words: u32,
        /// Whether it is kept.
        place: Place,
    },
    /// It is not what was proven. The bytes stay in the store as evidence.
    Refused(Fault),
}

/// A document's row.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its number, from 1, in the order of the log.
    pub number: u64,
    /// What was proven.
    pub proven: Arc<Proven>,
    /// What became of it.
    pub stage: Stage,
}

impl Row {
    /// `waiting`, `failed` (several attempts did not get it, more follow), `collected` or
    /// `refused`.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match &self.stage {
            Stage::Waiting { tries, .. } if *tries >= limits::DOCUMENT_TRIES_QUIET => "failed",
            Stage::Waiting { .. } => "waiting",
            Stage::Collected { .. } => "collected",
            Stage::Refused(_) => "refused",
        }
    }

    /// What was wrong, if something was.
    #[must_use]
    pub const fn fault(&self) -> Option<&Fault> {
        match &self.stage {
            Stage::Waiting { fault, .. } => fault.as_ref(),
            Stage::Refused(fault) => Some(fault),
            Stage::Collected { .. } => None,
        }
    }
}

/// Counts of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Documents that are here, fetched from peers as blobs and verified.
    pub collected: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, near-duplicates of an earlier one.
    pub duplicates: u64,
    /// Documents still to be fetched.
    pub waiting: u64,
    /// Documents that nobody delivered in several attempts; more follow.
    pub failed: u64,
    /// Documents that are not what was proven.
    pub refused: u64,
    /// Failed and refused ones by the code of their reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Pages that were refined and held no document.
    pub filtered: u64,
}

impl Counts {
    /// Counts a row in (`true`) or out.
    fn count(&mut self, row: &Row, is_in: bool) {
        let change = |count: &mut u64, by: u64| {
            *count = if is_in { count.saturating_add(by) } else { count.saturating_sub(by) };
        };
        match (row.state(), &row.stage) {
            ("failed", _) => change(&mut self.failed, 1),
            (_, Stage::Waiting { .. }) => return change(&mut self.waiting, 1),
            (_, Stage::Refused(_)) => change(&mut self.refused, 1),
            (_, Stage::Collected { place, .. }) => {
                change(&mut self.collected, 1);
                change(&mut self.bytes, row.proven.bytes);
                let is_duplicate = matches!(place, Place::DuplicateOf(_));
                return change(&mut self.duplicates, u64::from(is_duplicate));
            }
        }
        if let Some(fault) = row.fault() {
            change(self.reasons.entry(fault.code).or_default(), 1);
            self.reasons.retain(|_, count| *count > 0);
        }
    }
}

#[derive(Debug, Default)]
struct Collection {
    /// Numbers of its rows, ascending.
    rows: Vec<u64>,
    counts: Counts,
}

/// All rows.
#[derive(Debug)]
pub struct Shelf {
    rows: Vec<Row>,
    by_task: BTreeMap<TaskId, u64>,
    by_document: BTreeMap<BlobId, Vec<u64>>,
    campaigns: BTreeMap<CampaignId, Collection>,
    /// Duplicates by the row of their original.
    copies: BTreeMap<u64, BTreeSet<u64>>,
    counts: Counts,
    next: Height,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            by_task: BTreeMap::new(),
            by_document: BTreeMap::new(),
            campaigns: BTreeMap::new(),
            copies: BTreeMap::new(),
            counts: Counts::default(),
            next: Height(0),
        }
    }
}

fn index(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

impl Shelf {
    /// Counts over all campaigns.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Counts of a campaign.
    #[must_use]
    pub fn counts_of(&self, campaign: &CampaignId) -> Counts {
        self.campaigns.get(campaign).map(|of| of.counts.clone()).unwrap_or_default()
    }

    /// The first height of the log that was not looked at yet.
    #[must_use]
    pub const fn next_height(&self) -> Height {
        self.next
    }

    /// Notes how far the log was looked at.
    pub fn looked_at(&mut self, next: Height) {
        self.next = next;
    }

    /// The row with a number.
    #[must_use]
    pub fn row(&self, number: u64) -> Option<&Row> {
        self.rows.get(index(number)?)
    }

    /// The row of a refine task.
    #[must_use]
    pub fn of_task(&self, task: &TaskId) -> Option<Row> {
        self.row(*self.by_task.get(task)?).cloned()
    }

    /// The rows of a document, ascending.
    #[must_use]
    pub fn of_document(&self, document: &BlobId) -> Vec<Row> {
        let numbers = self.by_document.get(document).into_iter().flatten();
        let rows = numbers.filter_map(|number| self.row(*number)).cloned();
        rows.take(limits::ROWS_SHOWN_MAX).collect()
    }

    /// Rows with a number above `after`, ascending, of one campaign or of all.
    #[must_use]
    pub fn page(&self, campaign: Option<&CampaignId>, after: u64, max: usize) -> Vec<Row> {
        let Some(campaign) = campaign else {
            let skipped = usize::try_from(after).unwrap_or(usize::MAX);
            return self.rows.iter().skip(skipped).take(max).cloned().collect();
        };
        let numbers = self.campaigns.get(campaign).map_or(&[][..], |of| of.rows.as_slice());
        let from = numbers.partition_point(|number| *number <= after);
        let numbers = numbers.iter().skip(from).take(max);
        numbers.filter_map(|number| self.row(*number)).cloned().collect()
    }

    /// How many documents are near-duplicates of the one in this row, and the first `max` of them.
    #[must_use]
    pub fn duplicates_of(&self, number: u64, max: usize) -> (u64, Vec<BlobId>) {
        let Some(copies) = self.copies.get(&number) else { return (0, Vec::new()) };
        let document = |number: &u64| Some(self.row(*number)?.proven.document);
        (copies.len() as u64, copies.iter().take(max).filter_map(document).collect())
    }

    /// Notes a page that was refined and holds no document.
    pub fn filtered(&mut self, campaign: CampaignId) {
        self.counts.filtered = self.counts.filtered.saturating_add(1);
        let counts = &mut self.campaigns.entry(campaign).or_default().counts;
        counts.filtered = counts.filtered.saturating_add(1);
    }

    /// Adds the next document in the order of the log; gives its row's number.
    pub fn add(&mut self, proven: Proven) -> u64 {
        let number = (self.rows.len() as u64).saturating_add(1);
        self.by_task.insert(proven.task, number);
        self.by_document.entry(proven.document).or_default().push(number);
        let proven = Arc::new(proven);
        let row = Row { number, proven, stage: Stage::Waiting { tries: 0, fault: None } };
        let collection = self.campaigns.entry(row.proven.campaign).or_default();
        collection.rows.push(number);
        collection.counts.count(&row, true);
        self.counts.count(&row, true);
        self.rows.push(row);
        number
    }

    /// Notes what became of a document; gives what it was before.
    pub fn set(&mut self, number: u64, stage: Stage) -> Option<Stage> {
        let row = self.rows.get_mut(index(number)?)?;
        let collection = self.campaigns.entry(row.proven.campaign).or_default();
        for counts in [&mut self.counts, &mut collection.counts] {
            counts.count(row, false);
        }
        let before = std::mem::replace(&mut row.stage, stage);
        for counts in [&mut self.counts, &mut collection.counts] {
            counts.count(row, true);
        }
        Some(before)
    }

    /// Notes where a collected document stands: an original, or a duplicate of a row.
    pub fn place(&mut self, number: u64, original: Option<u64>) {
        let next = original.map_or(Place::Original, Place::DuplicateOf);
        let Some(row) = self.row(number) else { return };
        let mut stage = row.stage.clone();
        let Stage::Collected { place, .. } = &mut stage else { return };
        let former = std::mem::replace(place, next);
        if former == next {
            return;
        }
        if let Place::DuplicateOf(former) = former
            && let Some(copies) = self.copies.get_mut(&former)
        {
            copies.remove(&number);
        }
        self.set(number, stage);
        if let Some(original) = original {
            self.copies.entry(original).or_default().insert(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::proven;
    use super::*;

    fn collected() -> Stage {
        let (title, language) = (None, "eng".to_owned());
        Stage::Collected { title, language, words: 3, place: Place::Open }
    }

    fn shelf(rows: u8) -> Shelf {
        let mut shelf = Shelf::default();
        for n in 1..=rows {
            let (_, mut proven) = proven("some words");
            proven.task = TaskId([n; 32]);
            proven.document = BlobId([n; 32]);
            proven.campaign = CampaignId([n % 2; 32]);
            proven.bytes = 10;
            assert_eq!(shelf.add(proven), u64::from(n));
        }
        shelf
    }

    #[test]
    fn rows_are_paged_by_number_and_campaign() {
        let shelf = shelf(7);
        let numbers = |campaign: Option<u8>, after, max| -> Vec<u64> {
            let campaign = campaign.map(|n| CampaignId([n; 32]));
            shelf.page(campaign.as_ref(), after, max).iter().map(|row| row.number).collect()
        };
        assert_eq!(numbers(None, 0, 3), [1, 2, 3]);
        assert_eq!(numbers(None, 6, 3), [7]);
        assert_eq!(numbers(None, u64::MAX, 3), [0; 0]);
        assert_eq!(numbers(Some(1), 0, 2), [1, 3]);
        assert_eq!(numbers(Some(1), 3, 9), [5, 7]);
        assert_eq!(numbers(Some(9), 0, 9), [0; 0]);
        assert_eq!(shelf.of_task(&TaskId([4; 32])).unwrap().number, 4);
        assert_eq!(shelf.of_document(&BlobId([4; 32])).len(), 1);
        assert!(shelf.row(0).is_none() && shelf.row(8).is_none());
    }

    #[test]
    fn counts_follow_what_becomes_of_rows() {
        let mut shelf = shelf(4);
        assert_eq!((shelf.counts().waiting, shelf.counts().collected), (4, 0));
        let fault = || Some(Fault::new("not-delivered", "get it"));
        shelf.set(1, Stage::Waiting { tries: 1, fault: fault() });
        assert_eq!((shelf.counts().waiting, shelf.counts().reasons.len()), (4, 0));
        shelf.set(1, Stage::Waiting { tries: limits::DOCUMENT_TRIES_QUIET, fault: fault() });
        shelf.set(2, Stage::Refused(Fault::new("other-bands", "take it")));
        for number in [3, 4] {
            shelf.set(number, collected());
        }
        let counts = shelf.counts().clone();
        assert_eq!((counts.collected, counts.bytes, counts.failed, counts.refused), (2, 20, 1, 1));
        assert_eq!(counts.reasons, BTreeMap::from([("not-delivered", 1), ("other-bands", 1)]));
        let own = shelf.counts_of(&CampaignId([1; 32]));
        assert_eq!((own.collected, own.failed, own.refused), (1, 1, 0));
        shelf.set(1, collected());
        assert_eq!(shelf.counts().reasons, BTreeMap::from([("other-bands", 1)]));
        assert_eq!((shelf.counts().failed, shelf.counts().waiting), (0, 0));
    }

    #[test]
    fn duplicates_are_listed_with_their_original() {
        let mut shelf = shelf(3);
        shelf.place(2, Some(1));
        assert_eq!(shelf.counts().duplicates, 0, "nothing is placed before it is here");
        for number in [1, 2, 3] {
            shelf.set(number, collected());
        }
        shelf.place(1, None);
        shelf.place(2, Some(1));
        shelf.place(3, Some(1));
        let (second, third) = (BlobId([2; 32]), BlobId([3; 32]));
        assert_eq!(shelf.duplicates_of(1, 9), (2, vec![second, third]));
        assert_eq!(shelf.duplicates_of(1, 1), (2, vec![second]));
        assert_eq!(shelf.counts().duplicates, 2);
        shelf.place(3, None);
        assert_eq!(shelf.duplicates_of(1, 9), (1, vec![second]));
        assert_eq!((shelf.counts().duplicates, shelf.counts().collected), (1, 3));
    }
}

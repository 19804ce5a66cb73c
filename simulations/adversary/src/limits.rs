//! Every number of this crate, with its reason.

/// A node that cheats sometimes does so on each task of this number: a third.
pub(crate) const CHEAT_EVERY: u64 = 3;
/// Neighbours' proofs that a copier remembers: those of some rounds, which is all that can still
/// be revealed.
pub(crate) const HEARD_MAX: usize = 512;
/// Sentences of an invented page: as long as a page of a manual, so that it passes every filter.
pub(crate) const SENTENCES: usize = 48;
/// Sentences of a paragraph.
pub(crate) const PARAGRAPH_SENTENCES: usize = 4;

//! What the node did, for people: single leases, the latest ones, totals.

use openledger_wire::link::LeasedTask;
use openledger_wire::log::Verdict;
use openledger_wire::{Points, UnixMs};
use serde::{Deserialize, Serialize};

use crate::record::{Stage, Work};

/// Which leases a history shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only tasks whose id begins with these hex digits.
    pub task: Option<String>,
    /// Only leases heard of before this.
    pub before: Option<UnixMs>,
    /// At most so many, newest first; never more than [`crate::limits::QUERY_ROWS_MAX`].
    pub rows_max: usize,
}

/// A lease of the history with what was leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record.
    pub work: Work,
    /// What was leased, unless the row is missing.
    pub leased: Option<LeasedTask>,
}

/// Sums over everything this node ever did; pruning does not lower them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Leases heard of.
    pub leased: u64,
    /// Commitments made.
    pub committed: u64,
    /// Receipts held.
    pub receipted: u64,
    /// Accepted.
    pub accepted: u64,
    /// Rejected.
    pub rejected: u64,
    /// Neither.
    pub inconclusive: u64,
    /// Given back by this node.
    pub declined: u64,
    /// Not committed in time.
    pub expired: u64,
    /// Refused by the coordinator.
    pub refused: u64,
    /// Kept back because the closed set was wrong.
    pub withheld: u64,
    /// Points of accepted work, pending ones included.
    pub points: Points,
    /// Leases whose record can still change.
    pub live: u64,
}

impl Totals {
    /// Accounts for a record's change.
    pub(crate) fn change(&mut self, before: Option<&Work>, after: &Work) {
        if before.is_none() {
            self.leased += 1;
        }
        let flag = |old: bool, new: bool, count: &mut u64| {
            if new && !old {
                *count += 1;
            } else if old && !new {
                *count = count.saturating_sub(1);
            }
        };
        let promised = |work: &Work| work.promise.is_some();
        let receipted = |work: &Work| work.receipt.is_some();
        flag(before.is_some_and(promised), promised(after), &mut self.committed);
        flag(before.is_some_and(receipted), receipted(after), &mut self.receipted);
        flag(before.is_some_and(Work::is_live), after.is_live(), &mut self.live);
        for (verdict, count) in [
            (Verdict::Accepted, &mut self.accepted),
            (Verdict::Rejected, &mut self.rejected),
            (Verdict::Inconclusive, &mut self.inconclusive),
        ] {
            let is = |work: &Work| work.verdict.as_ref().is_some_and(|v| v.row.verdict == verdict);
            flag(before.is_some_and(is), is(after), count);
        }
        for (stage, count) in [
            (Stage::Declined, &mut self.declined),
            (Stage::Expired, &mut self.expired),
            (Stage::Refused, &mut self.refused),
            (Stage::Withheld, &mut self.withheld),
        ] {
            let is = |work: &Work| work.stage == stage;
            flag(before.is_some_and(is), is(after), count);
        }
        let former = before.map_or(0, |work| work.points().0);
        self.points = Points(self.points.0.saturating_sub(former).saturating_add(after.points().0));
    }
}

impl Work {
    /// Whether the record can still change by itself: a verdict with a higher number may change
    /// any record, but is not waited for.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let settled = self.stage == Stage::Counted && !self.is_accepted();
        !self.stage.is_final() && !settled
    }
}

//! Whether there is room for who is next, and who gives way if not.
//!
//! Places are shared among the callers that have something to run, and each caller's places among
//! its adapter sets. Who has more than its part gives way to who has less, never to an equal, so
//! nobody is sent to and fro.

use std::collections::{BTreeMap, BTreeSet};

use super::Scheduler;
use crate::sequence::Sequence;
use crate::shares::Flow;

impl Scheduler {
    /// Pages that a waiting sequence would take from the free ones to run what it has.
    pub(super) fn needs(&mut self, waiting: usize) -> Option<usize> {
        let page_tokens = self.pages.page_tokens();
        let sequence = self.queue.get(waiting)?;
        let all = self.pages.needed(sequence.tokens.len() + 1);
        // The last token is always run.
        let whole = sequence.tokens.len().saturating_sub(1) / page_tokens;
        let mut shared = 0;
        for index in 0..whole {
            let holders = sequence.key(index, page_tokens).and_then(|key| self.pages.holders(&key));
            match holders {
                Some(0) => (),
                Some(_) => shared += 1,
                None => break,
            }
        }
        Some(all - shared)
    }

    /// Who must give way so that a waiting sequence that needs so many pages can come in: indices in
    /// order, empty if there is room; nothing if it has to wait.
    pub(super) fn victims(&mut self, waiting: usize, needs: usize) -> Option<Vec<usize>> {
        let flow = self.queue.get(waiting)?.flow;
        let mut out = BTreeSet::new();
        loop {
            let (mut promised, mut free) = (needs, self.pages.free());
            for (index, sequence) in self.running.iter().enumerate() {
                if out.contains(&index) {
                    let own = sequence.pages.iter().filter(|page| self.pages.is_held_once(**page));
                    free += own.count();
                } else {
                    let all = self.pages.needed(sequence.tokens.len() + 1);
                    promised += all.saturating_sub(sequence.pages.len());
                }
            }
            let inside = self.running.len() - out.len();
            let fits = promised <= free || inside == 0;
            if inside < self.sequences_max && fits {
                return Some(out.into_iter().collect());
            }
            out.insert(self.over_share(&flow, &out)?);
        }
    }

    /// Which running sequence, those in `out` aside, should give way to one of `flow`: the youngest
    /// of a caller above its part of the places if the flow's caller is below its own; else the
    /// same among the adapter sets of the caller.
    fn over_share(&self, flow: &Flow, out: &BTreeSet<usize>) -> Option<usize> {
        let inside = || self.running.iter().enumerate().filter(|(index, _)| !out.contains(index));
        let ready = || self.queue.iter().filter(|sequence| sequence.ready);
        let counts = |of: &dyn Fn(&Sequence) -> Option<Flow>| {
            let mut counts: BTreeMap<Flow, usize> =
                ready().filter_map(of).map(|flow| (flow, 0)).collect();
            for part in inside().filter_map(|(_, sequence)| of(sequence)) {
                *counts.entry(part).or_default() += 1;
            }
            counts
        };
        let caller = |flow: Flow| Flow { set: [0; 32], ..flow };
        let callers = counts(&|sequence| Some(caller(sequence.flow)));
        let places = self.sequences_max;
        let above = greatest_above(&callers, &caller(*flow), places);
        let giver = above.map(|giver| giver.caller).or_else(|| {
            let held = callers.get(&caller(*flow)).copied().unwrap_or(0);
            let sets = |s: &Sequence| (s.flow.caller == flow.caller).then_some(s.flow);
            greatest_above(&counts(&sets), flow, held).map(|_| flow.caller)
        })?;
        let sets = counts(&|sequence| (sequence.flow.caller == giver).then_some(sequence.flow));
        let most = sets.values().max()?;
        let gives =
            |sequence: &Sequence| sets.get(&sequence.flow).is_some_and(|count| count == most);
        inside().filter(|(_, sequence)| gives(sequence)).map(|(index, _)| index).max()
    }
}

/// If `own` has less than its part of `places`, who has most of those that have more than theirs.
fn greatest_above(counts: &BTreeMap<Flow, usize>, own: &Flow, places: usize) -> Option<Flow> {
    let part = (places / counts.len().max(1)).max(1);
    if counts.get(own).is_some_and(|count| *count >= part) {
        return None;
    }
    let above = counts.iter().filter(|(_, count)| **count > part);
    above.max_by_key(|(_, count)| **count).map(|(flow, _)| *flow)
}

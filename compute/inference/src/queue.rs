//! Sequences that wait for a place, and which of them is next.
//!
//! Callers come by turns, who had the fewest tokens first ([`crate::shares`]); among a caller's own
//! the more important come first, then its adapter sets by turns, then who came first. A low
//! priority lets all callers pass; any other counts within its caller only, so nobody gains by
//! calling everything important. Waiting raises the priority.

use core::cmp::Reverse;

use crate::limits::AGEING_STEPS;
use crate::request::{CallerId, Priority, SequenceId};
use crate::sequence::Sequence;
use crate::shares::Shares;

/// The sequences that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Vec<Sequence>,
}

/// Where a sequence stands in a step; grows by one every [`AGEING_STEPS`].
fn rank(sequence: &Sequence, step: u64) -> u64 {
    sequence.priority as u64 + step.saturating_sub(sequence.since) / AGEING_STEPS
}

impl Queue {
    pub(crate) const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Requests of a caller that wait.
    pub(crate) fn of_caller(&self, caller: Option<CallerId>) -> usize {
        self.waiting.iter().filter(|sequence| sequence.flow.caller == caller).count()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.waiting.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.waiting.iter_mut()
    }

    pub(crate) fn push(&mut self, sequence: Sequence) {
        self.waiting.push(sequence);
    }

    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Sequence> {
        self.waiting.get_mut(index)
    }

    /// Takes the sequence at an index that [`Queue::next`] gave.
    pub(crate) fn take(&mut self, index: usize) -> Option<Sequence> {
        (index < self.waiting.len()).then(|| self.waiting.remove(index))
    }

    /// Takes a sequence out.
    pub(crate) fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let index = self.waiting.iter().position(|sequence| sequence.id == id)?;
        self.take(index)
    }

    /// Which is next, if any can start.
    pub(crate) fn next(&self, shares: &Shares, step: u64) -> Option<usize> {
        let ready = self.waiting.iter().enumerate().filter(|(_, sequence)| sequence.ready);
        let order = |(_, sequence): &(usize, &Sequence)| {
            let (caller_tokens, set_tokens) = shares.of(&sequence.flow);
            let rank = rank(sequence, step);
            let yields = rank < Priority::Normal as u64;
            (yields, caller_tokens, Reverse(rank), set_tokens, sequence.id)
        };
        ready.min_by_key(order).map(|(index, _)| index)
    }

    /// Takes out those that should have started by now and never did.
    pub(crate) fn expired(&mut self, now_ms: u64) -> Vec<Sequence> {
        let late = |sequence: &mut Sequence| {
            !sequence.started && sequence.deadline_ms.is_some_and(|deadline| deadline <= now_ms)
        };
        self.waiting.extract_if(.., late).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::adapters::AdapterSet;
    use crate::request::Request;

    fn sequence(id: u64, caller: u8, priority: Priority) -> Sequence {
        let mut request = Request::greedy(vec![1; 4], 4);
        request.caller = Some(CallerId::of(&[caller]));
        request.priority = priority;
        Sequence::new(SequenceId(id), request, AdapterSet::default())
    }

    /// The order in which they start, each costing its caller as many tokens.
    fn order(queue: &mut Queue, shares: &mut Shares, step: u64) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(index) = queue.next(shares, step) {
            let next = queue.take(index).unwrap();
            shares.charge(&next.flow, 10);
            order.push(next.id.0);
        }
        order
    }

    fn filled(sequences: Vec<Sequence>) -> (Queue, Shares) {
        let (mut queue, mut shares, mut busy) =
            (Queue::default(), Shares::default(), BTreeSet::new());
        for sequence in sequences {
            shares.enter(sequence.flow, &busy);
            busy.insert(sequence.flow);
            queue.push(sequence);
        }
        (queue, shares)
    }

    #[test]
    fn callers_come_by_turns_however_much_one_asks() {
        let mut all: Vec<_> = (0..6).map(|id| sequence(id, 1, Priority::High)).collect();
        all.extend([sequence(6, 2, Priority::Normal), sequence(7, 2, Priority::Normal)]);
        all.push(sequence(8, 3, Priority::Normal));
        let (mut queue, mut shares) = filled(all);
        assert_eq!(order(&mut queue, &mut shares, 0), [0, 6, 8, 1, 7, 2, 3, 4, 5]);
    }

    #[test]
    fn priorities_count_among_ones_own_and_low_yields_to_all_but_not_for_ever() {
        let all = || {
            vec![
                sequence(1, 1, Priority::Low),
                sequence(2, 1, Priority::Normal),
                sequence(3, 1, Priority::High),
                sequence(4, 2, Priority::Normal),
                sequence(5, 2, Priority::Normal),
            ]
        };
        let (mut queue, mut shares) = filled(all());
        assert_eq!(order(&mut queue, &mut shares, 0), [3, 4, 2, 5, 1]);
        let mut late = all();
        for fresh in late.iter_mut().skip(1) {
            fresh.since = 3 * AGEING_STEPS;
        }
        let (mut queue, mut shares) = filled(late);
        assert_eq!(order(&mut queue, &mut shares, 3 * AGEING_STEPS)[0], 1, "it waited longest");
    }

    #[test]
    fn who_waits_for_an_adapter_holds_up_nobody() {
        let mut first = sequence(1, 1, Priority::High);
        first.ready = false;
        let (mut queue, shares) = filled(vec![first, sequence(2, 1, Priority::Low)]);
        assert_eq!(queue.next(&shares, 0), Some(1));
        assert_eq!(queue.take(1).unwrap().id, SequenceId(2));
        assert_eq!(queue.next(&shares, 0), None);
        queue.get(0).unwrap().ready = true;
        assert_eq!(queue.next(&shares, 0), Some(0));
    }

    #[test]
    fn only_who_never_started_expires() {
        let mut all = vec![sequence(1, 1, Priority::Normal), sequence(2, 1, Priority::Normal)];
        all.push(sequence(3, 1, Priority::Normal));
        all[0].deadline_ms = Some(100);
        all[1].deadline_ms = Some(100);
        all[1].started = true;
        let (mut queue, _) = filled(all);
        assert!(queue.expired(99).is_empty());
        let gone: Vec<u64> = queue.expired(100).iter().map(|sequence| sequence.id.0).collect();
        assert_eq!((gone, queue.len()), (vec![1], 2));
    }
}

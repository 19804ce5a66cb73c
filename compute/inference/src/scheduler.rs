//! Which sequences run in a step, and with which pages.
//!
//! First come, first served. Sequences that decode go first in every step, so that a long prompt
//! does not hold up running answers; prompts share what a step may take, in chunks. When pages run
//! out, the youngest sequence gives its pages back and waits at the head of the queue; what it had
//! computed is computed again. The oldest always gets what it needs, so every request that
//! fits into the pages alone is finished.

use std::collections::VecDeque;

use crate::options::EngineOptions;
use crate::pages::PagePool;
use crate::plan::{PlannedSequence, Row, StepPlan, Wants};
use crate::request::SequenceId;
use crate::sequence::Sequence;

#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) pages: PagePool,
    waiting: VecDeque<Sequence>,
    /// Oldest first.
    running: Vec<Sequence>,
    sequences_max: usize,
    chunk_tokens_max: usize,
    page_tokens: usize,
}

impl Scheduler {
    pub(crate) fn new(options: &EngineOptions) -> Self {
        Self {
            pages: PagePool::new(options.pages_max, options.page_tokens),
            waiting: VecDeque::new(),
            running: Vec::new(),
            sequences_max: options.sequences_max,
            chunk_tokens_max: options.chunk_tokens_max,
            page_tokens: options.page_tokens,
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) const fn running(&self) -> usize {
        self.running.len()
    }

    /// Queues a sequence.
    pub(crate) fn push(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// Takes a sequence out, its pages freed.
    pub(crate) fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.running.remove(at);
            self.pages.give(&mut sequence.pages);
            return Some(sequence);
        }
        let at = self.waiting.iter().position(|sequence| sequence.id == id)?;
        self.waiting.remove(at)
    }

    /// The sequences that the last plan runs, in its order.
    pub(crate) fn planned(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.running.iter_mut().filter(|sequence| sequence.planned > 0)
    }

    /// Plans the next step; empty if nothing is to be done.
    pub(crate) fn plan(&mut self) -> StepPlan {
        self.admit();
        for sequence in &mut self.running {
            sequence.planned = 0;
        }
        let mut index = 0;
        while let Some(sequence) = self.running.get(index) {
            if sequence.decoding() {
                self.reserve(index, 1);
            }
            index += 1;
        }
        let (mut index, mut left) = (0, self.chunk_tokens_max);
        while let Some(sequence) = self.running.get(index).filter(|_| left > 0) {
            if !sequence.decoding() {
                left -= self.reserve(index, sequence.pending().min(left));
            }
            index += 1;
        }
        self.rows()
    }

    /// Lets sequences in from the queue while there are places, and pages for all that those inside
    /// have still to run.
    fn admit(&mut self) {
        let outstanding = |pages: &PagePool, sequence: &Sequence| {
            pages.needed(sequence.tokens.len() + 1).saturating_sub(sequence.pages.len())
        };
        let inside = self.running.iter().map(|sequence| outstanding(&self.pages, sequence));
        let mut promised: usize = inside.sum();
        while self.running.len() < self.sequences_max {
            let Some(next) = self.waiting.front() else { break };
            promised += outstanding(&self.pages, next);
            if promised > self.pages.free() && !self.running.is_empty() {
                break;
            }
            self.running.extend(self.waiting.pop_front());
        }
    }

    /// Plans up to `wanted` tokens of a running sequence, as far as pages go; takes pages from
    /// younger ones if it could not go on at all. Returns how many.
    fn reserve(&mut self, index: usize, wanted: usize) -> usize {
        loop {
            let Some(sequence) = self.running.get_mut(index) else { return 0 };
            while sequence.pages.len() < self.pages.needed(sequence.cached + wanted) {
                let Some(page) = self.pages.take() else { break };
                sequence.pages.push(page);
            }
            let held = sequence.pages.len() * self.page_tokens;
            sequence.planned = wanted.min(held.saturating_sub(sequence.cached));
            if sequence.planned > 0 || self.running.len() <= index + 1 {
                return self.running.get(index).map_or(0, |sequence| sequence.planned);
            }
            self.preempt();
        }
    }

    /// Sends the youngest running sequence back to the head of the queue. Says whether there was one.
    fn preempt(&mut self) -> bool {
        let Some(mut youngest) = self.running.pop() else { return false };
        self.pages.give(&mut youngest.pages);
        youngest.cached = 0;
        youngest.planned = 0;
        self.waiting.push_front(youngest);
        true
    }

    /// Sends all running sequences back: what the pages hold is lost.
    pub(crate) fn preempt_all(&mut self) {
        while self.preempt() {}
    }

    /// Takes pages for something outside the queue, from the youngest sequences if need be.
    pub(crate) fn borrow(&mut self, count: usize) -> Option<Vec<u32>> {
        if count > self.pages.total() {
            return None;
        }
        while self.pages.free() < count {
            if !self.preempt() {
                return None;
            }
        }
        (0..count).map(|_| self.pages.take()).collect()
    }

    /// The plan of what is reserved: rows of decoding sequences first.
    fn rows(&self) -> StepPlan {
        let mut plan = StepPlan::default();
        let mut chunks = Vec::new();
        for sequence in self.running.iter().filter(|sequence| sequence.planned > 0) {
            let end = sequence.cached + sequence.planned;
            let row = |position: usize| Row {
                sequence: plan.sequences.len(),
                position,
                token: sequence.tokens.get(position).copied().unwrap_or(0),
                wants: if position + 1 == sequence.tokens.len() {
                    Wants::Logits
                } else {
                    Wants::Nothing
                },
            };
            let rows = (sequence.cached..end).map(row);
            if sequence.decoding() {
                plan.rows.extend(rows);
            } else {
                chunks.extend(rows);
            }
            let (pages, adapters) = (sequence.pages.clone(), sequence.adapters.clone());
            plan.sequences.push(PlannedSequence { pages, adapters });
        }
        plan.rows.extend(chunks);
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::AdapterSet;
    use crate::request::Request;

    fn scheduler(pages_max: usize, chunk_tokens_max: usize) -> Scheduler {
        let options = EngineOptions {
            pages_max,
            page_tokens: 4,
            chunk_tokens_max,
            sequences_max: 3,
            ..EngineOptions::default()
        };
        Scheduler::new(&options)
    }

    fn push(scheduler: &mut Scheduler, id: u64, prompt: usize) {
        let request = Request::greedy(vec![1; prompt], 8);
        scheduler.push(Sequence::new(SequenceId(id), request, AdapterSet::default()));
    }

    /// Plans, pretends to run, and draws a token where one is due. Returns rows per sequence.
    fn step(scheduler: &mut Scheduler) -> Vec<(u64, usize)> {
        let plan = scheduler.plan();
        for row in &plan.rows {
            let held = plan.sequences[row.sequence].pages.len() * 4;
            assert!(row.position < held, "a row without a page");
        }
        let mut ran = Vec::new();
        for sequence in scheduler.planned() {
            ran.push((sequence.id.0, sequence.planned));
            sequence.cached += sequence.planned;
            if sequence.pending() == 0 {
                sequence.tokens.push(2);
            }
        }
        ran
    }

    #[test]
    fn prompts_come_in_chunks_and_decoding_goes_first() {
        let mut scheduler = scheduler(100, 5);
        push(&mut scheduler, 1, 3);
        push(&mut scheduler, 2, 9);
        assert_eq!(step(&mut scheduler), [(1, 3), (2, 2)]);
        assert_eq!(step(&mut scheduler), [(1, 1), (2, 5)]);
        let plan = scheduler.plan();
        assert_eq!(plan.rows[0].sequence, 0);
        assert_eq!(plan.rows[0].wants, Wants::Logits);
        assert_eq!(plan.rows[1].wants, Wants::Nothing);
        assert_eq!(plan.rows[2].wants, Wants::Logits);
    }

    #[test]
    fn the_youngest_gives_way_and_comes_back() {
        let mut scheduler = scheduler(5, 64);
        push(&mut scheduler, 1, 7);
        push(&mut scheduler, 2, 7);
        assert_eq!(step(&mut scheduler), [(1, 7), (2, 7)]);
        assert_eq!(step(&mut scheduler), [(1, 1), (2, 1)]);
        // Both are at a page's end, one page is left: the older gets it.
        assert_eq!(step(&mut scheduler), [(1, 1)]);
        for _ in 0..3 {
            assert_eq!(step(&mut scheduler), [(1, 1)]);
        }
        // A fourth page for the oldest: the youngest gives all back.
        assert_eq!(step(&mut scheduler), [(1, 1)]);
        assert_eq!((scheduler.running(), scheduler.waiting()), (1, 1));
        assert!(scheduler.remove(SequenceId(1)).is_some());
        assert_eq!(step(&mut scheduler), [(2, 9)]);
        assert!(scheduler.remove(SequenceId(2)).is_some());
        assert_eq!(scheduler.pages.free(), 5);
    }

    #[test]
    fn places_are_limited_and_the_queue_keeps_its_order() {
        let mut scheduler = scheduler(100, 64);
        for id in 1..=5 {
            push(&mut scheduler, id, 2);
        }
        assert_eq!(step(&mut scheduler), [(1, 2), (2, 2), (3, 2)]);
        assert!(scheduler.remove(SequenceId(2)).is_some());
        assert!(scheduler.remove(SequenceId(5)).is_some());
        assert_eq!(step(&mut scheduler), [(1, 1), (3, 1), (4, 2)]);
        assert!(scheduler.remove(SequenceId(9)).is_none());
    }

    #[test]
    fn pages_can_be_borrowed_from_running_sequences() {
        let mut scheduler = scheduler(8, 64);
        push(&mut scheduler, 1, 7);
        push(&mut scheduler, 2, 7);
        step(&mut scheduler);
        let mut pages = scheduler.borrow(6).unwrap();
        assert_eq!((scheduler.running(), scheduler.waiting()), (1, 1));
        assert!(scheduler.borrow(9).is_none());
        scheduler.pages.give(&mut pages);
        assert_eq!(step(&mut scheduler), [(1, 1), (2, 8)]);
    }
}

//! Which sequences run in a step, and with which pages.
//!
//! Who is let in next is the queue's to say ([`crate::queue`]). Where places or pages are short, a
//! caller that has more than its part of the places gives some back to one that has less, and so do
//! the adapter sets of one caller. Sequences that decode go first in every step, so that a long
//! prompt does not hold up running answers; prompts share what a step may take in chunks, the
//! shortest rest first, because that makes the mean wait the shortest and no flood of short ones can
//! pass a long one for ever: waiting counts as being shorter.
//!
//! When pages run out, the youngest sequence gives its pages back and waits again; what of them is
//! not needed meanwhile it finds again, the rest is computed again. The oldest always gets what it
//! needs, so every request that fits into the pages alone is finished.

mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::limits::CHUNK_AGEING_STEPS;
use crate::options::EngineOptions;
use crate::pages::PagePool;
use crate::plan::{PlannedSequence, Row, StepPlan, Wants};
use crate::prefix::PageKey;
use crate::queue::Queue;
use crate::request::{CallerId, SequenceId};
use crate::sequence::Sequence;
use crate::shares::{Flow, Shares};

#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) pages: PagePool,
    queue: Queue,
    /// Oldest first.
    running: Vec<Sequence>,
    shares: Shares,
    /// Steps planned so far.
    step: u64,
    preempted: u64,
    reused: u64,
    sequences_max: usize,
    chunk_tokens_max: usize,
}

impl Scheduler {
    pub(crate) fn new(options: &EngineOptions) -> Self {
        Self {
            pages: PagePool::new(options.pages_max, options.page_tokens, options.prefix_cache),
            queue: Queue::default(),
            running: Vec::new(),
            shares: Shares::default(),
            step: 0,
            preempted: 0,
            reused: 0,
            sequences_max: options.sequences_max,
            chunk_tokens_max: options.chunk_tokens_max,
        }
    }

    pub(crate) const fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(crate) const fn running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that were sent back to wait so far.
    pub(crate) const fn preempted(&self) -> u64 {
        self.preempted
    }

    /// Tokens that were found and not run so far.
    pub(crate) const fn reused(&self) -> u64 {
        self.reused
    }

    /// Requests of a caller that wait.
    pub(crate) fn waiting_of(&self, caller: Option<CallerId>) -> usize {
        self.queue.of_caller(caller)
    }

    /// Whether something can run: not if all that is here waits for adapters.
    pub(crate) fn can_run(&self) -> bool {
        !self.running.is_empty() || self.queue.iter().any(|sequence| sequence.ready)
    }

    /// The sequences that wait, to tell them that their adapters can be used now.
    pub(crate) fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.queue.iter_mut()
    }

    /// Sequences and the tokens that they may yet run: of all, or of one caller.
    pub(crate) fn load(&self, caller: Option<CallerId>) -> (u64, u64) {
        let all = self.running.iter().chain(self.queue.iter());
        let of = all.filter(|sequence| caller.is_none() || sequence.flow.caller == caller);
        of.fold((0, 0), |(count, left), sequence| (count + 1, left + sequence.left() as u64))
    }

    /// Callers that have something here.
    pub(crate) fn callers(&self) -> usize {
        let flows = self.flows();
        flows.iter().map(|flow| flow.caller).collect::<BTreeSet<_>>().len()
    }

    fn flows(&self) -> BTreeSet<Flow> {
        self.running.iter().chain(self.queue.iter()).map(|sequence| sequence.flow).collect()
    }

    /// Queues a sequence.
    pub(crate) fn push(&mut self, mut sequence: Sequence) {
        self.shares.enter(sequence.flow, &self.flows());
        sequence.since = self.step;
        self.queue.push(sequence);
    }

    /// Takes a sequence out, its pages freed.
    pub(crate) fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.running.remove(at);
            self.pages.give(&mut sequence.pages);
            return Some(sequence);
        }
        self.queue.remove(id)
    }

    /// Takes out those that should have started by now and never did.
    pub(crate) fn expired(&mut self, now_ms: u64) -> Vec<Sequence> {
        self.queue.expired(now_ms)
    }

    /// The sequences that the last plan runs, in its order.
    pub(crate) fn planned(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.running.iter_mut().filter(|sequence| sequence.planned > 0)
    }

    /// Plans the next step; empty if nothing is to be done.
    pub(crate) fn plan(&mut self) -> StepPlan {
        self.step += 1;
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
        self.share_chunk();
        self.rows()
    }

    /// Lets sequences in from the queue while there are places, and pages for all that those inside
    /// have still to run.
    fn admit(&mut self) {
        while let Some(next) = self.queue.next(&self.shares, self.step) {
            let Some(needs) = self.needs(next) else { return };
            let Some(victims) = self.victims(next, needs) else { return };
            // From the back, so that the other indices stay.
            for victim in victims.into_iter().rev() {
                self.put_back(victim);
            }
            let Some(mut sequence) = self.queue.take(next) else { return };
            sequence.started = true;
            sequence.since = self.step;
            self.reused += adopt(&mut self.pages, &mut sequence) as u64;
            let due = sequence.take_due();
            self.shares.charge(&sequence.flow, due);
            self.running.push(sequence);
        }
    }

    /// Divides what a step may take of prompts among them.
    fn share_chunk(&mut self) {
        let (page_tokens, quantum) = (self.pages.page_tokens(), self.chunk_tokens_max as u64);
        let mut order = Vec::new();
        for sequence in self.running.iter_mut().filter(|sequence| !sequence.decoding()) {
            self.reused += adopt(&mut self.pages, sequence) as u64;
            let waited = self.step - sequence.since;
            let credit = waited.saturating_mul(quantum) / CHUNK_AGEING_STEPS;
            order.push(((sequence.pending() as u64).saturating_sub(credit), sequence.id));
        }
        order.sort_by_key(|(rest, _)| *rest);
        let (mut left, mut begun) = (self.chunk_tokens_max, BTreeSet::<PageKey>::new());
        for (_, id) in order {
            let at = self.running.iter().position(|sequence| sequence.id == id);
            let Some((index, sequence)) = at.and_then(|at| Some((at, self.running.get_mut(at)?)))
            else {
                continue;
            };
            // Another runs this very page now: it can be had in the next step.
            if sequence.key_ahead(page_tokens).is_some_and(|key| begun.contains(&key)) {
                continue;
            }
            let wanted = sequence.pending().min(left);
            let taken = self.reserve(index, wanted);
            left -= taken;
            if let Some(sequence) = self.running.get_mut(index).filter(|_| taken > 0) {
                let pages =
                    sequence.cached / page_tokens..(sequence.cached + taken).div_ceil(page_tokens);
                begun.extend(pages.filter_map(|page| sequence.key(page, page_tokens)));
            }
            if left == 0 {
                return;
            }
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
            let held = sequence.pages.len() * self.pages.page_tokens();
            sequence.planned = wanted.min(held.saturating_sub(sequence.cached));
            if sequence.planned > 0 || self.running.len() <= index + 1 {
                return self.running.get(index).map_or(0, |sequence| sequence.planned);
            }
            self.preempt();
        }
    }

    /// Notes what the step ran: pages that are full now can be found, and answers count.
    pub(crate) fn ran(&mut self) {
        let page_tokens = self.pages.page_tokens();
        for sequence in &mut self.running {
            while (sequence.published + 1) * page_tokens <= sequence.cached {
                let at = sequence.published;
                if let Some(key) = sequence.key(at, page_tokens)
                    && let Some(page) = sequence.pages.get_mut(at)
                {
                    *page = self.pages.publish(*page, key);
                }
                sequence.published += 1;
            }
            sequence.reached = sequence.reached.max(sequence.cached);
        }
    }

    /// Sends a running sequence back to wait.
    fn put_back(&mut self, index: usize) {
        if index < self.running.len() {
            let mut sequence = self.running.remove(index);
            self.pages.give(&mut sequence.pages);
            sequence.put_back(self.step);
            self.preempted += 1;
            self.queue.push(sequence);
        }
    }

    /// Sends the youngest running sequence back to wait. Says whether there was one.
    fn preempt(&mut self) -> bool {
        let Some(youngest) = self.running.len().checked_sub(1) else { return false };
        self.put_back(youngest);
        true
    }

    /// Sends all running sequences back, and forgets what the pages hold: it is lost.
    pub(crate) fn preempt_all(&mut self) {
        while self.preempt() {}
        self.pages.forget();
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
    fn rows(&mut self) -> StepPlan {
        let mut plan = StepPlan::default();
        let mut chunks = Vec::new();
        for sequence in self.running.iter_mut().filter(|sequence| sequence.planned > 0) {
            if sequence.decoding() {
                let due = sequence.take_due();
                self.shares.charge(&sequence.flow, due);
            }
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

/// Gives a sequence the pages of its next tokens that were run for it or another before. Returns
/// how many tokens of its prompt it does not need to run for that.
fn adopt(pages: &mut PagePool, sequence: &mut Sequence) -> usize {
    let (page_tokens, before) = (pages.page_tokens(), sequence.reused);
    while let Some(key) = sequence.key_ahead(page_tokens) {
        let Some(page) = pages.find(&key) else { break };
        let at = sequence.cached / page_tokens;
        match sequence.pages.get_mut(at) {
            Some(own) => pages.release(core::mem::replace(own, page)),
            None => sequence.pages.push(page),
        }
        let known = sequence.reached.max(sequence.cached);
        sequence.cached += page_tokens;
        sequence.published = at + 1;
        sequence.reached = known.max(sequence.cached);
        // Answers that were begun elsewhere, and its own work, are not called found.
        let in_prompt = |tokens: usize| tokens.min(sequence.prompt_len);
        sequence.reused += in_prompt(sequence.reached) - in_prompt(known);
    }
    sequence.reused - before
}

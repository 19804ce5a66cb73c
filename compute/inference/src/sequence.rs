//! One sequence in an engine: its tokens and how far they have been run.

use openledger_models::Tokenizer;

use crate::adapters::AdapterSet;
use crate::constraint::Constrained;
use crate::event::FinishReason;
use crate::fingerprint::Sketch;
use crate::prefix::{self, PageKey};
use crate::request::{Priority, Request, SequenceId};
use crate::sampling::{History, Sampling};
use crate::shares::Flow;
use crate::text::TextStream;

#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) adapters: AdapterSet,
    pub(crate) sampling: Sampling,
    pub(crate) tokens_max: usize,
    pub(crate) logprobs: Option<u8>,
    pub(crate) ignore_end: bool,
    /// What its answer must look like.
    pub(crate) constraint: Option<Constrained>,
    /// The prompt and what was drawn.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: usize,
    pub(crate) text: TextStream,
    /// Of the hidden states that the tokens drawn here came from.
    pub(crate) sketches: Vec<Sketch>,
    /// Tokens whose keys and values lie in `pages`.
    pub(crate) cached: usize,
    pub(crate) pages: Vec<u32>,
    /// Tokens that the present step runs.
    pub(crate) planned: usize,
    /// Steps in a row in which the backend failed.
    pub(crate) failures: u32,
    /// Whose share it counts against.
    pub(crate) flow: Flow,
    pub(crate) priority: Priority,
    pub(crate) deadline_ms: Option<u64>,
    /// Whether its adapters can be used; until then it waits and holds up nobody.
    pub(crate) ready: bool,
    /// Since which step it waits for a place, or has one.
    pub(crate) since: u64,
    /// Whether it ever had a place.
    pub(crate) started: bool,
    /// Tokens that its share was charged for, or that need no charge.
    paid: usize,
    /// Keys of its full pages, as far as they were asked for.
    keys: Vec<PageKey>,
    /// Pages that are findable by their keys, from the first on.
    pub(crate) published: usize,
    /// Tokens that were run for it or found, in this turn or an earlier one.
    pub(crate) reached: usize,
    /// Tokens of its prompt that others had run before.
    pub(crate) reused: usize,
}

impl Sequence {
    pub(crate) fn new(id: SequenceId, request: Request, adapters: AdapterSet) -> Self {
        let flow = Flow::of(request.caller, &request.adapters);
        Self {
            id,
            adapters,
            sampling: request.sampling,
            tokens_max: request.tokens_max,
            logprobs: request.logprobs,
            ignore_end: request.ignore_end,
            constraint: None,
            prompt_len: request.prompt.len(),
            tokens: request.prompt,
            text: TextStream::new(request.stop),
            sketches: Vec::new(),
            cached: 0,
            pages: Vec::new(),
            planned: 0,
            failures: 0,
            flow,
            priority: request.priority,
            deadline_ms: request.deadline_ms,
            ready: true,
            since: 0,
            started: false,
            paid: 0,
            keys: Vec::new(),
            published: 0,
            reached: 0,
            reused: 0,
        }
    }

    /// Gives it the adapters that it waited for.
    pub(crate) fn equip(&mut self, adapters: AdapterSet) {
        self.adapters = adapters;
        // Pages are found by adapters too.
        self.keys.clear();
        self.ready = true;
    }

    /// Takes the beginning of the answer over; says how the answer ended if that is all of it.
    pub(crate) fn replay(&mut self, tokenizer: &Tokenizer, answer: &[u32]) -> Option<FinishReason> {
        for &token in answer {
            self.tokens.push(token);
            let ends = tokenizer.is_end(token) && !self.ignore_end;
            if ends || self.text.push(tokenizer, token).stopped {
                return Some(FinishReason::Stop);
            }
            if self.answer().len() >= self.tokens_max {
                return Some(FinishReason::Length);
            }
        }
        None
    }

    /// Tokens that have not been run.
    pub(crate) const fn pending(&self) -> usize {
        self.tokens.len() - self.cached
    }

    /// Whether only the token drawn last is to be run.
    pub(crate) const fn decoding(&self) -> bool {
        self.pending() == 1 && self.tokens.len() > self.prompt_len
    }

    /// What was drawn.
    pub(crate) fn answer(&self) -> &[u32] {
        self.tokens.get(self.prompt_len..).unwrap_or_default()
    }

    /// What penalties look at.
    pub(crate) fn history(&self) -> History<'_> {
        let (prompt, answer) = self.tokens.split_at(self.prompt_len.min(self.tokens.len()));
        History { prompt, answer }
    }

    /// Tokens that it may yet run: those that are there, and those that it may draw.
    pub(crate) fn left(&self) -> usize {
        self.pending() + self.tokens_max.saturating_sub(self.answer().len())
    }

    /// Tokens that it runs now or soon and that its share was not charged for yet. Each is charged
    /// once, however often it has to be run.
    pub(crate) fn take_due(&mut self) -> usize {
        let paid = self.paid.max(self.reached);
        self.paid = self.tokens.len();
        self.tokens.len().saturating_sub(paid)
    }

    /// The key of its page at `index`, once its tokens fill it.
    pub(crate) fn key(&mut self, index: usize, page_tokens: usize) -> Option<PageKey> {
        while self.keys.len() <= index {
            let at = self.keys.len() * page_tokens;
            let tokens = self.tokens.get(at..at + page_tokens)?;
            let parent = self.keys.last().copied();
            let parent = parent.unwrap_or_else(|| prefix::root(&self.adapters));
            self.keys.push(prefix::next(&parent, tokens));
        }
        self.keys.get(index).copied()
    }

    /// The key of the page that its next token begins, if that page can be taken from others whole:
    /// it has to end before the last token, whose logits are wanted.
    pub(crate) fn key_ahead(&mut self, page_tokens: usize) -> Option<PageKey> {
        let begins = self.cached.is_multiple_of(page_tokens);
        let ends = self.cached + page_tokens < self.tokens.len();
        if begins && ends { self.key(self.cached / page_tokens, page_tokens) } else { None }
    }

    /// It has no place and no pages any more, and waits from this step on.
    pub(crate) fn put_back(&mut self, step: u64) {
        if let Some(constraint) = &mut self.constraint {
            constraint.rest();
        }
        self.cached = 0;
        self.planned = 0;
        self.published = 0;
        self.since = step;
    }
}

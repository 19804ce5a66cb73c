//! One sequence in an engine: its tokens and how far they have been run.

use openledger_models::Tokenizer;

use crate::adapters::AdapterSet;
use crate::event::FinishReason;
use crate::request::{Request, SequenceId};
use crate::sampling::Sampling;
use crate::text::TextStream;

#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) adapters: AdapterSet,
    pub(crate) sampling: Sampling,
    pub(crate) tokens_max: usize,
    pub(crate) logprobs: Option<u8>,
    pub(crate) ignore_end: bool,
    /// The prompt and what was drawn.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: usize,
    pub(crate) text: TextStream,
    /// Tokens whose keys and values lie in `pages`.
    pub(crate) cached: usize,
    pub(crate) pages: Vec<u32>,
    /// Tokens that the present step runs.
    pub(crate) planned: usize,
    /// Steps in a row in which the backend failed.
    pub(crate) failures: u32,
}

impl Sequence {
    pub(crate) fn new(id: SequenceId, request: Request, adapters: AdapterSet) -> Self {
        Self {
            id,
            adapters,
            sampling: request.sampling,
            tokens_max: request.tokens_max,
            logprobs: request.logprobs,
            ignore_end: request.ignore_end,
            prompt_len: request.prompt.len(),
            tokens: request.prompt,
            text: TextStream::new(request.stop),
            cached: 0,
            pages: Vec::new(),
            planned: 0,
            failures: 0,
        }
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
}

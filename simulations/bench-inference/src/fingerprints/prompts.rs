//! What is asked.

use anyhow::{Context as _, Result, ensure};
use openledger_inference::fingerprint::CHUNK_TOKENS;
use openledger_inference::{Request, Sampling};
use openledger_sim::random::Random;
use openledger_wire::ids::BlobId;

use crate::sequences::Sequences;
use crate::subject::Subject;

/// Adapters that requests name, all of a strength that is felt.
pub(super) const ADAPTERS: u64 = 4;

/// The adapter that was trained for ten steps.
pub(super) const YOUNG: u64 = 100;

/// Pieces of texts of many kinds.
#[derive(Debug)]
pub(super) struct Prompts {
    texts: Vec<Vec<u32>>,
    answer_tokens: usize,
}

impl Prompts {
    /// To be answered in so many chunks.
    pub(super) fn new(subject: &Subject, answer_chunks: u64) -> Result<Self> {
        let file = std::fs::read(&subject.path).context("read the model")?;
        let texts = Sequences::of(&file, subject.model.tokenizer())?.tokens;
        ensure!(!texts.is_empty(), "make prompts: there are no texts");
        Ok(Self { texts, answer_tokens: answer_chunks as usize * CHUNK_TOKENS })
    }

    /// The request of a number, with a prompt, seed and way of drawing of its own: every second
    /// with an adapter, every fourth greedy.
    pub(super) fn request(&self, number: u64) -> Request {
        let mut random = Random::new(number, "fingerprints");
        let text = random.below(self.texts.len() as u64) as usize;
        let text = self.texts.get(text).map_or(&[][..], Vec::as_slice);
        let length = 8 + random.below(33) as usize;
        let start = random.below(text.len().saturating_sub(length).max(1) as u64) as usize;
        let prompt = text.iter().skip(start).take(length).copied().collect();
        let mut request = Request::greedy(prompt, self.answer_tokens);
        request.ignore_end = true;
        if !random.chance(250) {
            request.sampling = Sampling::seeded(0.8, random.bytes());
        }
        if random.chance(500) {
            request.adapters = vec![(adapter_id(random.below(ADAPTERS)), 1.0)];
        }
        request
    }

    /// The same with an adapter in any case.
    pub(super) fn with_adapter(&self, number: u64, adapter: u64) -> Request {
        let mut request = self.request(number);
        request.adapters = vec![(adapter_id(adapter), 1.0)];
        request
    }
}

pub(super) const fn adapter_id(number: u64) -> BlobId {
    BlobId([number as u8; 32])
}

//! A model server without a model: it counts words, and does what its prompts say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use openledger_app::serving::{CallPiece, CallStream, Serve, Wishes, codes, failure};
use openledger_wire::call::{
    Call, CallEnd, CallFailure, CallToken, ChatMessage, Embed, Embedded, FinishReason, Prompt,
    Sampling,
};
use openledger_wire::gossip::{Announcement, Offer, OfferKind};
use openledger_wire::{Blob, BlobId, List, Prose, Text, UnixMs};
use tokio::sync::{Semaphore, mpsc};

/// Bytes of text that fit into the "context".
pub(crate) const CONTEXT_BYTES: usize = 4_000;

/// A base model's id.
pub(crate) const BASE: BlobId = BlobId([1; 32]);
/// An adapter's id.
pub(crate) const POET: BlobId = BlobId([2; 32]);

/// Answers with `w0 w1 w2 ...`, from the position on that the caller is at.
///
/// The first line of the last message decides: `fail CODE` does not begin, `break CODE N` breaks
/// off after N tokens, `stop N` ends by itself after N tokens; everything else goes on to the
/// limit. `word TEXT` makes all words that text; `say JSON` says that JSON text, three characters a
/// token, and ends.
pub(crate) struct FakeServe {
    offers: Vec<Offer>,
    /// One permit lets one token out; none for no limit.
    pace: Option<Arc<Semaphore>>,
    pub(crate) begun: AtomicU64,
    pub(crate) cancelled: Arc<AtomicU64>,
    pub(crate) embeds: AtomicU64,
    /// What was wished of each call that came with wishes.
    pub(crate) wished: Mutex<Vec<Wishes>>,
    /// The calls.
    pub(crate) calls: Mutex<Vec<Call>>,
}

impl FakeServe {
    pub(crate) fn new(offers: &[Offer], pace: Option<Arc<Semaphore>>) -> Arc<Self> {
        Arc::new(Self {
            offers: offers.to_vec(),
            pace,
            begun: AtomicU64::new(0),
            cancelled: Arc::default(),
            embeds: AtomicU64::new(0),
            wished: Mutex::default(),
            calls: Mutex::default(),
        })
    }
}

pub(crate) fn base(name: &str) -> Offer {
    Offer { name: Text::clipped(name), blob: BASE, bytes: 1_000, kind: OfferKind::Base }
}

pub(crate) fn adapter(name: &str, blob: BlobId) -> Offer {
    let kind = OfferKind::Adapter { base: BASE };
    Offer { name: Text::clipped(name), blob, bytes: 10, kind }
}

pub(crate) fn announce(at: UnixMs, offers: &[Offer]) -> Announcement {
    Announcement {
        at,
        blob_addresses: List::new(vec![Text::clipped("127.0.0.1:9")]).unwrap(),
        kinds: List::default(),
        blobs: List::default(),
        offers: List::new(offers).unwrap(),
    }
}

/// A call for so many tokens.
pub(crate) fn call(prompt: &str, tokens_max: u32) -> Call {
    let message = ChatMessage::plain(Text::clipped("user"), Prose::clipped(prompt));
    Call {
        model: BASE,
        adapters: List::default(),
        prompt: Prompt::Chat(List::new(vec![message]).unwrap()),
        generated: List::default(),
        tokens_max,
        sampling: Sampling {
            temperature_permille: 0,
            top_p_permille: 1_000,
            top_k: 0,
            presence_permille: 0,
            frequency_permille: 0,
            seed: [0; 32],
        },
        stop: List::default(),
        top_logprobs: 0,
        constraint: None,
        tools: None,
    }
}

fn text_of(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.to_string(),
        Prompt::Chat(messages) => messages.last().unwrap().content.to_string(),
        Prompt::Tokens(tokens) => "t".repeat(tokens.len()),
    }
}

fn token(position: u32, word: Option<&str>, top: u8) -> CallToken {
    let text = word.map_or_else(|| format!("w{position} "), str::to_owned);
    let top: Vec<_> = (0..top)
        .map(|n| {
            let other = if n == 0 { text.clone() } else { format!("other{n}") };
            (position + u32::from(n), Prose::clipped(&other), -100_000 * (i32::from(n) + 1))
        })
        .collect();
    CallToken {
        token: position,
        text: Prose::clipped(&text),
        logprob_micro: -100_000,
        top: List::new(top).unwrap(),
    }
}

#[async_trait]
impl Serve for FakeServe {
    async fn call_with(&self, call: Call, wishes: Wishes) -> Result<CallStream, CallFailure> {
        self.wished.lock().unwrap().push(wishes);
        self.call(call).await
    }

    async fn call(&self, call: Call) -> Result<CallStream, CallFailure> {
        let all = text_of(&call.prompt);
        let line = all.lines().next().unwrap_or_default().to_owned();
        let words: Vec<&str> = line.split(' ').collect();
        let has = |id: &BlobId| self.offers.iter().any(|offer| offer.blob == *id);
        if !has(&call.model) {
            return Err(failure(codes::UNKNOWN_MODEL, "no such model", 0));
        }
        if let ["fail", code] = words[..] {
            return Err(failure(code, &format!("told to fail with {code}"), 1_500));
        }
        if all.len() > CONTEXT_BYTES {
            return Err(failure(codes::CONTEXT, "too long for this context", 0));
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.calls.lock().unwrap().push(call.clone());
        let says: Vec<String> = match line.strip_prefix("say ") {
            Some(text) => {
                let text: String = serde_json::from_str(text).unwrap();
                let letters: Vec<char> = text.chars().collect();
                letters.chunks(3).map(|some| some.iter().collect()).collect()
            }
            None => Vec::new(),
        };
        let (broken, reason, until) = match words[..] {
            ["break", code, after] => {
                (Some(code.to_owned()), FinishReason::Stop, after.parse().unwrap())
            }
            ["stop", after] => (None, FinishReason::Stop, after.parse().unwrap()),
            ["say", ..] => (None, FinishReason::Stop, u32::try_from(says.len()).unwrap()),
            _ => (None, FinishReason::Length, call.tokens_max),
        };
        let word = line.strip_prefix("word ").map(str::to_owned);
        let (pieces, stream) = mpsc::channel(4);
        let (pace, cancelled) = (self.pace.clone(), Arc::clone(&self.cancelled));
        tokio::spawn(async move {
            let first = u32::try_from(call.generated.len()).unwrap();
            for position in first..until.min(call.tokens_max) {
                if let Some(pace) = &pace {
                    tokio::select! {
                        permit = pace.acquire() => permit.unwrap().forget(),
                        () = pieces.closed() => {}
                    }
                }
                let says = says.get(position as usize).map(String::as_str);
                let token = token(position, says.or(word.as_deref()), call.top_logprobs);
                if pieces.send(CallPiece::Token(token)).await.is_err() {
                    cancelled.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            let last = match broken {
                Some(code) => CallPiece::Failed(failure(&code, "told to break off", 1_000)),
                None => CallPiece::End(CallEnd {
                    reason,
                    text: Prose::clipped(""),
                    prompt_tokens: 7,
                    completion_tokens: until.min(call.tokens_max),
                    cached_tokens: 0,
                    fingerprint: None,
                }),
            };
            let _ = pieces.send(last).await;
        });
        Ok(stream)
    }

    async fn embed(&self, embed: Embed) -> Result<Embedded, CallFailure> {
        self.embeds.fetch_add(1, Ordering::Relaxed);
        let mut vectors = Vec::new();
        for input in &embed.inputs {
            let text = text_of(input);
            if let Some(code) = text.strip_prefix("fail ") {
                return Err(failure(code, "told to fail", 1_500));
            }
            let len = text.len() as f32;
            let vector: Vec<u8> =
                [len, 0.5, -1.0, 0.25].iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
            vectors.push(Blob::new(vector).unwrap());
        }
        let prompt_tokens = u32::try_from(vectors.len()).unwrap();
        Ok(Embedded { vectors: List::new(vectors).unwrap(), prompt_tokens })
    }

    fn offers(&self) -> Vec<Offer> {
        self.offers.clone()
    }
}

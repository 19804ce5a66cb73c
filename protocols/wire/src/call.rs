//! Calls: asking a model, between the parts of a node and between peers.
//!
//! A peer's call is answered piece by piece: `Start`, then `Next` from the number of tokens that the
//! caller has, until the answer says how it ended. Every request is answered within seconds, so a
//! peer that died is noticed, and a caller can go on elsewhere with the tokens that it has: sampling
//! depends on the position only.
//!
//! The transport authenticates both sides. Nothing here is logged, hashed or paid: prompts and
//! answers stay between caller and server.

use serde::{Deserialize, Serialize};

use crate::bounded::{Blob, List, Prose, Text};
use crate::ids::BlobId;
use crate::limits;

/// Names a call between two peers; chosen at random by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallId(#[serde(with = "crate::ids::bytes")] pub [u8; 16]);

/// What is asked of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Prompt {
    /// Plain text; names of special tokens in it are plain text, too.
    Text(Prose<{ limits::PROMPT_TEXT_MAX }>),
    /// A chat, put into the words of the model's own template.
    Chat(List<ChatMessage, { limits::PROMPT_MESSAGES_MAX }>),
    /// Token ids of the model.
    Tokens(List<u32, { limits::PROMPT_TOKENS_MAX }>),
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// Who speaks: "system", "user", "assistant".
    pub role: Text<32>,
    /// What they say.
    pub content: Prose<{ limits::PROMPT_TEXT_MAX }>,
}

/// How tokens are chosen. Thousandths, so that a call has one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Temperature in thousandths; 0 takes the likeliest token.
    pub temperature_permille: u32,
    /// Nucleus: the share of probability to choose from, in thousandths.
    pub top_p_permille: u16,
    /// Only this many likeliest tokens; 0 for all.
    pub top_k: u32,
    /// Taken off the logits of tokens that the answer holds, in thousandths.
    pub presence_permille: i32,
    /// Taken off for each time that the answer holds them, in thousandths.
    pub frequency_permille: i32,
    /// Seed of the draws.
    #[serde(with = "crate::ids::bytes")]
    pub seed: [u8; 32],
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The base model's file.
    pub model: BlobId,
    /// Adapters with their weights in thousandths.
    pub adapters: List<(BlobId, u32), { limits::CALL_ADAPTERS_MAX }>,
    /// The prompt.
    pub prompt: Prompt,
    /// Tokens of the answer that the caller has already, where a call goes on.
    pub generated: List<u32, { limits::CALL_TOKENS_MAX }>,
    /// Tokens of the answer at most, with those already there.
    pub tokens_max: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it.
    pub stop: List<Prose<64>, 4>,
    /// How many likeliest tokens to name with each.
    pub top_logprobs: u8,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallToken {
    /// Its id.
    pub token: u32,
    /// The text that is certain now: may be empty within a character or a possible stop text.
    pub text: Prose<1024>,
    /// Its natural log-probability in millionths.
    pub logprob_micro: i32,
    /// The likeliest tokens at its place: id, text, log-probability in millionths.
    pub top: List<(u32, Prose<1024>, i32), 20>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum FinishReason {
    /// The model ended it, or a stop text did.
    Stop,
    /// It reached `tokens_max` or the end of the context.
    Length,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallEnd {
    /// Why.
    pub reason: FinishReason,
    /// Text that was held back and belongs to the answer.
    pub text: Prose<1024>,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
}

/// Texts to turn into vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embed {
    /// The base model's file.
    pub model: BlobId,
    /// Adapters with their weights in thousandths.
    pub adapters: List<(BlobId, u32), { limits::CALL_ADAPTERS_MAX }>,
    /// The texts.
    pub inputs: List<Prompt, { limits::EMBED_INPUTS_MAX }>,
}

/// Vectors of length 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// One per text: 32-bit floats, little-endian.
    pub vectors: List<Blob<{ 64 * 1024 }>, { limits::EMBED_INPUTS_MAX }>,
    /// Tokens of all texts.
    pub prompt_tokens: u32,
}

/// Why a call was refused or broke off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallFailure {
    /// Stable code: `unknown-model`, `unknown-adapter`, `context-exceeded`, `busy`, `worker-died`, ...
    pub code: Text<64>,
    /// What was wrong and what to do.
    pub message: Text<{ limits::NOTE_MAX }>,
    /// Ask again, here or elsewhere, after this many milliseconds; 0 if asking again is useless.
    pub retry_after_ms: u32,
}

/// What a peer asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum CallRequest {
    /// Begin a call.
    Start {
        /// Its name.
        id: CallId,
        /// What to do.
        call: Box<Call>,
    },
    /// Tokens from this one on; answered when there are some, it ended, or after two seconds.
    Next {
        /// Which call.
        id: CallId,
        /// Tokens that the caller has from this server.
        from: u32,
    },
    /// The caller does not want it any more.
    Cancel {
        /// Which call.
        id: CallId,
    },
    /// Turn texts into vectors.
    Embed(Embed),
}

/// What a peer answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum CallResponse {
    /// The call began, or was cancelled.
    Done,
    /// Progress.
    Tokens {
        /// The first of them.
        from: u32,
        /// The tokens.
        tokens: List<CallToken, 256>,
        /// How it ended, once it has and all tokens are here.
        end: Option<CallEnd>,
    },
    /// Vectors.
    Embedded(Embedded),
    /// It does not work.
    Failed(CallFailure),
}

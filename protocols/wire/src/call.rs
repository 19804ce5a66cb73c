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
use crate::proof::FingerprintBytes;

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
    /// Who speaks: "system", "user", "assistant", "tool".
    pub role: Text<32>,
    /// What they say.
    pub content: Prose<{ limits::PROMPT_TEXT_MAX }>,
    /// What it has to do with tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolPart>,
}

impl ChatMessage {
    /// A message that has nothing to do with tools.
    #[must_use]
    pub const fn plain(role: Text<32>, content: Prose<{ limits::PROMPT_TEXT_MAX }>) -> Self {
        Self { role, content, tool: None }
    }
}

/// What a message of a chat has to do with tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ToolPart {
    /// An assistant called some.
    Calls(List<ToolCall, { limits::TOOL_CALLS_MAX }>),
    /// A tool answers.
    Result {
        /// Which call.
        call: Text<64>,
        /// The tool's name; empty where nobody said.
        name: Text<64>,
    },
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Names the call.
    pub id: Text<64>,
    /// The tool.
    pub name: Text<64>,
    /// Its arguments: a JSON object's text.
    pub arguments: Prose<{ limits::PROMPT_TEXT_MAX }>,
}

/// Tools that a model may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallTools {
    /// The tools.
    pub tools: List<CallTool, { limits::TOOLS_MAX }>,
    /// Whether and which must be called.
    pub choice: ToolChoice,
    /// Whether several calls may come in one answer.
    pub parallel: bool,
}

/// A tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallTool {
    /// Its name.
    pub name: Text<64>,
    /// What it does, in words; empty where nobody said.
    pub description: Prose<{ limits::TOOLS_BYTES_MAX }>,
    /// The JSON schema of its parameters, as text.
    pub parameters: Prose<{ limits::TOOLS_BYTES_MAX }>,
}

/// Whether and which tool must be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// One at least.
    Required,
    /// This one.
    Named(Text<64>),
}

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum CallConstraint {
    /// Any JSON object.
    JsonObject,
    /// JSON by a schema, which is JSON, too.
    JsonSchema(Prose<{ limits::CONSTRAINT_MAX }>),
    /// A regular expression that the whole answer matches.
    Regex(Prose<{ limits::CONSTRAINT_MAX }>),
    /// One of these texts.
    Choice(List<Prose<1024>, { limits::CHOICES_MAX }>),
    /// A grammar in llguidance's variant of Lark.
    Grammar(Prose<{ limits::CONSTRAINT_MAX }>),
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
    /// What the answer must look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Box<CallConstraint>>,
    /// Tools that the model may call; those who asked find the calls in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Box<CallTools>>,
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
    /// Of the prompt's, tokens that did not have to be run again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u32,
    /// Of the tokens drawn here, for those of this node's own tasks; never sent to peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<FingerprintBytes>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
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

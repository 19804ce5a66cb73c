//! What a model server of any kind does: calls in, pieces of answers out.
//!
//! [`Serve`] is implemented by this machine's own engine ([`super::LocalServe`]) and by whatever
//! finds a server for a call. Names are resolved before: a call holds ids only.

use async_trait::async_trait;
use openledger_wire::call::{Call, CallEnd, CallFailure, CallToken, Embed, Embedded};
use openledger_wire::gossip::Offer;
use openledger_wire::{BlobId, Text};
use tokio::sync::mpsc;

use super::Combined;
use super::wishes::{Wishes, only_here};

/// Codes of [`CallFailure`]: stable words for programs.
pub mod codes {
    /// The base model is not here.
    pub const UNKNOWN_MODEL: &str = "unknown-model";
    /// An adapter is not here.
    pub const UNKNOWN_ADAPTER: &str = "unknown-adapter";
    /// An adapter was made for another base.
    pub const WRONG_BASE: &str = "wrong-base";
    /// A model's or adapter's file cannot be used.
    pub const BAD_FILE: &str = "bad-file";
    /// The call asks for what no engine gives.
    pub const INVALID: &str = "invalid-request";
    /// What the answer must look like cannot be done.
    pub const CONSTRAINT: &str = "invalid-constraint";
    /// The model's chat template refuses the conversation, or there is none.
    pub const TEMPLATE: &str = "chat-template";
    /// The prompt does not fit into the model's context.
    pub const CONTEXT: &str = "context-exceeded";
    /// The prompt does not fit into this machine's memory for calls.
    pub const MEMORY: &str = "no-memory";
    /// Too much is going on; ask again.
    pub const BUSY: &str = "busy";
    /// The process died with the call in hand.
    pub const DIED: &str = "worker-died";
    /// The process could not be started.
    pub const START: &str = "worker-start";
    /// The input killed the process again and again.
    pub const QUARANTINED: &str = "quarantined";
    /// There is nothing that the backend could compute on.
    pub const NO_DEVICE: &str = "no-device";
    /// The backend cannot run the model.
    pub const UNFIT: &str = "backend-unfit";
    /// The call did not begin before its deadline.
    pub const DEADLINE: &str = "deadline";
    /// The owner's cluster failed on the call.
    pub const UPSTREAM: &str = "upstream";
    /// The engine failed on the call.
    pub const ENGINE: &str = "engine-failed";
    /// The node stops.
    pub const STOPPING: &str = "stopping";
}

/// A piece of an answer. After [`CallPiece::End`] or [`CallPiece::Failed`] comes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallPiece {
    /// The next token.
    Token(CallToken),
    /// The answer is complete.
    End(CallEnd),
    /// The answer broke off.
    Failed(CallFailure),
}

/// The pieces of one answer in their order; dropping it cancels the call. A stream that ends
/// without an end or a failure means that the server is gone.
pub type CallStream = mpsc::Receiver<CallPiece>;

/// Serves calls.
#[async_trait]
pub trait Serve: Send + Sync {
    /// Begins a call. The stream starts when the call is accepted, not when tokens come.
    ///
    /// # Errors
    /// [`CallFailure`] with one of [`codes`], if it does not even begin.
    async fn call(&self, call: Call) -> Result<CallStream, CallFailure>;

    /// Begins a call with wishes beyond it. A server that knows none refuses what it would have to
    /// answer otherwise, and leaves the rest out.
    ///
    /// # Errors
    /// As [`Serve::call`].
    async fn call_with(&self, call: Call, wishes: Wishes) -> Result<CallStream, CallFailure> {
        if wishes.change_the_answer() { Err(only_here()) } else { self.call(call).await }
    }

    /// Turns texts into vectors.
    ///
    /// # Errors
    /// [`CallFailure`] with one of [`codes`].
    async fn embed(&self, embed: Embed) -> Result<Embedded, CallFailure>;

    /// What is served.
    fn offers(&self) -> Vec<Offer>;

    /// The backend class in which a model answers here, if that is known.
    fn class_of(&self, _model: &BlobId) -> Option<String> {
        None
    }

    /// Adapters put together under a name.
    fn combinations(&self) -> Vec<Combined> {
        Vec::new()
    }
}

/// A failure in words; asking again is useless if `retry_after_ms` is 0.
#[must_use]
pub fn failure(code: &str, message: &str, retry_after_ms: u32) -> CallFailure {
    CallFailure { code: Text::clipped(code), message: Text::clipped(message), retry_after_ms }
}

/// Collects a stream's answer: its tokens and how it ended.
///
/// # Errors
/// The failure that broke it off.
pub async fn whole(mut stream: CallStream) -> Result<(Vec<CallToken>, CallEnd), CallFailure> {
    let mut tokens = Vec::new();
    while let Some(piece) = stream.recv().await {
        match piece {
            CallPiece::Token(token) => tokens.push(token),
            CallPiece::End(end) => return Ok((tokens, end)),
            CallPiece::Failed(failure) => return Err(failure),
        }
    }
    Err(failure(codes::DIED, "the server of this call is gone; ask again", 1_000))
}

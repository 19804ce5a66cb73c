//! One call of a peer while this machine answers it: tokens in, pieces out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openledger_wire::List;
use openledger_wire::call::{Call, CallEnd, CallFailure, CallResponse, CallToken};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Patience, codes};
use crate::limits;
use crate::serving::{self, CallPiece, CallStream, Serve, failure};

/// A call of a peer.
pub(super) struct Held {
    progress: Mutex<Progress>,
    /// Something can be told.
    more: Notify,
    /// Tokens were taken.
    room: Notify,
    cancelled: CancellationToken,
}

struct Progress {
    /// The number of the first token that is kept: the peer has those before.
    first: u32,
    tokens: VecDeque<CallToken>,
    outcome: Option<Result<CallEnd, CallFailure>>,
    asked: Instant,
}

impl Held {
    pub(super) fn new() -> Self {
        let progress =
            Progress { first: 0, tokens: VecDeque::new(), outcome: None, asked: Instant::now() };
        Self {
            progress: Mutex::new(progress),
            more: Notify::new(),
            room: Notify::new(),
            cancelled: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the answer is still being made.
    pub(super) fn is_running(&self) -> bool {
        self.lock().outcome.is_none()
    }

    /// The peer does not want it any more.
    pub(super) fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Answers the call until it ends, is cancelled or abandoned.
    pub(super) async fn serve(&self, server: &dyn Serve, call: Call, patience: &Patience) {
        let gone = || failure(codes::UNKNOWN_CALL, "this call was given up", 0);
        let outcome = tokio::select! {
            outcome = self.pump(server, call) => outcome,
            () = self.cancelled.cancelled() => Err(gone()),
            () = self.abandoned(patience.abandoned) => Err(gone()),
        };
        self.lock().outcome = Some(outcome);
        self.more.notify_waiters();
    }

    /// Returns once the peer has not asked for a while, or cancelled.
    pub(super) async fn forgotten(&self, after: Duration) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = self.abandoned(after) => {}
        }
    }

    async fn abandoned(&self, after: Duration) {
        loop {
            let until = self.lock().asked + after;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    async fn pump(&self, server: &dyn Serve, call: Call) -> Result<CallEnd, CallFailure> {
        let mut stream: CallStream = server.call(call).await?;
        loop {
            self.wait_for_room().await;
            match stream.recv().await {
                Some(CallPiece::Token(token)) => {
                    self.lock().tokens.push_back(token);
                    self.more.notify_waiters();
                }
                Some(CallPiece::End(end)) => return Ok(end),
                Some(CallPiece::Failed(failed)) => return Err(failed),
                None => {
                    let message = "the engine of this node is gone; ask again";
                    return Err(failure(serving::codes::DIED, message, 1_000));
                }
            }
        }
    }

    /// A peer that does not take its tokens gets no more of them.
    async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.lock().tokens.len() < limits::PEER_TOKENS_HELD_MAX {
                return;
            }
            room.await;
        }
    }

    /// Tokens from a number on, as soon as there are some, or nothing after a while.
    pub(super) async fn next(&self, from: u32, patience: &Patience) -> CallResponse {
        let until = Instant::now() + patience.poll;
        let mut waited = false;
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            if waited && self.is_running() {
                // Tokens often come in company: a step of the engine gives several callers one each.
                tokio::time::sleep(patience.linger).await;
            }
            if let Some(response) = self.take(from) {
                return response;
            }
            waited = true;
            tokio::select! {
                () = &mut more => {}
                () = self.cancelled.cancelled() => return given_up(),
                () = tokio::time::sleep_until(until) => {
                    return CallResponse::Tokens { from, tokens: List::default(), end: None };
                }
            }
        }
    }

    /// What there is to tell from a token on, if anything.
    fn take(&self, from: u32) -> Option<CallResponse> {
        let mut progress = self.lock();
        progress.asked = Instant::now();
        let known = from.checked_sub(progress.first).map(|taken| taken as usize);
        let Some(taken) = known.filter(|taken| *taken <= progress.tokens.len()) else {
            let message = format!("tokens from {from} on are not here");
            return Some(CallResponse::Failed(failure(codes::UNKNOWN_CALL, &message, 0)));
        };
        progress.tokens.drain(..taken);
        progress.first = from;
        self.room.notify_waiters();
        if progress.tokens.is_empty() {
            return match progress.outcome.clone() {
                None => None,
                Some(Ok(end)) => {
                    Some(CallResponse::Tokens { from, tokens: List::default(), end: Some(end) })
                }
                Some(Err(failed)) => Some(CallResponse::Failed(failed)),
            };
        }
        let mut bytes = 0usize;
        let fits = |token: &&CallToken| {
            bytes = bytes.saturating_add(bytes_of(token));
            bytes <= limits::PEER_TOKENS_BYTES_MAX
        };
        let several = progress.tokens.iter().take(limits::PEER_TOKENS_MAX).take_while(fits);
        let tokens: Vec<CallToken> = several.cloned().collect();
        let is_all = tokens.len() == progress.tokens.len();
        let end = progress.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok()).cloned();
        let tokens = List::new(tokens).unwrap_or_default();
        Some(CallResponse::Tokens { from, tokens, end: end.filter(|_| is_all) })
    }
}

/// What a peer is told of a call that is not here.
pub(super) fn given_up() -> CallResponse {
    let message = "this call is not here: it was given up, or this node was restarted";
    CallResponse::Failed(failure(codes::UNKNOWN_CALL, message, 0))
}

/// What a token takes in an answer, about.
fn bytes_of(token: &CallToken) -> usize {
    let top: usize = token.top.iter().map(|(_, text, _)| text.len() + 16).sum();
    token.text.len() + top + 32
}

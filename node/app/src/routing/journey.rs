//! One call on its way from server to server, until it ends or nobody is left.

use std::sync::Arc;
use std::time::Duration;

use openledger_wire::call::{Call, CallEnd, CallFailure};
use openledger_wire::{BlobId, List};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::counts::count;
use super::remote::Went;
use super::router::{Inner, Server, lost, may_go_out};
use crate::node::lock;
use crate::serving::{CallPiece, Wishes, codes as serving_codes};
use crate::{limits, time};

/// A call that this machine did not simply begin itself.
pub(super) struct Journey {
    inner: Arc<Inner>,
    call: Call,
    /// What no peer is told of.
    wishes: Wishes,
    /// The files that it needs.
    blobs: Vec<BlobId>,
    /// Tokens of the answer so far, those that the client brought included.
    generated: Vec<u32>,
    pieces: mpsc::Sender<CallPiece>,
    /// Whether a server was lost in the middle.
    is_resumed: bool,
    /// What to say if nobody does better.
    last: Option<CallFailure>,
}

impl Journey {
    pub(super) fn new(
        inner: Arc<Inner>,
        call: Call,
        wishes: Wishes,
        blobs: Vec<BlobId>,
        pieces: mpsc::Sender<CallPiece>,
    ) -> Self {
        let generated = call.generated.to_vec();
        Self { inner, call, wishes, blobs, generated, pieces, is_resumed: false, last: None }
    }

    /// Tries servers until the call ends or nobody is left. Where all are busy it waits a little.
    pub(super) async fn go(mut self) {
        if self.wishes.change_the_answer() {
            return self.at_home().await;
        }
        let until = Instant::now() + self.inner.patience.busy;
        while !self.round().await {
            let busy = self.last.as_ref().filter(|failed| *failed.code == *serving_codes::BUSY);
            let Some(busy) = busy.filter(|_| Instant::now() < until) else {
                return self.at_home().await;
            };
            let again = Duration::from_millis(u64::from(busy.retry_after_ms));
            tokio::select! {
                () = sleep_until(until.min(Instant::now() + again)) => {}
                () = self.pieces.closed() => return,
            }
        }
    }

    /// Tries each peer that serves the call once; says whether the call is over.
    async fn round(&mut self) -> bool {
        let mut tried: Vec<Server> = Vec::new();
        while tried.len() < limits::CALL_PLACES_MAX {
            // Looked up each time: a peer may have come, and standings have changed.
            let servers = self.inner.servers(&self.blobs);
            let next = servers.into_iter().find(|server| !tried.contains(server));
            let Some(server) = next else { break };
            tried.push(server);
            if self.at_peer(server).await {
                return true;
            }
        }
        false
    }

    /// Has a peer answer; says whether the call is over.
    async fn at_peer(&mut self, server: Server) -> bool {
        let inner = Arc::clone(&self.inner);
        let Some(remote) = inner.remote(server) else { return false };
        let call = self.rest();
        let before = self.generated.len();
        let is_resumed = self.is_resumed;
        lock(&inner.standings).begun(server.node, time::now());
        let accepted = |latency: Duration| {
            count(&inner.counters.forwarded);
            if is_resumed {
                count(&inner.counters.resumed);
            }
            let ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
            lock(&inner.standings).answered(server.node, ms, time::now());
        };
        let went = remote.call(&call, &mut self.generated, &self.pieces, accepted).await;
        lock(&inner.standings).ended(server.node, time::now());
        match went {
            Went::Ended(end) => self.end(end).await,
            Went::Unwanted => {}
            Went::Failed(failed) => self.fail(failed).await,
            went @ Went::Elsewhere(_) => {
                self.is_resumed |= self.generated.len() > before;
                self.last = inner.note(server, went).or(self.last.take());
                return false;
            }
        }
        true
    }

    /// The last resort: this machine, once it has what the call needs.
    async fn at_home(mut self) {
        let inner = Arc::clone(&self.inner);
        if !inner.is_here(&self.blobs) {
            if !inner.could_obtain(&self.blobs) {
                let failed = self.last.take().unwrap_or_else(lost);
                return self.fail(failed).await;
            }
            let fetched = tokio::select! {
                fetched = inner.fetch(&self.blobs) => fetched,
                () = self.pieces.closed() => return,
            };
            if let Err(failed) = fetched {
                return self.fail(failed).await;
            }
        }
        let mut stream = match inner.local.call_with(self.rest(), self.wishes.clone()).await {
            Ok(stream) => stream,
            // What peers said is the better reason where this machine was asked before them.
            Err(failed) if may_go_out(&failed) && self.last.is_some() => {
                let failed = self.last.take().unwrap_or(failed);
                return self.fail(failed).await;
            }
            Err(failed) => return self.fail(failed).await,
        };
        count(&inner.counters.here);
        if self.is_resumed {
            count(&inner.counters.resumed);
        }
        while let Some(piece) = stream.recv().await {
            match piece {
                CallPiece::End(end) => return self.end(end).await,
                CallPiece::Failed(failed) => return self.fail(failed).await,
                CallPiece::Token(token) => {
                    self.generated.push(token.token);
                    if self.pieces.send(CallPiece::Token(token)).await.is_err() {
                        return;
                    }
                }
            }
        }
        let message = "the engine of this node is gone; ask again";
        self.fail(crate::serving::failure(serving_codes::DIED, message, 1_000)).await;
    }

    /// The call as the next server gets it. One that lacks only its end is ended by that server.
    fn rest(&self) -> Call {
        let generated = List::new(self.generated.clone()).unwrap_or_default();
        Call { generated, ..self.call.clone() }
    }

    async fn end(&self, end: CallEnd) {
        // A server that took the call up may count from there.
        let tokens = u32::try_from(self.generated.len()).unwrap_or(u32::MAX);
        let completion_tokens = end.completion_tokens.max(tokens);
        let end = CallEnd { completion_tokens, ..end };
        let _ = self.pieces.send(CallPiece::End(end)).await;
    }

    async fn fail(&self, failed: CallFailure) {
        count(&self.inner.counters.lost);
        let _ = self.pieces.send(CallPiece::Failed(failed)).await;
    }
}

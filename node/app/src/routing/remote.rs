//! One call at one peer: begin, ask for tokens until it ends, and say how it went.
//!
//! Whatever the peer answers is checked against what was asked; one that talks nonsense counts as
//! lost.

use std::time::Duration;

use bytes::Bytes;
use openledger_swarm::RequestError;
use openledger_wire::call::{
    Call, CallEnd, CallFailure, CallId, CallRequest, CallResponse, CallToken, Embed, Embedded,
};
use openledger_wire::{NodeId, decode, encode, limits as wire_limits};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::{Line, Patience, codes};
use crate::limits;
use crate::serving::{self, CallPiece, failure};

/// How a call at a peer went.
pub(super) enum Went {
    /// It ended; the caller has everything but this.
    Ended(CallEnd),
    /// Nobody wants the answer any more.
    Unwanted,
    /// Somebody else may go on with it.
    Elsewhere(Reason),
    /// Nobody could do better.
    Failed(CallFailure),
}

/// Why a peer does not go on with a call.
pub(super) enum Reason {
    /// It does not answer, or not sensibly.
    Lost(String),
    /// It has no room, for so many milliseconds.
    Busy(u64),
    /// It does not serve this.
    Refused(CallFailure),
}

/// Why an answer did not come.
enum NoAnswer {
    /// This node has too much in progress itself.
    Ourselves,
    Lost(String),
    Failed(CallFailure),
}

/// A peer and the way to it.
pub(super) struct Remote<'a> {
    pub(super) line: &'a dyn Line,
    pub(super) node: NodeId,
    pub(super) patience: &'a Patience,
}

impl Remote<'_> {
    /// Puts a call to the peer and passes its tokens on; `generated` grows with each. `accepted`
    /// is told how long the first answer took.
    pub(super) async fn call(
        &self,
        call: &Call,
        generated: &mut Vec<u32>,
        pieces: &mpsc::Sender<CallPiece>,
        accepted: impl FnOnce(Duration),
    ) -> Went {
        let mut id = [0; 16];
        if getrandom::fill(&mut id).is_err() {
            let message = "the system gave no randomness to name the call with; try again";
            return Went::Failed(failure(serving::codes::ENGINE, message, 1_000));
        }
        let id = CallId(id);
        let begun = Instant::now();
        let start = CallRequest::Start { id, call: Box::new(call.clone()) };
        match self.ask(&start, self.patience.answer).await {
            Ok(CallResponse::Done) => accepted(begun.elapsed()),
            Ok(CallResponse::Failed(failed)) => return refused(failed),
            Ok(_) => return nonsense(),
            Err(none) => return none.went(),
        }
        let went = self.follow(id, call.tokens_max as usize, generated, pieces).await;
        if matches!(went, Went::Unwanted) {
            // So that it does not work for nobody.
            let _ = self.ask(&CallRequest::Cancel { id }, self.patience.answer).await;
        }
        went
    }

    async fn follow(
        &self,
        id: CallId,
        tokens_max: usize,
        generated: &mut Vec<u32>,
        pieces: &mpsc::Sender<CallPiece>,
    ) -> Went {
        let mut from = 0u32;
        let mut heard = Instant::now();
        loop {
            let asked = Instant::now();
            let next = CallRequest::Next { id, from };
            let answer = tokio::select! {
                answer = self.ask_again(&next) => answer,
                () = pieces.closed() => return Went::Unwanted,
            };
            let (tokens, end) = match answer {
                Ok(CallResponse::Tokens { from: first, tokens, end }) if first == from => {
                    (tokens.into_vec(), end)
                }
                Ok(CallResponse::Failed(failed)) if is_busy(&failed) => (Vec::new(), None),
                Ok(CallResponse::Failed(failed)) => return refused(failed),
                Ok(_) => return nonsense(),
                Err(none) => return none.went(),
            };
            if !tokens.is_empty() {
                heard = Instant::now();
            } else if end.is_none() && heard.elapsed() > self.patience.token {
                return Went::Elsewhere(Reason::Lost("it makes no tokens".to_owned()));
            }
            from = from.saturating_add(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
            match pass_on(tokens, tokens_max, generated, pieces).await {
                Passed::All => {}
                Passed::TooMany => return nonsense(),
                Passed::Nobody => return Went::Unwanted,
            }
            if let Some(end) = end {
                return Went::Ended(end);
            }
            if asked.elapsed() < limits::PEER_ASK_PAUSE {
                // An honest peer waits for its tokens; whoever does not shall not be asked at once.
                sleep(limits::PEER_ASK_PAUSE.saturating_sub(asked.elapsed())).await;
            }
        }
    }

    /// Has the peer turn texts into vectors.
    pub(super) async fn embed(&self, embed: &Embed) -> Result<Embedded, Went> {
        let asked = CallRequest::Embed(embed.clone());
        match self.ask(&asked, self.patience.vectors).await {
            Ok(CallResponse::Embedded(embedded))
                if embedded.vectors.len() == embed.inputs.len()
                    && embedded.vectors.iter().all(|one| one.len() % 4 == 0) =>
            {
                Ok(embedded)
            }
            Ok(CallResponse::Failed(failed)) => Err(refused(failed)),
            Ok(_) => Err(nonsense()),
            Err(none) => Err(none.went()),
        }
    }

    /// Asks once more if the first failure was a quick one: a connection that broke, a node that
    /// was busy itself.
    async fn ask_again(&self, request: &CallRequest) -> Result<CallResponse, NoAnswer> {
        let asked = Instant::now();
        match self.ask(request, self.patience.answer).await {
            Err(NoAnswer::Lost(_) | NoAnswer::Ourselves)
                if asked.elapsed() < self.patience.answer / 2 =>
            {
                sleep(limits::PEER_ASK_PAUSE).await;
                self.ask(request, self.patience.answer).await
            }
            answer => answer,
        }
    }

    async fn ask(&self, request: &CallRequest, max: Duration) -> Result<CallResponse, NoAnswer> {
        let bytes = encode(request).map_err(|error| NoAnswer::Lost(error.to_string()))?;
        if bytes.len() > wire_limits::CALL_MAX {
            let message = format!(
                "the call takes {} bytes, a request to a peer {} at most; shorten it, or get the model onto this node with `openledger model fetch`",
                bytes.len(),
                wire_limits::CALL_MAX
            );
            return Err(NoAnswer::Failed(failure(codes::TOO_LONG, &message, 0)));
        }
        let answer = timeout(max, self.line.ask(self.node, Bytes::from(bytes))).await;
        let bytes = match answer {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(RequestError::Busy { .. })) => return Err(NoAnswer::Ourselves),
            Ok(Err(error)) => return Err(NoAnswer::Lost(error.to_string())),
            Err(_) => {
                return Err(NoAnswer::Lost(format!("no answer in {} ms", max.as_millis())));
            }
        };
        decode(&bytes, wire_limits::CALL_ANSWER_MAX)
            .map_err(|error| NoAnswer::Lost(error.to_string()))
    }
}

impl NoAnswer {
    fn went(self) -> Went {
        match self {
            Self::Ourselves => Went::Elsewhere(Reason::Busy(0)),
            Self::Lost(why) => Went::Elsewhere(Reason::Lost(why)),
            Self::Failed(failed) => Went::Elsewhere(Reason::Refused(failed)),
        }
    }
}

enum Passed {
    All,
    TooMany,
    Nobody,
}

async fn pass_on(
    tokens: Vec<CallToken>,
    tokens_max: usize,
    generated: &mut Vec<u32>,
    pieces: &mpsc::Sender<CallPiece>,
) -> Passed {
    for token in tokens {
        if generated.len() >= tokens_max {
            return Passed::TooMany;
        }
        generated.push(token.token);
        if pieces.send(CallPiece::Token(token)).await.is_err() {
            return Passed::Nobody;
        }
    }
    Passed::All
}

fn nonsense() -> Went {
    Went::Elsewhere(Reason::Lost("its answer does not fit the question".to_owned()))
}

fn is_busy(failed: &CallFailure) -> bool {
    *failed.code == *serving::codes::BUSY
}

/// Whether another server may do better. An input that killed a worker, or is suspected of it, is
/// not carried on: it would kill the next one.
fn refused(failed: CallFailure) -> Went {
    use serving::codes as own;
    if is_busy(&failed) {
        return Went::Elsewhere(Reason::Busy(u64::from(failed.retry_after_ms)));
    }
    let code: &str = &failed.code;
    let elsewhere = [
        own::STOPPING,
        own::START,
        own::UNKNOWN_MODEL,
        own::UNKNOWN_ADAPTER,
        own::BAD_FILE,
        own::MEMORY,
        codes::NOT_SERVING,
    ];
    if code == codes::UNKNOWN_CALL {
        return Went::Elsewhere(Reason::Lost("it does not know the call any more".to_owned()));
    }
    if elsewhere.contains(&code) {
        return Went::Elsewhere(Reason::Refused(failed));
    }
    Went::Failed(failed)
}

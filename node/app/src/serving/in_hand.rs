//! Who waits for which answer of a process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openledger_wire::call::{CallFailure, Embedded};
use openledger_wire::proof::InferOutput;
use openledger_wire::worker::InferResponse;
use tokio::sync::{mpsc, oneshot};

use super::{CallPiece, codes, failure};

type Asked<T> = oneshot::Sender<Result<T, CallFailure>>;

/// One who waits, with what identifies the input in hand.
pub(super) enum Waiting {
    /// For the pieces of an answer.
    Call {
        sender: mpsc::Sender<CallPiece>,
        input: [u8; 32],
        /// Dropped when the call has ended.
        _done: oneshot::Sender<()>,
    },
    /// For vectors.
    Embed { sender: Asked<Embedded>, input: [u8; 32] },
    /// For what a check finds.
    Check { sender: Asked<InferOutput>, input: [u8; 32] },
    /// For an adapter to be loaded.
    Adapter { sender: Asked<u64>, input: [u8; 32] },
}

/// Everybody who waits for one process.
#[derive(Default)]
pub(super) struct InHand(Mutex<Hand>);

#[derive(Default)]
struct Hand {
    by_id: BTreeMap<u64, Waiting>,
    is_dead: bool,
}

/// What those are told that had something in the hand of a process that died.
pub(super) fn died() -> CallFailure {
    let message = "the engine's process died with this call in hand; ask again";
    failure(codes::DIED, message, 1_000)
}

impl InHand {
    fn lock(&self) -> MutexGuard<'_, Hand> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    pub(super) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Notes who waits for the answers to `id`.
    ///
    /// # Errors
    /// The process is dead already.
    pub(super) fn expect(&self, id: u64, waiting: Waiting) -> Result<(), CallFailure> {
        let mut hand = self.lock();
        if hand.is_dead {
            return Err(died());
        }
        hand.by_id.insert(id, waiting);
        Ok(())
    }

    pub(super) fn forget(&self, id: u64) {
        self.lock().by_id.remove(&id);
    }

    /// Hands an answer on; gives the input that was answered to its end.
    pub(super) fn answer(&self, answer: InferResponse) -> Option<[u8; 32]> {
        let mut hand = self.lock();
        match answer {
            InferResponse::Token { id, token } => {
                if let Some(Waiting::Call { sender, .. }) = hand.by_id.get(&id) {
                    // Closed by a caller who has gone, which is seen elsewhere.
                    let _ = sender.try_send(CallPiece::Token(token));
                }
                None
            }
            InferResponse::End { id, end } => match hand.by_id.remove(&id)? {
                Waiting::Call { sender, input, .. } => {
                    let _ = sender.try_send(CallPiece::End(end));
                    Some(input)
                }
                _ => None,
            },
            InferResponse::Embedded { id, embedded } => match hand.by_id.remove(&id)? {
                Waiting::Embed { sender, input } => {
                    let _ = sender.send(Ok(embedded));
                    Some(input)
                }
                _ => None,
            },
            InferResponse::Checked { id, output } => match hand.by_id.remove(&id)? {
                Waiting::Check { sender, input } => {
                    let _ = sender.send(Ok(*output));
                    Some(input)
                }
                _ => None,
            },
            InferResponse::Loaded { id, bytes } => match hand.by_id.remove(&id)? {
                Waiting::Adapter { sender, input } => {
                    let _ = sender.send(Ok(bytes));
                    Some(input)
                }
                _ => None,
            },
            InferResponse::Failed { id, failure } => hand.by_id.remove(&id)?.fail(failure),
            InferResponse::Ready { .. }
            | InferResponse::Loading { .. }
            | InferResponse::Probed { .. } => None,
        }
    }

    /// Takes nothing more; gives those who still wait, to be told.
    pub(super) fn close(&self) -> Vec<Waiting> {
        let mut hand = self.lock();
        hand.is_dead = true;
        let waiting = std::mem::take(&mut hand.by_id);
        waiting.into_values().filter(|one| !one.is_gone()).collect()
    }
}

impl Waiting {
    /// What identifies the input in hand.
    pub(super) fn input(&self) -> [u8; 32] {
        match self {
            Self::Call { input, .. }
            | Self::Embed { input, .. }
            | Self::Check { input, .. }
            | Self::Adapter { input, .. } => *input,
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Self::Call { sender, .. } => sender.is_closed(),
            Self::Embed { sender, .. } => sender.is_closed(),
            Self::Check { sender, .. } => sender.is_closed(),
            Self::Adapter { sender, .. } => sender.is_closed(),
        }
    }

    /// Tells that it failed; gives the input if somebody still waited.
    pub(super) fn fail(self, failure: CallFailure) -> Option<[u8; 32]> {
        let (told, input) = match self {
            Self::Call { sender, input, .. } => {
                (sender.try_send(CallPiece::Failed(failure)).is_ok(), input)
            }
            Self::Embed { sender, input } => (sender.send(Err(failure)).is_ok(), input),
            Self::Check { sender, input } => (sender.send(Err(failure)).is_ok(), input),
            Self::Adapter { sender, input } => (sender.send(Err(failure)).is_ok(), input),
        };
        told.then_some(input)
    }
}

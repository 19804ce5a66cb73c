//! Calls of peers: this machine answers them within limits, beside its owner's own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openledger_wire::call::{Call, CallFailure, CallId, CallRequest, CallResponse, Embed};
use openledger_wire::{NodeId, decode, encode, limits as wire_limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::Budgets;
use super::counts::count;
use super::held::{Held, given_up};
use super::{CallCounts, Patience, codes};
use crate::node::lock;
use crate::serving::{self, Serve, failure};
use crate::{limits, time};

/// What peers may take.
#[derive(Clone, Copy, Debug)]
pub struct House {
    /// Whether peers are served at all.
    pub is_open: bool,
    /// Calls of all peers at the same time.
    pub calls_max: usize,
    /// Of these, of one peer.
    pub per_peer_max: usize,
    /// How long is waited.
    pub patience: Patience,
}

/// Answers calls of peers; the same for all networks of a node.
pub struct Guests {
    serve: Arc<dyn Serve>,
    house: House,
    room: Arc<Semaphore>,
    held: Mutex<BTreeMap<(NodeId, CallId), Arc<Held>>>,
    budgets: Mutex<Budgets>,
    answered: AtomicU64,
    turned_away: AtomicU64,
}

impl Guests {
    /// Answers with what `serve` serves.
    #[must_use]
    pub fn new(serve: Arc<dyn Serve>, house: House) -> Arc<Self> {
        Arc::new(Self {
            serve,
            house,
            room: Arc::new(Semaphore::new(house.calls_max)),
            held: Mutex::default(),
            budgets: Mutex::default(),
            answered: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        })
    }

    /// Adds what peers asked to counts.
    #[must_use]
    pub fn counted(&self, counts: CallCounts) -> CallCounts {
        CallCounts {
            for_peers: self.answered.load(Ordering::Relaxed),
            turned_away: self.turned_away.load(Ordering::Relaxed),
            ..counts
        }
    }

    /// The answer to a peer's request; none if it cannot be understood.
    pub async fn answer(self: &Arc<Self>, peer: NodeId, bytes: &[u8]) -> Option<Bytes> {
        // Floods of nonsense cost budget as well.
        let within = lock(&self.budgets).take(peer, time::now());
        let request = decode::<CallRequest>(bytes, wire_limits::CALL_MAX).ok()?;
        let response = match request {
            CallRequest::Cancel { id } => {
                if let Some(held) = lock(&self.held).remove(&(peer, id)) {
                    held.cancel();
                }
                CallResponse::Done
            }
            _ if !self.house.is_open => {
                let message = "this node answers no calls of peers; ask another one";
                CallResponse::Failed(failure(codes::NOT_SERVING, message, 0))
            }
            _ if !within => self.turn_away("more requests a second than one peer may make"),
            CallRequest::Start { id, call } => self.start(peer, id, *call),
            CallRequest::Next { id, from } => {
                let held = lock(&self.held).get(&(peer, id)).cloned();
                match held {
                    Some(held) => held.next(from, &self.house.patience).await,
                    None => given_up(),
                }
            }
            CallRequest::Embed(embed) => self.embed(peer, embed).await,
        };
        encode(&response).ok().map(Bytes::from)
    }

    fn turn_away(&self, why: &str) -> CallResponse {
        count(&self.turned_away);
        let message = format!("{why}; ask again later or another node");
        CallResponse::Failed(failure(serving::codes::BUSY, &message, limits::PEER_BUSY_MS))
    }

    /// A place for a call of a peer, unless it or all peers together have theirs.
    fn place(&self, peer: NodeId) -> Result<OwnedSemaphorePermit, CallResponse> {
        let (first, last) = (CallId([0; 16]), CallId([255; 16]));
        let (running, known) = {
            let held = lock(&self.held);
            let own = held.range((peer, first)..=(peer, last));
            own.fold((0, 0), |(running, known), (_, one)| {
                (running + usize::from(one.is_running()), known + 1)
            })
        };
        if running >= self.house.per_peer_max || known >= limits::PEER_CALLS_KEPT_MAX {
            return Err(self.turn_away("as many calls as one peer may have at a time"));
        }
        Arc::clone(&self.room)
            .try_acquire_owned()
            .map_err(|_| self.turn_away("as many calls of peers as this node takes at a time"))
    }

    fn start(self: &Arc<Self>, peer: NodeId, id: CallId, call: Call) -> CallResponse {
        if lock(&self.held).contains_key(&(peer, id)) {
            // Its first answer was lost on the way.
            return CallResponse::Done;
        }
        let place = match self.place(peer) {
            Ok(place) => place,
            Err(response) => return response,
        };
        let held = Arc::new(Held::new());
        lock(&self.held).insert((peer, id), Arc::clone(&held));
        let own = Arc::clone(self);
        tokio::spawn(async move {
            count(&own.answered);
            held.serve(own.serve.as_ref(), call, &own.house.patience).await;
            drop(place);
            // An answer that was lost on the way is asked for again.
            held.forgotten(own.house.patience.abandoned).await;
            let mut all = lock(&own.held);
            if all.get(&(peer, id)).is_some_and(|there| Arc::ptr_eq(there, &held)) {
                all.remove(&(peer, id));
            }
        });
        CallResponse::Done
    }

    async fn embed(&self, peer: NodeId, embed: Embed) -> CallResponse {
        let _place = match self.place(peer) {
            Ok(place) => place,
            Err(response) => return response,
        };
        count(&self.answered);
        let answered = tokio::time::timeout(self.house.patience.vectors, self.serve.embed(embed));
        match answered.await {
            Ok(Ok(embedded)) => CallResponse::Embedded(embedded),
            Ok(Err(failed)) => CallResponse::Failed(failed),
            Err(_) => CallResponse::Failed(too_slow()),
        }
    }
}

fn too_slow() -> CallFailure {
    let message = "this node is too slow for so much text; send less at a time";
    failure(serving::codes::BUSY, message, limits::PEER_BUSY_MS)
}

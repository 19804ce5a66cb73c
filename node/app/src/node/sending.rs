//! Sending over the link, in batches. What fails here is in the outbox and comes again.

use std::sync::Arc;
use std::time::Duration;

use openledger_outbox::{Event, Key};
use openledger_swarm::LinkError;
use openledger_wire::link::{Batch, Declined, ItemResult, LinkRequest, LinkResponse};
use openledger_wire::{Envelope, limits as wire_limits};
use tokio::sync::mpsc;

use super::{Enrolment, lock};
use crate::limits;

/// What kind of item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A commitment.
    Commit,
    /// A proof.
    Proof,
    /// A lease given back.
    Decline,
}

/// Something to send.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A signed commitment.
    Commit(Key, Envelope),
    /// A signed proof.
    Proof(Key, Envelope),
    /// A lease given back.
    Decline(Declined),
}

impl Item {
    fn what(&self) -> (What, Key) {
        match self {
            Self::Commit(key, _) => (What::Commit, *key),
            Self::Proof(key, _) => (What::Proof, *key),
            Self::Decline(declined) => {
                (What::Decline, Key { task: declined.task, wave: declined.wave })
            }
        }
    }
}

impl Enrolment {
    /// Queues an item, unless it is on its way.
    pub(crate) fn send(&self, item: Item) {
        if self.link.is_none() {
            return;
        }
        let what = item.what();
        if !lock(&self.in_flight).insert(what) {
            return;
        }
        if self.sender.try_send(item).is_err() {
            lock(&self.in_flight).remove(&what);
        }
    }

    /// Sends what is queued until the node ends.
    pub(crate) async fn send_all(self: Arc<Self>, mut queue: mpsc::Receiver<Item>) {
        while let Some(first) = queue.recv().await {
            tokio::time::sleep(limits::BATCH_LINGER).await;
            let mut items = vec![first];
            while items.len() < wire_limits::LINK_BATCH_MAX
                && let Ok(item) = queue.try_recv()
            {
                items.push(item);
            }
            self.send_batch(items).await;
        }
    }

    async fn send_batch(self: &Arc<Self>, items: Vec<Item>) {
        let (mut commits, mut proofs, mut declines) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            match item {
                Item::Commit(key, envelope) => commits.push((key, envelope)),
                Item::Proof(key, envelope) => proofs.push((key, envelope)),
                Item::Decline(declined) => declines.push(declined),
            }
        }
        if !commits.is_empty() {
            self.send_envelopes(What::Commit, commits).await;
        }
        if !proofs.is_empty() {
            self.send_envelopes(What::Proof, proofs).await;
        }
        if !declines.is_empty() {
            let keys: Vec<Key> =
                declines.iter().map(|d| Key { task: d.task, wave: d.wave }).collect();
            let request = LinkRequest::Decline(Batch::new(declines).unwrap_or_default());
            if let Err(error) = self.ask(&request).await {
                tracing::debug!("leases were not given back: {error}");
            }
            self.landed(What::Decline, &keys);
        }
    }

    async fn send_envelopes(self: &Arc<Self>, what: What, items: Vec<(Key, Envelope)>) {
        let keys: Vec<Key> = items.iter().map(|(key, _)| *key).collect();
        let envelopes: Vec<Envelope> = items.into_iter().map(|(_, envelope)| envelope).collect();
        let batch = Batch::new(envelopes).unwrap_or_default();
        let request = match what {
            What::Commit => LinkRequest::Commits(batch),
            What::Proof | What::Decline => LinkRequest::Proofs(batch),
        };
        let results = match self.ask(&request).await {
            Ok(LinkResponse::Results(results)) => results.into_vec(),
            Ok(other) => {
                tracing::debug!(?other, "the coordinator answered a batch with something else");
                Vec::new()
            }
            Err(error) => {
                tracing::debug!("a batch did not arrive and will be sent again: {error}");
                Vec::new()
            }
        };
        let mut events = Vec::new();
        for (key, result) in keys.iter().zip(results) {
            match (what, result) {
                (What::Commit, ItemResult::Held | ItemResult::Known) => {
                    events.push((*key, Event::CommitHeld));
                }
                (_, ItemResult::Held | ItemResult::Known) => events.push((*key, Event::ProofHeld)),
                (What::Commit, ItemResult::Refused { code, message }) => {
                    events.push((*key, Event::CommitRefused(format!("{message} ({code})"))));
                }
                (_, ItemResult::Refused { code, message }) => {
                    events.push((*key, Event::ProofRefused(format!("{message} ({code})"))));
                }
                (_, ItemResult::Later { retry_after_ms }) => self.again_after(retry_after_ms),
            }
        }
        self.landed(what, &keys);
        self.events(events).await;
    }

    /// Asks over the link.
    pub(crate) async fn ask(&self, request: &LinkRequest) -> Result<LinkResponse, LinkError> {
        match &self.link {
            Some(link) => link.request(request).await,
            None => Err(LinkError::NotConnected),
        }
    }

    /// Looks again, after a while, at what is to be sent.
    pub(crate) fn again_after(self: &Arc<Self>, wait_ms: u32) {
        let own = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(u64::from(wait_ms.clamp(50, 60_000)))).await;
            own.resume().await;
        });
    }

    fn landed(&self, what: What, keys: &[Key]) {
        let mut in_flight = lock(&self.in_flight);
        for key in keys {
            in_flight.remove(&(what, *key));
        }
    }
}

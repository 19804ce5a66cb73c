//! What nodes ask over the coordinator link, and what is pushed to them.
//!
//! Everything that changes something goes through the core and is durable before it is answered.
//! Pushes follow the log; a node that missed some asks `Sync` and gets all that concerns it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use openledger_ledger::{Ledger, LedgerError};
use openledger_rules::{Event, Logged, Refusal, State};
use openledger_swarm::link::refused;
use openledger_swarm::{LinkServer, LinkService, Peer};
use openledger_wire::gossip::Holder;
use openledger_wire::link::{
    AccountStatus, Batch, ClosedNotice, Declined, ItemResult, LINK_VERSION, LinkPush, LinkRequest,
    LinkResponse, NodeState, Receipt, SignedVerdict,
};
use openledger_wire::log::{Entry, Line, Whereabouts};
use openledger_wire::{
    AccountId, Blob, Envelope, Epoch, Height, List, NodeId, Open, Points, ProofId, Text,
};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;

use crate::clock;
use crate::core::{Answer, Core, CoreError, Durable, leased_task};
use crate::limits;
use crate::signer::{Signed, Signer};

/// Answers nodes.
pub struct Link {
    core: Core,
    ledger: Arc<dyn Ledger>,
    signer: Arc<Signer>,
    claimable: watch::Receiver<Option<Epoch>>,
    holder: Option<Holder>,
}

impl Link {
    /// A service over the core. `claimable` is the last epoch whose root is good on chain, `holder`
    /// this coordinator's blobs.
    #[must_use]
    pub fn new(
        core: Core,
        ledger: Arc<dyn Ledger>,
        signer: Arc<Signer>,
        claimable: watch::Receiver<Option<Epoch>>,
        holder: Option<Holder>,
    ) -> Self {
        Self { core, ledger, signer, claimable, holder }
    }

    /// Pushes what becomes durable, until the core ends.
    pub async fn push_all(self: Arc<Self>, server: LinkServer) {
        let mut durable = self.core.listen();
        loop {
            match next(&mut durable).await {
                Ok(Some(batch)) => self.push(&server, &batch),
                Ok(None) => {}
                Err(()) => return,
            }
        }
    }

    fn push(&self, server: &LinkServer, durable: &Durable) {
        for (node, leases) in &durable.leases {
            for chunk in leases.chunks(List::<u8, 256>::MAX) {
                push_list(server, *node, chunk, LinkPush::Leases);
            }
        }
        for logged in &durable.logged {
            match &logged.entry.line {
                Line::Closed(_) => push_closed(server, logged),
                Line::Receipts(_) | Line::Verdicts(_) => self.push_signed(server, logged),
                Line::Epoch(close) => {
                    for node in server.connected() {
                        server.push(node, &LinkPush::EpochClosed(close.epoch));
                    }
                }
                _ => {}
            }
        }
    }

    fn push_signed(&self, server: &LinkServer, logged: &Logged) {
        let signed = match self.signer.of_entry(logged) {
            Ok(signed) => signed,
            Err(error) => {
                tracing::error!("failed to sign a batch: {error}");
                return;
            }
        };
        let mut receipts: BTreeMap<NodeId, Vec<Receipt>> = BTreeMap::new();
        for (node, receipt) in signed.receipts.values() {
            receipts.entry(*node).or_default().push(receipt.clone());
        }
        for (node, receipts) in receipts {
            for chunk in receipts.chunks(List::<u8, 512>::MAX) {
                push_list(server, node, chunk, LinkPush::Receipts);
            }
        }
        let mut verdicts: BTreeMap<NodeId, Vec<SignedVerdict>> = BTreeMap::new();
        for verdict in signed.verdicts.values() {
            verdicts.entry(verdict.row.node).or_default().push(verdict.clone());
        }
        for (node, verdicts) in verdicts {
            for chunk in verdicts.chunks(List::<u8, 512>::MAX) {
                push_list(server, node, chunk, LinkPush::Verdicts);
            }
        }
    }

    async fn hello(&self, peer: Peer, version: u16, registration: Envelope) -> LinkResponse {
        if version != LINK_VERSION {
            let message = format!(
                "link version {version} is unknown here, this coordinator speaks {LINK_VERSION}; \
                 update the older side"
            );
            return refused("link-version", &message, 0);
        }
        if registration.signer() != peer.node {
            return refused("other-node", "this registration is another node's; send your own", 0);
        }
        let whereabouts = whereabouts(peer.address.ip());
        if let Err(refusal) = self.core.submit(Event::Hello { registration, whereabouts }).await {
            return refusal_response(&refusal);
        }
        let welcome = self.core.look(|state, _| {
            let now = clock::now();
            let height = Height(state.next_height().0.saturating_sub(1));
            (now, state.round(now), state.epoch(), height, state.head())
        });
        let Ok((now, round, epoch, height, head)) = welcome.await else { return stopping() };
        match self.signer.head(height, head) {
            Ok(head) => LinkResponse::Welcome { now, round, epoch, head },
            Err(error) => {
                tracing::error!("failed to sign the head: {error}");
                stopping()
            }
        }
    }

    /// Commits or proofs: each must be the connected node's own.
    async fn items(
        &self,
        peer: Peer,
        items: Batch<Envelope>,
        event: fn(Envelope) -> Event,
    ) -> LinkResponse {
        let items = items.into_vec();
        let own: Vec<bool> = items.iter().map(|item| item.signer() == peer.node).collect();
        let events = items.into_iter().zip(&own).filter(|(_, own)| **own);
        let events = events.map(|(item, _)| event(item)).collect();
        let mut answers = self.core.submit_all(events).await.into_iter();
        let results = own.iter().map(|own| match own.then(|| answers.next()).flatten() {
            Some(answer) => item_result(answer),
            None => ItemResult::Refused {
                code: Text::clipped("other-node"),
                message: Text::clipped("another node signed this; each node sends its own"),
            },
        });
        LinkResponse::Results(List::new(results.collect::<Vec<_>>()).unwrap_or_default())
    }

    async fn decline(&self, peer: Peer, declined: Batch<Declined>) -> LinkResponse {
        let events = declined.iter().map(|item| {
            tracing::debug!(node = %peer.node, task = %item.task, reason = %item.reason, "declined");
            Event::Decline { node: peer.node, task: item.task, wave: item.wave }
        });
        let answers = self.core.submit_all(events.collect()).await;
        let refusal = answers.into_iter().find_map(Result::err);
        refusal.map_or(LinkResponse::Done, |refusal| refusal_response(&refusal))
    }

    async fn sync(&self, peer: Peer, unsettled: &[ProofId]) -> Result<NodeState, SyncError> {
        let (node, own) = (peer.node, self.holder.clone());
        let (leases, closed) = self
            .core
            .look(move |state, _| {
                (open_leases(state, own.as_ref(), &node), closed_waiting(state, &node))
            })
            .await?;
        let (mut receipts, mut verdicts, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for id in unsettled {
            let (receipt, verdict) = self.ledger.lines_of_proof(*id).await?;
            if let Some(signed) = self.signed_at(receipt).await? {
                receipts.extend(signed.receipts.get(id).map(|(_, receipt)| receipt.clone()));
            } else if self.ledger.proof(*id).await?.is_none() {
                unknown.push(*id);
            }
            if let Some(signed) = self.signed_at(verdict).await? {
                verdicts.extend(signed.verdicts.get(id).cloned());
            }
        }
        Ok(NodeState {
            leases,
            closed,
            receipts: List::new(receipts).unwrap_or_default(),
            verdicts: List::new(verdicts).unwrap_or_default(),
            unknown: List::new(unknown).unwrap_or_default(),
        })
    }

    /// What was signed because of the entry at a height.
    async fn signed_at(&self, height: Option<Height>) -> Result<Option<Arc<Signed>>, SyncError> {
        let Some(height) = height else { return Ok(None) };
        let Some(line) = self.ledger.page(height, 1).await?.pop() else { return Ok(None) };
        let entry = Entry::from_bytes(&line.bytes).map_err(LedgerError::from)?;
        let logged = Logged { entry, bytes: line.bytes, head: line.head };
        Ok(Some(self.signer.of_entry(&logged)?))
    }

    async fn log(&self, from: Height, entries_max: u16) -> LinkResponse {
        match self.ledger.page(from, usize::from(entries_max)).await {
            Ok(lines) => {
                let entries = lines.into_iter().filter_map(|line| Blob::new(line.bytes).ok());
                LinkResponse::Log(List::new(entries.collect::<Vec<_>>()).unwrap_or_default())
            }
            Err(error) => {
                tracing::error!("failed to read the log: {error}");
                stopping()
            }
        }
    }

    async fn account(&self, peer: Peer) -> LinkResponse {
        let claimable = *self.claimable.borrow();
        let status = self.core.look(move |state, _| {
            let account = state.node(&peer.node)?.member.account;
            Some(account_status(state, account, claimable))
        });
        match status.await {
            Ok(Some(status)) => LinkResponse::Account(status),
            Ok(None) => refused("unknown-node", "this node is not registered; say hello first", 0),
            Err(_) => stopping(),
        }
    }

    async fn change(&self, event: Event) -> LinkResponse {
        match self.core.submit(event).await {
            Ok(_) => LinkResponse::Done,
            Err(refusal) => refusal_response(&refusal),
        }
    }
}

/// Why a node's state could not be put together.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Core(#[from] CoreError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Key(#[from] openledger_wire::keys::KeyError),
}

#[async_trait]
impl LinkService for Link {
    async fn handle(&self, peer: Peer, request: LinkRequest) -> LinkResponse {
        match request {
            LinkRequest::Hello { version, registration } => {
                self.hello(peer, version, registration).await
            }
            LinkRequest::Commits(items) => self.items(peer, items, Event::Commit).await,
            LinkRequest::Proofs(items) => self.items(peer, items, Event::Proof).await,
            LinkRequest::Decline(declined) => self.decline(peer, declined).await,
            LinkRequest::Sync { unsettled } => match self.sync(peer, &unsettled).await {
                Ok(state) => LinkResponse::State(Box::new(state)),
                Err(error) => {
                    tracing::error!(node = %peer.node, "failed to put a node's state together: {error}");
                    stopping()
                }
            },
            LinkRequest::Log { from, entries_max } => self.log(from, entries_max).await,
            LinkRequest::Account => self.account(peer).await,
            LinkRequest::Bind(envelope) => self.change(Event::Bind(envelope)).await,
            LinkRequest::Revoke(envelope) => self.change(Event::Revoke(envelope)).await,
        }
    }

    fn left(&self, node: NodeId) {
        tracing::debug!(%node, "a node left");
    }
}

/// The next batch; `None` after missing some, an error at the end.
pub(crate) async fn next(
    durable: &mut broadcast::Receiver<Arc<Durable>>,
) -> Result<Option<Arc<Durable>>, ()> {
    match durable.recv().await {
        Ok(batch) => Ok(Some(batch)),
        Err(RecvError::Lagged(missed)) => {
            tracing::warn!(missed, "a listener was too slow; nodes ask for what they missed");
            Ok(None)
        }
        Err(RecvError::Closed) => Err(()),
    }
}

fn push_list<T: Clone, const MAX: usize>(
    server: &LinkServer,
    node: NodeId,
    items: &[T],
    push: fn(List<T, MAX>) -> LinkPush,
) {
    if let Ok(items) = List::new(items.to_vec()) {
        server.push(node, &push(items));
    }
}

fn push_closed(server: &LinkServer, logged: &Logged) {
    let Line::Closed(closed) = &logged.entry.line else { return };
    let height = logged.entry.height;
    let mut notices: BTreeMap<NodeId, Vec<ClosedNotice>> = BTreeMap::new();
    for set in &closed.sets {
        for (node, _) in &set.commits {
            let notice = ClosedNotice { set: set.clone(), height };
            notices.entry(*node).or_default().push(notice);
        }
    }
    for (node, notices) in notices {
        for chunk in notices.chunks(List::<u8, 256>::MAX) {
            push_list(server, node, chunk, LinkPush::Closed);
        }
    }
}

fn open_leases(
    state: &State,
    own: Option<&Holder>,
    node: &NodeId,
) -> List<openledger_wire::link::LeasedTask, 256> {
    let leases = state.open_leases(node).into_iter().take(256);
    let leases =
        leases.map(|(lease, round, task)| leased_task(state, own, lease, round, &task.spec));
    List::new(leases.collect::<Vec<_>>()).unwrap_or_default()
}

fn closed_waiting(state: &State, node: &NodeId) -> List<ClosedNotice, 256> {
    let closed = state.closed_waiting(node).into_iter().take(256);
    let closed = closed.map(|(set, height)| ClosedNotice { set: set.clone(), height });
    List::new(closed.collect::<Vec<_>>()).unwrap_or_default()
}

/// An account as the coordinator sees it, with its claim from the last good root.
#[must_use]
pub fn account_status(
    state: &State,
    account: AccountId,
    claimable: Option<Epoch>,
) -> AccountStatus {
    let record = state.account(&account);
    AccountStatus {
        account,
        payout: record.and_then(|record| record.payout),
        pending: record.map_or(Points::ZERO, |record| record.queue.pending()),
        vested: record.map_or(Points::ZERO, |record| record.vested),
        cumulative: record.map_or(Open::ZERO, |record| record.cumulative),
        epoch: state.last_close().map_or(Epoch(0), |close| close.epoch),
        claim: claimable.and_then(|epoch| state.claim(&account, epoch)),
    }
}

/// The /24 or /48 of an address. AS numbers need a table that this build does not carry: 0 counts
/// by subnet alone.
fn whereabouts(address: IpAddr) -> Whereabouts {
    let mut subnet = [0; 7];
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            subnet[..4].copy_from_slice(&[4, a, b, c]);
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            subnet = [6, a, b, c, d, e, f];
        }
    }
    Whereabouts { subnet, asn: 0 }
}

fn item_result(answer: Answer) -> ItemResult {
    match answer {
        Ok(accepted) if accepted.known => ItemResult::Known,
        Ok(_) => ItemResult::Held,
        Err(Refusal { retry_after_ms: Some(retry_after_ms), .. }) => {
            ItemResult::Later { retry_after_ms }
        }
        Err(refusal) => ItemResult::Refused {
            code: Text::clipped(refusal.code),
            message: Text::clipped(&refusal.message),
        },
    }
}

fn refusal_response(refusal: &Refusal) -> LinkResponse {
    refused(refusal.code, &refusal.message, refusal.retry_after_ms.unwrap_or(0))
}

fn stopping() -> LinkResponse {
    refused("stopping", "the coordinator is stopping; ask again later", limits::LATER_MS * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whereabouts_are_the_24_and_the_48() {
        let v4 = whereabouts("127.7.0.1".parse().unwrap());
        assert_eq!(v4, whereabouts("127.7.0.200".parse().unwrap()));
        assert_ne!(v4, whereabouts("127.8.0.1".parse().unwrap()));
        assert_eq!(v4, whereabouts("::ffff:127.7.0.9".parse().unwrap()));
        let v6 = whereabouts("2001:db8:1:2::1".parse().unwrap());
        assert_eq!(v6, whereabouts("2001:db8:1:ffff::1".parse().unwrap()));
        assert_ne!(v6, whereabouts("2001:db8:2::1".parse().unwrap()));
    }
}

//! The coordinator as a peer: others start from it, it hears proofs and says its heads.
//!
//! What is forwarded is judged first, by signature, network and size alone. A proof that gossip
//! brings before its node's link does counts like any other; the envelope of a large one is
//! fetched from its node as a blob. Heads go out so that two different stories would meet.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openledger_rules::Event;
use openledger_swarm::defaults::gossip::DUPLICATE_MS;
use openledger_swarm::{
    Acceptance, Admission, Blobs, PublishError, Swarm, SwarmConfig, SwarmError, SwarmEvent,
    SwarmHandle,
};
use openledger_wire::eip712::{Domain, Typed};
use openledger_wire::gossip::{
    Announcement, GossipedHead, GossipedProof, Holder, ProofAt, TOPIC_HEADS, TOPIC_NODES,
    TOPIC_PROOFS,
};
use openledger_wire::proof::Proof;
use openledger_wire::{
    BlobId, Envelope, EnvelopeError, EvmAddress, Height, List, LogHead, NetworkId, NodeId, NodeKey,
    Text, decode, encode, limits as wire,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::bundles::Bundles;
use crate::clock;
use crate::core::Core;
use crate::documents::Documents;
use crate::inference::Prompts;
use crate::limits;
use crate::link;
use crate::signer::Signer;

/// A head that has not changed is said again after this time, for peers that joined since. Until
/// peers have forgotten it they would take it for a repetition and drop it.
const HEAD_REPEAT: Duration = Duration::from_millis(DUPLICATE_MS + 60_000);

/// What is forwarded on this network.
#[derive(Debug, Clone, Copy)]
pub struct GossipRules {
    /// The network.
    pub network: NetworkId,
    /// Where heads are signed for.
    pub domain: Domain,
    /// Whose heads count.
    pub coordinator: EvmAddress,
}

impl GossipRules {
    fn proof(&self, author: NodeId, bytes: &[u8]) -> Acceptance {
        let Ok(proof) = decode::<GossipedProof>(bytes, wire::GOSSIP_MAX) else {
            return Acceptance::Reject;
        };
        match proof {
            GossipedProof::Whole(envelope) => {
                judge(author, &envelope, envelope.open::<Proof>(self.network))
            }
            GossipedProof::AtNode(header) => {
                judge(author, &header.signed, header.signed.open::<ProofAt>(self.network))
            }
        }
    }

    fn node(&self, author: NodeId, bytes: &[u8]) -> Acceptance {
        match decode::<Envelope>(bytes, wire::GOSSIP_MAX) {
            Ok(envelope) => judge(author, &envelope, envelope.open::<Announcement>(self.network)),
            Err(_) => Acceptance::Reject,
        }
    }

    fn head(&self, bytes: &[u8]) -> Acceptance {
        let Ok(GossipedHead { head, signature }) = decode(bytes, wire::GOSSIP_MAX) else {
            return Acceptance::Reject;
        };
        let is_good = head.network == self.network
            && head.verify(&self.domain, &signature, &self.coordinator).is_ok();
        if is_good { Acceptance::Accept } else { Acceptance::Reject }
    }
}

/// A statement is forwarded for its own author only, so that a flood has a name.
fn judge<T>(author: NodeId, envelope: &Envelope, opened: Result<T, EnvelopeError>) -> Acceptance {
    match opened {
        Ok(_) if envelope.signer() == author => Acceptance::Accept,
        Ok(_) | Err(EnvelopeError::UnknownVersion { .. }) => Acceptance::Ignore,
        Err(_) => Acceptance::Reject,
    }
}

impl Admission for GossipRules {
    fn gossip(&self, topic: &str, author: NodeId, bytes: &[u8]) -> Acceptance {
        match topic {
            TOPIC_PROOFS => self.proof(author, bytes),
            TOPIC_NODES => self.node(author, bytes),
            TOPIC_HEADS => self.head(bytes),
            _ => Acceptance::Ignore,
        }
    }
}

/// What gossip needs.
pub struct GossipParts {
    /// The peer to be.
    pub swarm: SwarmConfig,
    /// What is forwarded.
    pub rules: GossipRules,
    /// Takes proofs in.
    pub core: Core,
    /// Fetches envelopes.
    pub blobs: Arc<dyn Blobs>,
    /// Finds bundles to announce.
    pub bundles: Bundles,
    /// Knows which blobs are documents.
    pub documents: Documents,
    /// Knows which blobs are prompts.
    pub prompts: Prompts,
    /// Signs heads.
    pub signer: Arc<Signer>,
    /// Signs announcements.
    pub key: NodeKey,
    /// Counts proofs that came by gossip first.
    pub first: Arc<AtomicU64>,
}

/// The running peer.
pub struct Gossip {
    rules: GossipRules,
    handle: SwarmHandle,
    core: Core,
    blobs: Arc<dyn Blobs>,
    bundles: Bundles,
    documents: Documents,
    prompts: Prompts,
    signer: Arc<Signer>,
    key: NodeKey,
    first: Arc<AtomicU64>,
    fetches: Arc<Semaphore>,
}

impl Gossip {
    /// Joins the swarm.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(
        parts: GossipParts,
    ) -> Result<(Arc<Self>, mpsc::Receiver<SwarmEvent>), SwarmError> {
        let (handle, events) = Swarm::start(parts.swarm, Arc::new(parts.rules)).await?;
        let gossip = Self {
            rules: parts.rules,
            handle,
            core: parts.core,
            blobs: parts.blobs,
            bundles: parts.bundles,
            documents: parts.documents,
            prompts: parts.prompts,
            signer: parts.signer,
            key: parts.key,
            first: parts.first,
            fetches: Arc::new(Semaphore::new(limits::GOSSIP_FETCHES_MAX)),
        };
        Ok((Arc::new(gossip), events))
    }

    /// Multiaddrs that others can start from.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.handle.listen_addresses()
    }

    /// Leaves the swarm.
    pub async fn shutdown(&self) {
        self.handle.shutdown().await;
    }

    /// Takes in what is heard, until told to stop.
    pub async fn hear(
        self: Arc<Self>,
        events: mpsc::Receiver<SwarmEvent>,
        stop: CancellationToken,
    ) {
        let hearing = self.hear_all(events, stop.clone());
        // Whether it ended by itself makes no difference.
        let _ = stop.run_until_cancelled(hearing).await;
    }

    async fn hear_all(
        self: Arc<Self>,
        mut events: mpsc::Receiver<SwarmEvent>,
        stop: CancellationToken,
    ) {
        let mut seen = Seen::default();
        while let Some(event) = events.recv().await {
            let SwarmEvent::Gossip { topic, bytes, .. } = event else { continue };
            if topic != TOPIC_PROOFS || !seen.insert(BlobId::of(&bytes)) {
                continue;
            }
            let Ok(proof) = decode::<GossipedProof>(&bytes, wire::GOSSIP_MAX) else { continue };
            let Ok(permit) = Arc::clone(&self.fetches).acquire_owned().await else { return };
            let (gossip, stop) = (Arc::clone(&self), stop.clone());
            tokio::spawn(async move {
                // A proof that is missed here is one that its node still sends by its link.
                let _ = stop.run_until_cancelled(gossip.take(proof)).await;
                drop(permit);
            });
        }
    }

    async fn take(&self, proof: GossipedProof) {
        let envelope = match proof {
            GossipedProof::Whole(envelope) => envelope,
            GossipedProof::AtNode(header) => match self.fetch(&header.signed).await {
                Ok(envelope) => envelope,
                Err(reason) => {
                    let node = header.signed.signer();
                    tracing::debug!(%node, "failed to fetch a gossiped proof: {reason}");
                    return;
                }
            },
        };
        for _ in 0..limits::GOSSIP_TRIES_MAX {
            match self.core.submit(Event::Proof(envelope.clone())).await {
                Ok(accepted) => {
                    if !accepted.known {
                        self.first.fetch_add(1, Ordering::Relaxed);
                    }
                    return;
                }
                Err(refusal) => match refusal.retry_after_ms {
                    Some(ms) => sleep(Duration::from_millis(u64::from(ms))).await,
                    None => return,
                },
            }
        }
    }

    /// Fetches the envelope that a header points to; it must be its author's.
    async fn fetch(&self, header: &Envelope) -> Result<Envelope, String> {
        let opened = header.open::<ProofAt>(self.rules.network).map_err(|e| e.to_string())?;
        let at = opened.value;
        let bytes_max = wire::ENVELOPE_MAX + 512;
        let holder = Holder { node: opened.signer, addresses: at.blob_addresses };
        // A stranger names this id: what is kept for another reason stays.
        let was_here = self.blobs.has(at.envelope).await.map_err(|error| error.to_string())?;
        let fetched = self.blobs.fetch(at.envelope, bytes_max, &[holder]).await;
        let bytes = fetched.map_err(|error| error.to_string())?;
        // The ledger keeps what it takes; the blob store need not.
        let is_kept = was_here || !self.documents.of_document(&at.envelope).is_empty();
        if !is_kept && let Err(error) = self.prompts.forget_other(at.envelope).await {
            tracing::debug!("failed to forget a proof's blob: {error}");
        }
        let envelope = Envelope::from_bytes(&bytes).map_err(|error| error.to_string())?;
        if envelope.signer() != opened.signer {
            return Err("the envelope is another node's".to_owned());
        }
        Ok(envelope)
    }

    /// Says heads as the log grows, and now and then where bundles can be had, until told to stop.
    /// A head is said once and, while the log rests, seldom again; a node that joins hears the next
    /// one, and its link told it the present one.
    pub async fn say(self: Arc<Self>, stop: CancellationToken) {
        // Nothing here outlasts a stop: neither a pause nor heads that are still to be said.
        let _ = stop.run_until_cancelled(self.say_all()).await;
    }

    async fn say_all(&self) {
        let mut durable = self.core.listen();
        let mut announcing = interval(limits::ANNOUNCE_PAUSE);
        announcing.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<Instant> = None;
        let mut said: Option<Said> = None;
        loop {
            tokio::select! {
                _ = announcing.tick() => self.announce().await,
                batch = link::next(&mut durable) => {
                    if batch.is_err() {
                        return;
                    }
                    if let Some(wait) = last.and_then(|at| limits::HEAD_PAUSE.checked_sub(at.elapsed())) {
                        sleep(wait).await;
                        // One head says all that was logged meanwhile.
                        durable = durable.resubscribe();
                    }
                    last = Some(Instant::now());
                    self.say_head(&mut said).await;
                }
            }
        }
    }

    /// Says the head, unless it was `said` and nobody needs to hear it again.
    async fn say_head(&self, said: &mut Option<Said>) {
        let look = self
            .core
            .look(|state, _| (Height(state.next_height().0.saturating_sub(1)), state.head()));
        let Ok((height, head)) = look.await else { return };
        let now = Instant::now();
        if said.as_ref().is_some_and(|said| said.covers(height, head, now)) {
            return;
        }
        match self.signer.head(height, head).map(|head| encode(&head)) {
            Ok(Ok(bytes)) => {
                if self.publish(TOPIC_HEADS, bytes).await {
                    *said = Some(Said { height, head, at: now });
                }
            }
            Ok(Err(error)) => tracing::error!("failed to say the head: {error}"),
            Err(error) => tracing::error!("failed to sign the head: {error}"),
        }
    }

    async fn announce(&self) {
        let look = self.core.look(|state, _| state.last_close().map_or(0, |close| close.epoch.0));
        let Ok(last) = look.await else { return };
        let mut blobs = Vec::new();
        for epoch in (1..=last).rev().take(limits::BUNDLES_ANNOUNCED) {
            if let Ok(Some(meta)) = self.bundles.meta(openledger_wire::Epoch(epoch)).await {
                blobs.push(meta.blob);
            }
        }
        let announcement = Announcement {
            at: clock::now(),
            blob_addresses: address_texts(&self.blobs.addresses()),
            kinds: List::default(),
            blobs: List::new(blobs).unwrap_or_default(),
            offers: List::default(),
        };
        let sealed = Envelope::seal(&announcement, self.rules.network, &self.key);
        match sealed.and_then(|envelope| envelope.to_bytes()) {
            Ok(bytes) => {
                self.publish(TOPIC_NODES, bytes).await;
            }
            Err(error) => tracing::error!("failed to announce bundles: {error}"),
        }
    }

    /// False if nobody was there to hear it.
    async fn publish(&self, topic: &str, bytes: Vec<u8>) -> bool {
        match self.handle.publish(topic, Bytes::from(bytes)).await {
            Ok(()) => true,
            Err(PublishError::NoPeers) => false,
            Err(error) => {
                tracing::debug!("failed to {error}");
                true
            }
        }
    }
}

/// The head that was said last.
#[derive(Debug)]
struct Said {
    height: Height,
    head: LogHead,
    at: Instant,
}

impl Said {
    /// Whether saying this head at `now` would only repeat it.
    fn covers(&self, height: Height, head: LogHead, now: Instant) -> bool {
        let same = (self.height, self.head) == (height, head);
        same && now.saturating_duration_since(self.at) < HEAD_REPEAT
    }
}

/// Socket addresses as messages carry them.
pub(crate) fn address_texts(
    addresses: &[SocketAddr],
) -> List<Text<{ wire::ADDRESS_MAX }>, { wire::ADDRESSES_MAX }> {
    let texts = addresses.iter().take(wire::ADDRESSES_MAX);
    let texts: Vec<_> = texts.map(|address| Text::clipped(&address.to_string())).collect();
    List::new(texts).unwrap_or_default()
}

/// The last messages taken, so that a repetition costs nothing.
#[derive(Default)]
struct Seen {
    known: BTreeSet<BlobId>,
    order: VecDeque<BlobId>,
}

impl Seen {
    fn insert(&mut self, id: BlobId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > limits::GOSSIP_SEEN_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::SettlementKey;
    use openledger_wire::gossip::ProofHeader;

    fn rules(key: &SettlementKey) -> GossipRules {
        let domain = Domain { chain_id: 31_337, contract: EvmAddress([1; 20]) };
        GossipRules { network: NetworkId([2; 32]), domain, coordinator: key.address() }
    }

    #[test]
    fn heads_are_forwarded_from_the_coordinator_only() {
        let (own, other) = (SettlementKey::generate().unwrap(), SettlementKey::generate().unwrap());
        let rules = rules(&own);
        let head = |key: &SettlementKey, network| {
            let signer = Signer::new(key.clone(), rules.domain, network);
            encode(&signer.head(Height(7), LogHead([3; 32])).unwrap()).unwrap()
        };
        let author = NodeId([9; 32]);
        let judged = |bytes: &[u8]| rules.gossip(TOPIC_HEADS, author, bytes);
        assert_eq!(judged(&head(&own, rules.network)), Acceptance::Accept);
        assert_eq!(judged(&head(&other, rules.network)), Acceptance::Reject);
        assert_eq!(judged(&head(&own, NetworkId([5; 32]))), Acceptance::Reject);
        assert_eq!(judged(b"garbage"), Acceptance::Reject);
        assert_eq!(rules.gossip("elsewhere", author, b""), Acceptance::Ignore);
    }

    #[test]
    fn statements_are_forwarded_for_their_author_and_network_only() {
        let rules = rules(&SettlementKey::generate().unwrap());
        let key = NodeKey::from_seed(&[1; 32]);
        let at = ProofAt { envelope: BlobId([1; 32]), bytes: 9, blob_addresses: List::default() };
        let message = |network| {
            let signed = Envelope::seal(&at, network, &key).unwrap();
            encode(&GossipedProof::AtNode(ProofHeader { signed })).unwrap()
        };
        let good = message(rules.network);
        let judged = |author, bytes: &[u8]| rules.gossip(TOPIC_PROOFS, author, bytes);
        assert_eq!(judged(key.public(), &good), Acceptance::Accept);
        assert_eq!(judged(NodeId([4; 32]), &good), Acceptance::Ignore);
        assert_eq!(judged(key.public(), &message(NetworkId([5; 32]))), Acceptance::Reject);
        assert_eq!(judged(key.public(), &good[..good.len() - 1]), Acceptance::Reject);
        assert_eq!(rules.gossip(TOPIC_NODES, key.public(), &good), Acceptance::Reject);
    }

    #[test]
    fn a_head_is_said_when_it_changes_and_seldom_again() {
        let at = Instant::now();
        let said = Said { height: Height(7), head: LogHead([3; 32]), at };
        let covers = |height, head, now| said.covers(Height(height), LogHead([head; 32]), now);
        assert!(covers(7, 3, at) && covers(7, 3, at + Duration::from_millis(DUPLICATE_MS)));
        assert!(!covers(8, 3, at) && !covers(7, 4, at));
        assert!(!covers(7, 3, at + HEAD_REPEAT));
    }

    #[test]
    fn repetitions_are_seen_within_a_bound() {
        let mut seen = Seen::default();
        let id = |n: usize| BlobId::of(&n.to_be_bytes());
        assert!(seen.insert(id(0)) && !seen.insert(id(0)));
        (1..=limits::GOSSIP_SEEN_KEPT).for_each(|n| assert!(seen.insert(id(n))));
        assert!(seen.insert(id(0)), "the oldest was forgotten");
        assert_eq!(seen.known.len(), seen.order.len());
    }
}

//! The caller's side: which server a call goes to.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use openledger_wire::call::{Call, CallFailure, Embed, Embedded};
use openledger_wire::gossip::{Holder, Offer};
use openledger_wire::{BlobId, List, NodeId};
use tokio::sync::mpsc;

use super::counts::{Counters, count};
use super::journey::Journey;
use super::remote::{Reason, Remote, Went};
use super::{CallCounts, Line, Patience, Standings, codes};
use crate::node::lock;
use crate::serving::wishes::only_here;
use crate::serving::{self, CallStream, Combined, Offers, Serve, Wishes, failure};
use crate::{limits, time};

/// Peers of one network.
#[derive(Clone)]
pub struct Neighbourhood {
    /// This node: it is not its own peer.
    pub me: NodeId,
    /// The way to them.
    pub line: Arc<dyn Line>,
    /// What they say that they serve.
    pub offers: Arc<Offers>,
}

/// Fetches files that calls need.
#[async_trait]
pub trait Obtain: Send + Sync {
    /// Fetches a model or adapter from those who hold it, and serves it from then on.
    ///
    /// # Errors
    /// When they do not deliver it, or it cannot be used.
    async fn obtain(&self, offer: &Offer, holders: &[Holder]) -> Result<(), CallFailure>;
}

/// A model or adapter that a call may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it is.
    pub offer: Offer,
    /// Whether this machine serves it.
    pub is_here: bool,
    /// How many peers say that they do.
    pub peers: usize,
}

/// Finds a server for each call.
#[derive(Clone)]
pub struct Router(pub(super) Arc<Inner>);

/// What all calls share.
pub(super) struct Inner {
    pub(super) local: Arc<dyn Serve>,
    pub(super) obtain: Option<Arc<dyn Obtain>>,
    pub(super) around: Vec<Neighbourhood>,
    pub(super) standings: Mutex<Standings>,
    pub(super) patience: Patience,
    pub(super) counters: Counters,
}

/// A peer that serves a call, with the number of its neighbourhood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) around: usize,
    pub(super) node: NodeId,
}

impl Router {
    /// A router over this machine and its peers, which may fetch where `obtain` is given.
    #[must_use]
    pub fn new(
        local: Arc<dyn Serve>,
        around: Vec<Neighbourhood>,
        obtain: Option<Arc<dyn Obtain>>,
        patience: Patience,
    ) -> Self {
        let mut salt = [0; 16];
        // Without randomness ties are broken the same way each time, which harms little.
        let _ = getrandom::fill(&mut salt);
        let standings = Mutex::new(Standings::new(salt));
        let counters = Counters::default();
        Self(Arc::new(Inner { local, obtain, around, standings, patience, counters }))
    }

    /// Everything that calls may name: what is here, then what peers offer, by id.
    #[must_use]
    pub fn known(&self) -> Vec<Known> {
        let here = self.0.local.offers();
        let mut known: Vec<Known> =
            here.into_iter().map(|offer| Known { offer, is_here: true, peers: 0 }).collect();
        for around in &self.0.around {
            for offered in around.offers.all(time::now()) {
                let peers = offered.nodes.iter().filter(|node| **node != around.me).count();
                match known.iter_mut().find(|known| known.offer.blob == offered.offer.blob) {
                    Some(there) => there.peers += peers,
                    None if peers > 0 => {
                        known.push(Known { offer: offered.offer, is_here: false, peers });
                    }
                    None => {}
                }
            }
        }
        known
    }

    /// Calls since the start.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.0.counters.read()
    }
}

#[async_trait]
impl Serve for Router {
    async fn call(&self, call: Call) -> Result<CallStream, CallFailure> {
        self.call_with(call, Wishes::default()).await
    }

    async fn call_with(&self, call: Call, wishes: Wishes) -> Result<CallStream, CallFailure> {
        let own = &self.0;
        count(&own.counters.asked);
        let blobs = blobs_of(&call.model, &call.adapters);
        let stays = wishes.change_the_answer();
        if own.is_here(&blobs) {
            match own.local.call_with(call.clone(), wishes.clone()).await {
                Ok(stream) => {
                    count(&own.counters.here);
                    return Ok(stream);
                }
                Err(failed) if stays || !may_go_out(&failed) || own.servers(&blobs).is_empty() => {
                    return Err(failed);
                }
                Err(_) => {}
            }
        } else if !own.could_obtain(&blobs) {
            if own.servers(&blobs).is_empty() {
                return Err(own.nowhere(&blobs));
            }
            if stays {
                return Err(only_here());
            }
        }
        let (pieces, stream) = mpsc::channel(limits::CALL_PIECES_MAX);
        tokio::spawn(Journey::new(Arc::clone(own), call, wishes, blobs, pieces).go());
        Ok(stream)
    }

    async fn embed(&self, embed: Embed) -> Result<Embedded, CallFailure> {
        let own = &self.0;
        count(&own.counters.asked);
        let blobs = blobs_of(&embed.model, &embed.adapters);
        let mut last = own.nowhere(&blobs);
        if own.is_here(&blobs) {
            match own.local.embed(embed.clone()).await {
                Err(failed) if may_go_out(&failed) => last = failed,
                Err(failed) => return Err(failed),
                Ok(embedded) => {
                    count(&own.counters.here);
                    return Ok(embedded);
                }
            }
        }
        let servers = own.servers(&blobs);
        for server in servers.into_iter().take(limits::CALL_PLACES_MAX) {
            match own.embed_at(server, &embed).await {
                Ok(embedded) => {
                    count(&own.counters.forwarded);
                    return Ok(embedded);
                }
                Err(Went::Failed(failed)) => return Err(failed),
                Err(went) => last = own.note(server, went).unwrap_or(last),
            }
        }
        if own.could_obtain(&blobs) {
            own.fetch(&blobs).await?;
            return own.local.embed(embed).await;
        }
        Err(last)
    }

    fn offers(&self) -> Vec<Offer> {
        self.known().into_iter().map(|known| known.offer).collect()
    }

    fn class_of(&self, model: &BlobId) -> Option<String> {
        self.0.local.class_of(model)
    }

    fn combinations(&self) -> Vec<Combined> {
        self.0.local.combinations()
    }
}

impl Inner {
    /// Whether this machine serves all of these.
    pub(super) fn is_here(&self, blobs: &[BlobId]) -> bool {
        let here = self.local.offers();
        blobs.iter().all(|blob| here.iter().any(|offer| offer.blob == *blob))
    }

    /// Peers that say that they serve all of these, the best first.
    pub(super) fn servers(&self, blobs: &[BlobId]) -> Vec<Server> {
        let now = time::now();
        let mut found: Vec<Server> = Vec::new();
        for (number, around) in self.around.iter().enumerate() {
            for node in around.offers.nodes_with(blobs, now) {
                let is_new = found.iter().all(|server| server.node != node);
                if node != around.me && is_new {
                    found.push(Server { around: number, node });
                }
            }
        }
        let nodes = found.iter().map(|server| server.node).collect();
        let order = lock(&self.standings).order(nodes, now);
        let place = |server: &Server| order.iter().position(|node| *node == server.node);
        found.sort_by_key(place);
        found
    }

    fn missing(&self, blobs: &[BlobId]) -> Vec<BlobId> {
        let here = self.local.offers();
        let is_here = |blob: &&BlobId| here.iter().any(|offer| offer.blob == **blob);
        blobs.iter().filter(|blob| !is_here(blob)).copied().collect()
    }

    /// Whether everything that is missing here is offered by somebody, and may be fetched.
    pub(super) fn could_obtain(&self, blobs: &[BlobId]) -> bool {
        let missing = self.missing(blobs);
        let offered = |blob: &BlobId| self.offered(*blob).is_some();
        self.obtain.is_some() && !missing.is_empty() && missing.iter().all(offered)
    }

    /// A file that peers offer, and who holds it.
    fn offered(&self, blob: BlobId) -> Option<(Offer, Vec<Holder>)> {
        let now = time::now();
        let offer = self.around.iter().find_map(|around| around.offers.of(blob, now))?;
        let mut holders: Vec<Holder> = Vec::new();
        for around in &self.around {
            for holder in around.offers.holders(blob, now) {
                let is_new = holders.iter().all(|known| known.node != holder.node);
                if is_new && holder.node != around.me {
                    holders.push(holder);
                }
            }
        }
        (!holders.is_empty()).then_some((offer, holders))
    }

    /// Fetches what is missing here.
    pub(super) async fn fetch(&self, blobs: &[BlobId]) -> Result<(), CallFailure> {
        let Some(obtain) = &self.obtain else { return Err(self.nowhere(blobs)) };
        let all = async {
            for blob in self.missing(blobs) {
                let (offer, holders) = self.offered(blob).ok_or_else(|| self.nowhere(blobs))?;
                obtain.obtain(&offer, &holders).await?;
            }
            Ok(())
        };
        let fetched = tokio::time::timeout(limits::CALL_FETCH_TIME_MAX, all).await;
        fetched.unwrap_or_else(|_| {
            let message = "the files that the call needs take too long to fetch; ask again later";
            Err(failure(serving::codes::BUSY, message, 60_000))
        })?;
        count(&self.counters.fetched);
        Ok(())
    }

    pub(super) fn remote(&self, server: Server) -> Option<Remote<'_>> {
        let around = self.around.get(server.around)?;
        let line = around.line.as_ref();
        Some(Remote { line, node: server.node, patience: &self.patience })
    }

    /// Takes note of how a peer did; gives what to tell the caller if nobody does better.
    pub(super) fn note(&self, server: Server, went: Went) -> Option<CallFailure> {
        let now = time::now();
        let node = server.node;
        match went {
            Went::Ended(_) | Went::Unwanted => None,
            Went::Failed(failed) => Some(failed),
            Went::Elsewhere(Reason::Busy(for_ms)) => {
                if for_ms > 0 {
                    lock(&self.standings).busy(node, for_ms, now);
                }
                let ms = u32::try_from(for_ms).unwrap_or(u32::MAX).max(limits::PEER_BUSY_MS);
                let message = "every node that serves this has as much to do as it takes";
                Some(failure(serving::codes::BUSY, message, ms))
            }
            Went::Elsewhere(Reason::Refused(failed)) => {
                lock(&self.standings).busy(node, limits::PEER_REST_MS_MAX, now);
                Some(failed)
            }
            Went::Elsewhere(Reason::Lost(why)) => {
                tracing::debug!(peer = %node.short(), "a peer was lost for a call: {why}");
                lock(&self.standings).failed(node, now);
                Some(lost())
            }
        }
    }

    async fn embed_at(&self, server: Server, embed: &Embed) -> Result<Embedded, Went> {
        let gone = || Went::Elsewhere(Reason::Lost("its network was left".to_owned()));
        let remote = self.remote(server).ok_or_else(gone)?;
        let mut all = Vec::new();
        let mut prompt_tokens = 0u32;
        let mut rest = &embed.inputs[..];
        while !rest.is_empty() {
            let (part, left) = rest.split_at(first_part(rest));
            rest = left;
            let inputs = List::new(part).unwrap_or_default();
            let part = Embed { inputs, ..embed.clone() };
            let embedded = remote.embed(&part).await?;
            prompt_tokens = prompt_tokens.saturating_add(embedded.prompt_tokens);
            all.extend(embedded.vectors.into_vec());
        }
        let vectors = List::new(all).unwrap_or_default();
        Ok(Embedded { vectors, prompt_tokens })
    }

    /// Nobody serves or has what the call names.
    fn nowhere(&self, blobs: &[BlobId]) -> CallFailure {
        let missing = self.missing(blobs);
        let is_model = missing.first().is_some_and(|first| blobs.first() == Some(first));
        let code =
            if is_model { serving::codes::UNKNOWN_MODEL } else { serving::codes::UNKNOWN_ADAPTER };
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let message = format!(
            "neither this node nor any peer that it knows serves {}; add it with `openledger model add`, or wait for a peer that has it",
            names.join(", ")
        );
        failure(code, &message, 0)
    }
}

/// The failure of a call whose servers are all gone.
pub(super) fn lost() -> CallFailure {
    let message =
        "the node that served this call is gone, and no other could go on with it; ask again";
    failure(codes::PEER_LOST, message, 1_000)
}

/// How many inputs to send at once: always one.
fn first_part(inputs: &[openledger_wire::call::Prompt]) -> usize {
    let mut bytes = 0usize;
    let fits = |input: &&openledger_wire::call::Prompt| {
        bytes = bytes.saturating_add(bytes_of(input));
        bytes <= limits::PEER_EMBED_BYTES_MAX
    };
    inputs.iter().take(limits::PEER_EMBED_INPUTS_MAX).take_while(fits).count().max(1)
}

fn bytes_of(prompt: &openledger_wire::call::Prompt) -> usize {
    use openledger_wire::call::Prompt;
    match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Prompt::Tokens(tokens) => tokens.len().saturating_mul(4),
    }
}

/// The files that a call needs: the base first.
fn blobs_of<const MAX: usize>(model: &BlobId, adapters: &List<(BlobId, u32), MAX>) -> Vec<BlobId> {
    std::iter::once(*model).chain(adapters.iter().map(|(adapter, _)| *adapter)).collect()
}

/// Whether a call that this machine did not begin may be begun by a peer. An input that killed the
/// worker here stays here.
pub(super) fn may_go_out(failed: &CallFailure) -> bool {
    use serving::codes::{BUSY, MEMORY, START, STOPPING, UNKNOWN_ADAPTER, UNKNOWN_MODEL};
    [BUSY, START, MEMORY, STOPPING, UNKNOWN_MODEL, UNKNOWN_ADAPTER].contains(&&*failed.code)
}

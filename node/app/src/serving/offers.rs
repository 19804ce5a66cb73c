//! What peers of one network say that they hold and serve.
//!
//! Names are the announcing node's word and prove nothing; ids do, since whatever comes is hashed.
//! What was not said again for a while is forgotten. Nothing is asked of anybody here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use openledger_wire::gossip::{Announcement, Holder, Offer};
use openledger_wire::{BlobId, List, NodeId, Text, UnixMs, limits as wire_limits};
use serde::{Deserialize, Serialize};

use crate::limits;

/// Offers of peers.
#[derive(Debug, Default)]
pub struct Offers {
    said: Mutex<BTreeMap<NodeId, Said>>,
}

/// The latest that one node said.
#[derive(Debug)]
struct Said {
    /// When it said so, by its own clock: an older announcement that comes late changes nothing.
    at: UnixMs,
    /// When it was heard, by ours.
    heard: UnixMs,
    addresses: List<Text<{ wire_limits::ADDRESS_MAX }>, { wire_limits::ADDRESSES_MAX }>,
    offers: Vec<Offer>,
}

/// A model or adapter that peers offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The offer, with the name that the first of the nodes gives it.
    pub offer: Offer,
    /// Who offers it, ascending.
    pub nodes: Vec<NodeId>,
}

impl Offers {
    /// Nothing heard yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a node's announcement, which replaces what it said before. Says whether
    /// anything changed.
    pub fn heard(&self, node: NodeId, said: &Announcement, now: UnixMs) -> bool {
        let mut all = self.lock();
        all.retain(|_, one| !is_stale(one, now));
        if all.get(&node).is_some_and(|known| known.at > said.at) {
            return false;
        }
        if said.offers.is_empty() {
            return all.remove(&node).is_some();
        }
        if all.len() >= limits::OFFERING_NODES_MAX && !all.contains_key(&node) {
            // Whoever was heard longest ago is the likeliest to be gone.
            let oldest = all.iter().min_by_key(|(_, one)| one.heard).map(|(node, _)| *node);
            if let Some(oldest) = oldest {
                all.remove(&oldest);
            }
        }
        let (addresses, offers) = (said.blob_addresses.clone(), said.offers.to_vec());
        let is_same = all.get(&node).is_some_and(|known| known.offers == offers);
        all.insert(node, Said { at: said.at, heard: now, addresses, offers });
        !is_same
    }

    /// Forgets a node, for instance because it does not deliver.
    pub fn forget(&self, node: &NodeId) {
        self.lock().remove(node);
    }

    /// Everything offered, by id.
    #[must_use]
    pub fn all(&self, now: UnixMs) -> Vec<Offered> {
        let mut by_blob: BTreeMap<BlobId, Offered> = BTreeMap::new();
        for (node, said) in self.lock().iter().filter(|(_, said)| !is_stale(said, now)) {
            for offer in &said.offers {
                let new = || Offered { offer: offer.clone(), nodes: Vec::new() };
                by_blob.entry(offer.blob).or_insert_with(new).nodes.push(*node);
            }
        }
        by_blob.into_values().collect()
    }

    /// Offers under a name, or whose id begins like it; one for each id.
    #[must_use]
    pub fn named(&self, name: &str, now: UnixMs) -> Vec<Offer> {
        let mut found: BTreeMap<BlobId, Offer> = BTreeMap::new();
        for said in self.lock().values().filter(|said| !is_stale(said, now)) {
            for offer in said.offers.iter().filter(|offer| is_named(offer, name)) {
                found.entry(offer.blob).or_insert_with(|| offer.clone());
            }
        }
        found.into_values().collect()
    }

    /// The offer of a blob, if anybody makes one.
    #[must_use]
    pub fn of(&self, blob: BlobId, now: UnixMs) -> Option<Offer> {
        let all = self.lock();
        let mut fresh = all.values().filter(|said| !is_stale(said, now));
        fresh.find_map(|said| said.offers.iter().find(|offer| offer.blob == blob).cloned())
    }

    /// Who holds a blob and where it can be had, those heard last first.
    #[must_use]
    pub fn holders(&self, blob: BlobId, now: UnixMs) -> Vec<Holder> {
        let all = self.lock();
        let has = |said: &Said| said.offers.iter().any(|offer| offer.blob == blob);
        let fresh = all.iter().filter(|(_, said)| !is_stale(said, now) && has(said));
        let mut holders: Vec<(UnixMs, Holder)> = fresh
            .map(|(node, said)| {
                (said.heard, Holder { node: *node, addresses: said.addresses.clone() })
            })
            .collect();
        holders.sort_by_key(|(heard, holder)| (std::cmp::Reverse(*heard), holder.node));
        holders.into_iter().map(|(_, holder)| holder).collect()
    }

    /// Nodes that offer all of these, ascending.
    #[must_use]
    pub fn nodes_with(&self, blobs: &[BlobId], now: UnixMs) -> Vec<NodeId> {
        let all = self.lock();
        let has_all = |said: &Said| {
            let offered: BTreeSet<BlobId> = said.offers.iter().map(|offer| offer.blob).collect();
            blobs.iter().all(|blob| offered.contains(blob))
        };
        let fresh = all.iter().filter(|(_, said)| !is_stale(said, now) && has_all(said));
        fresh.map(|(node, _)| *node).collect()
    }
}

fn is_stale(said: &Said, now: UnixMs) -> bool {
    now.0.saturating_sub(said.heard.0) > limits::OFFER_MS_MAX
}

/// Whether an offer goes by this name: its own, or the beginning of its id.
#[must_use]
pub fn is_named(offer: &Offer, name: &str) -> bool {
    *offer.name == *name || is_id_of(offer.blob, name)
}

/// Whether a text is the beginning of a blob's id, and long enough to mean it.
#[must_use]
pub fn is_id_of(blob: BlobId, text: &str) -> bool {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let long_enough = text.len() >= limits::ID_PREFIX_LEN_MIN;
    is_hex && long_enough && blob.to_string().starts_with(&text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::gossip::OfferKind;

    fn said(at: u64, offers: &[(&str, u8)]) -> Announcement {
        let offer = |&(name, id): &(&str, u8)| Offer {
            name: Text::clipped(name),
            blob: BlobId([id; 32]),
            bytes: 10,
            kind: OfferKind::Base,
        };
        let offers: Vec<Offer> = offers.iter().map(offer).collect();
        Announcement {
            at: UnixMs(at),
            blob_addresses: List::new(vec![Text::clipped("127.0.0.1:9")]).unwrap(),
            kinds: List::default(),
            blobs: List::default(),
            offers: List::new(offers).unwrap(),
        }
    }

    #[test]
    fn the_latest_word_of_each_node_counts_for_a_while() {
        let offers = Offers::new();
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        assert!(offers.heard(a, &said(10, &[("base", 1), ("x", 2)]), UnixMs(100)));
        assert!(!offers.heard(a, &said(11, &[("base", 1), ("x", 2)]), UnixMs(101)));
        assert!(!offers.heard(a, &said(9, &[]), UnixMs(102)), "an old one that came late");
        assert!(offers.heard(b, &said(12, &[("other", 1)]), UnixMs(200)));
        let now = UnixMs(300);
        assert_eq!(offers.all(now).len(), 2);
        assert_eq!(offers.all(now)[0].nodes, [a, b]);
        let holders = offers.holders(BlobId([1; 32]), now);
        assert_eq!((holders[0].node, holders[1].node), (b, a));
        assert_eq!(offers.nodes_with(&[BlobId([1; 32]), BlobId([2; 32])], now), [a]);
        assert_eq!(offers.named("other", now).len(), 1);
        assert_eq!(offers.named("0101010101", now).len(), 1);
        assert!(offers.named("01", now).is_empty(), "too short for an id");
        assert_eq!(offers.of(BlobId([2; 32]), now).map(|offer| offer.bytes), Some(10));
        let late = UnixMs(150 + limits::OFFER_MS_MAX);
        assert_eq!(offers.holders(BlobId([1; 32]), late).len(), 1);
        assert!(offers.heard(b, &said(13, &[]), now));
        assert_eq!(offers.holders(BlobId([1; 32]), now).len(), 1);
    }

    #[test]
    fn a_flood_of_nodes_pushes_out_the_oldest() {
        let offers = Offers::new();
        let node = |n: usize| NodeId(*blake(n));
        for n in 0..limits::OFFERING_NODES_MAX + 5 {
            let now = UnixMs(1_000 + n as u64);
            offers.heard(node(n), &said(1, &[("x", 1)]), now);
        }
        let now = UnixMs(10_000);
        let nodes = offers.nodes_with(&[BlobId([1; 32])], now);
        assert_eq!(nodes.len(), limits::OFFERING_NODES_MAX);
        assert!(!nodes.contains(&node(0)) && nodes.contains(&node(5)));
    }

    fn blake(n: usize) -> Box<[u8; 32]> {
        Box::new(BlobId::of(&n.to_be_bytes()).0)
    }
}

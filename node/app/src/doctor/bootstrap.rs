//! Peers to start from: who is dead, and whether remembered peers suffice.
//!
//! Each address is dialled by a libp2p node of its own, with a fresh key and nothing to say, so
//! that an answer means a peer of this network and tells UDP and TCP apart.

use std::path::Path;
use std::sync::Arc;

use openledger_swarm::defaults::peers as peer_defaults;
use openledger_swarm::peers::PeerBook;
use openledger_swarm::{Acceptance, Admission, Swarm, SwarmConfig, SwarmEvent};
use openledger_web::doctor::Finding;
use openledger_wire::profile::Profile;
use openledger_wire::{NetworkId, NodeId, NodeKey};

use super::examine::Patient;
use crate::data_dir::read_bounded;
use crate::limits;
use crate::network::Network;
use crate::time;

const CODE: &str = "bootstrap";

/// An address and whether a peer of the network answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dialled {
    address: String,
    alive: bool,
}

impl Dialled {
    fn is_udp(&self) -> bool {
        self.address.contains("/udp/")
    }

    /// The peer's name at the end of its address.
    fn peer(&self) -> &str {
        self.address.rsplit_once("/p2p/").map_or(self.address.as_str(), |(_, peer)| peer)
    }
}

/// Bootstrap peers and remembered ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    named: Vec<Dialled>,
    remembered: Vec<Dialled>,
}

impl Peers {
    /// Whether anybody answers over UDP, or else over TCP.
    pub(super) fn alive(&self, udp: bool) -> bool {
        let all = self.named.iter().chain(&self.remembered);
        all.clone().any(|one| one.alive && one.is_udp() == udp)
    }
}

/// Dials everybody.
pub(super) async fn dial(patient: &Patient, network: &Network) -> Peers {
    let (profile, config) = (&network.profile, &patient.config.network);
    // The owner's own ones are of the first network.
    let is_first = config.joined().first().is_none_or(|first| first == network.name());
    let own = if is_first { config.peers.as_slice() } else { &[] };
    let named: Vec<String> = profile
        .bootstrap
        .iter()
        .map(|address| address.to_string())
        .chain(own.iter().cloned())
        .take(limits::DOCTOR_BOOTSTRAP_MAX)
        .collect();
    let remembered = remembered(patient, network);
    let id = profile.network();
    let (named, remembered) = tokio::join!(dial_all(named, id), dial_all(remembered, id));
    Peers { named, remembered }
}

async fn dial_all(addresses: Vec<String>, network: NetworkId) -> Vec<Dialled> {
    let dialled: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            tokio::spawn(async move {
                let answered = answers(address.clone(), network);
                let alive = tokio::time::timeout(limits::DOCTOR_PROBE_TIME_MAX, answered).await;
                Dialled { address, alive: alive.unwrap_or_default() }
            })
        })
        .collect();
    let mut all = Vec::new();
    for one in dialled {
        all.extend(one.await);
    }
    all
}

/// Wants no gossip.
struct Deaf;

impl Admission for Deaf {
    fn gossip(&self, _topic: &str, _author: NodeId, _bytes: &[u8]) -> Acceptance {
        Acceptance::Ignore
    }
}

/// Waits until a peer of the network answers; it may take for ever.
async fn answers(address: String, network: NetworkId) -> bool {
    let Ok(key) = NodeKey::generate() else { return false };
    let mut config = SwarmConfig::new(key, network);
    config.bootstrap = vec![address];
    config.topics = Vec::new();
    config.mdns = false;
    config.autonat_server = false;
    let Ok((handle, mut events)) = Swarm::start(config, Arc::new(Deaf)).await else {
        return false;
    };
    let mut alive = false;
    while let Some(event) = events.recv().await {
        if matches!(event, SwarmEvent::Connected(_)) {
            alive = true;
            break;
        }
    }
    drop(handle);
    alive
}

/// Addresses of those that were connected in earlier runs, those seen last first.
fn remembered(patient: &Patient, network: &Network) -> Vec<String> {
    let folders = [network.folder.join("peers"), patient.data.join("peers")];
    let text = folders.iter().find_map(|folder| read_peers(&folder.join("peers.txt")));
    let mut book = PeerBook::new(NodeId::ZERO, [0; 32]);
    if text.and_then(|text| book.remember(&text)).is_none() {
        return Vec::new();
    }
    let peers = book.candidates(time::now(), limits::DOCTOR_REMEMBERED_MAX, true);
    let with_name = |(node, addresses): (NodeId, Vec<String>)| {
        let name = peer_id(&node);
        addresses.into_iter().take(2).map(move |address| format!("{address}/p2p/{name}"))
    };
    peers.into_iter().flat_map(with_name).collect()
}

fn read_peers(path: &Path) -> Option<String> {
    let bytes = read_bounded(path, peer_defaults::FILE_BYTES_MAX).ok()??;
    String::from_utf8(bytes).ok()
}

/// The peer id of a node key as addresses carry it: base58btc of the identity multihash of the
/// key's protobuf (libp2p's peer id specification).
fn peer_id(node: &NodeId) -> String {
    const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    base58(&[&PREFIX[..], node.as_bytes()].concat())
}

/// Base58 with Bitcoin's alphabet.
fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let letter = |digit: u8| char::from(ALPHABET.get(usize::from(digit)).copied().unwrap_or(b'1'));
    // Digits of base 58, the lowest first.
    let mut digits: Vec<u8> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let zeros = std::iter::repeat_n('1', zeros);
    zeros.chain(digits.iter().rev().map(|digit| letter(*digit))).collect()
}

/// Judges whether the node finds peers.
pub(super) fn judge(patient: &Patient, profile: &Profile, peers: &Peers) -> Finding {
    let connected = patient.running.as_ref().map_or(0, |running| running.peers(&profile.name));
    peers.judge(connected)
}

impl Peers {
    fn judge(&self, connected: u64) -> Finding {
        let names = |alive: bool, of: &[Dialled]| {
            let mut names: Vec<String> = Vec::new();
            for one in of {
                let lives = of.iter().any(|other| other.alive && other.peer() == one.peer());
                if lives == alive && !names.iter().any(|name| name == one.peer()) {
                    names.push(one.peer().to_owned());
                }
            }
            names
        };
        let (alive, dead) = (names(true, &self.named), names(false, &self.named));
        let others = names(true, &self.remembered).len();
        if alive.is_empty() && dead.is_empty() {
            let found = match others {
                0 => "the profile names none; peers of the local network are found by themselves",
                _ => "the profile names none, but remembered peers answer",
            };
            return Finding::skipped(CODE, found);
        }
        let all = alive.len() + dead.len();
        if dead.is_empty() {
            return Finding::fine(CODE, format!("{all} of {all} bootstrap peers answer"));
        }
        let dead_at: Vec<&str> = self
            .named
            .iter()
            .filter(|one| dead.iter().any(|name| name == one.peer()))
            .map(|one| one.address.as_str())
            .collect();
        let dead_at = dead_at.join(", ");
        let newer = "get a newer profile from the network's publisher";
        let cause = "they are down, have moved, or this machine cannot reach them";
        if !alive.is_empty() {
            let found = format!("{} of {all} bootstrap peers are dead: {dead_at}", dead.len());
            let mend = format!("nothing now, since the others suffice; {newer} some time");
            return Finding::warning(CODE, found, cause, mend);
        }
        let found = format!("all {all} bootstrap peers are dead: {dead_at}");
        if others > 0 || connected > 0 {
            let who = if connected > 0 {
                format!("the running node has {connected} peers")
            } else {
                format!("{others} remembered peers answer")
            };
            let mend = format!("nothing now, since {who} and that suffices; {newer} some time");
            return Finding::warning(CODE, found, cause, mend);
        }
        let cause =
            format!("{cause}; no remembered peer answers either ({} tried)", self.remembered.len());
        let mend = format!(
            "see whether this machine is online; {newer}, or name a peer that runs: `openledger config set network.peers '[\"/ip4/ADDRESS/udp/PORT/quic-v1/p2p/ID\"]'`"
        );
        Finding::error(CODE, found, cause, mend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_web::doctor::Severity;

    fn dialled(address: &str, alive: bool) -> Dialled {
        Dialled { address: address.to_owned(), alive }
    }

    #[test]
    fn a_peer_with_one_good_address_is_alive_and_remembered_ones_suffice() {
        let good = [
            dialled("/ip4/1.1.1.1/udp/1/quic-v1/p2p/A", false),
            dialled("/ip4/1.1.1.1/tcp/1/p2p/A", true),
        ];
        let dead = dialled("/ip4/2.2.2.2/tcp/2/p2p/B", false);
        let mut peers = Peers { named: good.to_vec(), remembered: Vec::new() };
        assert_eq!(peers.judge(0).severity, Severity::Fine);
        assert!(peers.alive(false) && !peers.alive(true));
        peers.named.push(dead.clone());
        let some = peers.judge(0);
        assert_eq!(some.severity, Severity::Warning);
        assert!(some.found.contains("1 of 2") && some.found.contains("/p2p/B"), "{}", some.found);
        peers.named = vec![dead];
        assert_eq!(peers.judge(0).severity, Severity::Error);
        assert_eq!(peers.judge(3).severity, Severity::Warning);
        peers.remembered.push(dialled("/ip4/3.3.3.3/tcp/3/p2p/C", true));
        let suffices = peers.judge(0);
        assert_eq!(suffices.severity, Severity::Warning);
        assert!(suffices.mend.unwrap().contains("suffices"));
        assert_eq!(Peers::default().judge(0).severity, Severity::Skipped);
    }

    #[test]
    fn peer_ids_are_written_as_libp2p_writes_them() {
        assert_eq!(base58(b"\0\0hello"), "11Cn8eVZg");
        let name = peer_id(&NodeKey::from_seed(&[3; 32]).public());
        assert!(name.starts_with("12D3KooW") && name.len() == 52, "{name}");
    }
}

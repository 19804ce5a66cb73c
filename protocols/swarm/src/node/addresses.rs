//! Keys, peer ids and multiaddrs: conversions, and which addresses of others are believed.

use std::net::IpAddr;

use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use openledger_wire::{NodeId, NodeKey};

/// The key pair of a node key.
pub(super) fn keypair(key: &NodeKey) -> Result<Keypair, String> {
    let mut seed = key.seed();
    Keypair::ed25519_from_bytes(seed.as_mut_slice()).map_err(|e| e.to_string())
}

/// The peer id of a node.
pub(super) fn peer_of(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The node of a peer id, which for ed25519 holds the whole key (two bytes of identity multihash
/// before it).
pub(super) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let bytes = peer.to_bytes();
    let key = PublicKey::try_decode_protobuf(bytes.get(2..)?).ok()?;
    Some(NodeId(key.try_into_ed25519().ok()?.to_bytes()))
}

/// Splits `…/p2p/ID` into peer and address.
pub(super) fn with_peer(text: &str) -> Result<(PeerId, Multiaddr), String> {
    let mut address: Multiaddr = text.parse().map_err(|e| format!("{e}"))?;
    match address.pop() {
        Some(Protocol::P2p(peer)) => Ok((peer, address)),
        _ => Err("it does not end in /p2p/ and a peer id".to_owned()),
    }
}

/// The IP address that a multiaddr starts with.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Whether an address leads through a relay.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// How far an address reaches: own machine, own network, the world.
pub(super) fn reach(ip: IpAddr) -> u8 {
    match ip {
        _ if ip.is_loopback() => 0,
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => 1,
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => 1,
        _ => 2,
    }
}

fn is_usable(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.is_documentation());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Whether an address that a peer names for itself is believed: it must not reach less far than
/// the connection through which we know the peer. So a stranger cannot make us dial into our own
/// network. Names and relayed addresses are taken as they are; dialling them is bounded anyway.
pub(super) fn is_plausible(address: &Multiaddr, seen_from: Option<IpAddr>) -> bool {
    let relayed = is_relayed(address);
    match (ip_of(address), seen_from) {
        (Some(ip), _) if !is_usable(ip) => false,
        (Some(ip), Some(seen)) => relayed || reach(ip) >= reach(seen),
        (Some(ip), None) => relayed || reach(ip) == 2,
        (None, _) => address
            .iter()
            .next()
            .is_some_and(|p| matches!(p, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_node_and_peer() {
        let key = NodeKey::from_seed(&[3; 32]);
        let peer = keypair(&key).unwrap().public().to_peer_id();
        assert_eq!(peer_of(&key.public()), Some(peer));
        assert_eq!(node_of(&peer), Some(key.public()));
    }

    #[test]
    fn strangers_cannot_name_our_own_network() {
        let plausible = |address: &str, seen: Option<&str>| {
            is_plausible(&address.parse().unwrap(), seen.map(|s| s.parse().unwrap()))
        };
        assert!(plausible("/ip4/127.0.0.2/tcp/1", Some("127.0.0.3")));
        assert!(plausible("/ip4/192.168.1.2/tcp/1", Some("192.168.1.9")));
        assert!(plausible("/ip4/8.8.8.8/udp/1/quic-v1", Some("192.168.1.9")));
        assert!(!plausible("/ip4/192.168.1.2/tcp/1", Some("8.8.8.8")));
        assert!(!plausible("/ip4/127.0.0.1/tcp/1", Some("192.168.1.9")));
        assert!(!plausible("/ip4/10.0.0.1/tcp/1", None));
        assert!(!plausible("/ip4/0.0.0.0/tcp/1", Some("127.0.0.1")));
        assert!(plausible("/dns4/boot.example/tcp/1", None));
    }

    #[test]
    fn bootstrap_addresses_need_their_peer() {
        let key = NodeKey::from_seed(&[3; 32]);
        let peer = peer_of(&key.public()).unwrap();
        let (found, address) = with_peer(&format!("/ip4/127.0.0.1/tcp/9/p2p/{peer}")).unwrap();
        assert_eq!((found, address.to_string()), (peer, "/ip4/127.0.0.1/tcp/9".to_owned()));
        assert!(with_peer("/ip4/127.0.0.1/tcp/9").is_err());
        assert!(with_peer("nonsense").is_err());
    }
}

//! Nodes that cannot be dialled: tests of reachability, relays, and the way from there to a direct
//! connection.
//!
//! A relay whose own dials are all refused finds that nobody can be dialled: seen from it, a
//! firewall stands before everybody. What needs a real one (address translation of different kinds,
//! a mapping that ends) is not tested here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::relay::client::Event as CallerEvent;
use libp2p::swarm::SwarmEvent as Event;
use openledger_swarm::defaults::node as defaults;
use openledger_swarm::{
    Acceptance, Admission, Reachability, Swarm, SwarmConfig, SwarmEvent, SwarmHandle,
};
use openledger_wire::NodeId;
use tokio::sync::mpsc;

use crate::node::{Over, config, knows, publish, start};
use crate::raw::{self, event};
use crate::until;

const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";

/// A relay and tester for which nobody can be dialled.
fn firewalled(seed: u8, over: Over, bootstrap: &[String]) -> SwarmConfig {
    let mut config = config(seed, over, bootstrap);
    config.relay_server = true;
    config.limits.pending_outgoing_max = 0;
    config
}

/// A node that does not know whether it can be dialled.
fn unsure(seed: u8, over: Over, bootstrap: &[String]) -> SwarmConfig {
    let mut config = config(seed, over, bootstrap);
    config.reachable = false;
    config
}

/// A node that listens nowhere.
fn deaf(seed: u8, over: Over, bootstrap: &[String]) -> SwarmConfig {
    let mut config = unsure(seed, over, bootstrap);
    config.listen.clear();
    config
}

/// Waits longer than [`until`]: tests of reachability begin after five seconds.
async fn patiently(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until relays take calls for a node; gives the addresses for that.
async fn circuits(node: &SwarmHandle, count: usize) -> Vec<String> {
    let relayed = || {
        let all = node.external_addresses();
        all.into_iter().filter(|a| a.contains("/p2p-circuit/p2p/")).collect::<Vec<_>>()
    };
    patiently("relays take calls", || relayed().len() == count).await;
    assert_eq!(node.reachability(), Reachability::Hidden);
    relayed()
}

/// Answers every request with its first byte.
fn answering(mut events: mpsc::Receiver<SwarmEvent>) -> mpsc::Receiver<(NodeId, Bytes)> {
    let (sender, heard) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                SwarmEvent::Request { bytes, answer, .. } => answer.send(bytes.slice(..1)),
                SwarmEvent::Gossip { author, bytes, .. } => {
                    let _ = sender.try_send((author, bytes));
                }
                _ => {}
            }
        }
    });
    heard
}

/// Ignores all gossip, so that it is not forwarded.
struct Silent;

impl Admission for Silent {
    fn gossip(&self, _: &str, _: NodeId, _: &[u8]) -> Acceptance {
        Acceptance::Ignore
    }
}

fn address_of(node: &SwarmHandle, other: &SwarmHandle) -> Option<String> {
    node.peers().into_iter().find(|p| p.node == other.node()).map(|p| p.address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_listens_nowhere_is_called_through_a_relay_within_its_limits() {
    let middle = firewalled(100, Over::Tcp, &[]);
    let (relay, _relay_events) = Swarm::start(middle, Arc::new(Silent)).await.unwrap();
    let entry = relay.listen_addresses();
    let (a, a_events) = start(deaf(101, Over::Tcp, &entry), false).await;
    let mut heard = answering(a_events);
    let circuit = circuits(&a, 1).await.remove(0);
    assert!(circuit.starts_with(&entry[0]), "{circuit} is not through {entry:?}");
    assert!(a.listen_addresses().contains(&circuit));

    let (b, _b_events) = start(deaf(102, Over::Tcp, &[]), false).await;
    b.add_peer(&circuit).await.unwrap();
    knows(&b, &[&a]).await;
    knows(&a, &[&b]).await;
    assert!(address_of(&b, &a).unwrap().contains("/p2p-circuit"));
    let answer = b.request(a.node(), Bytes::from_static(b"?abc")).await;
    assert_eq!(answer.unwrap(), "?");
    // The relay forwards no gossip, so this came by the call.
    publish(&b, b"hello").await;
    let hello = crate::soon("gossip", heard.recv()).await.unwrap();
    assert_eq!(hello, (b.node(), Bytes::from_static(b"hello")));

    // The relay hangs up once it carried its share, and a new call may be made.
    let chunk = Bytes::from(vec![b'?'; 60 * 1024]);
    let mut carried = 0;
    while b.request(a.node(), chunk.clone()).await.is_ok() {
        carried += chunk.len() as u64;
        assert!(carried <= defaults::RELAY_CIRCUIT_BYTES_MAX, "{carried} bytes were carried");
    }
    assert!(carried > defaults::RELAY_CIRCUIT_BYTES_MAX / 2, "only {carried} bytes were carried");
    let again = async {
        while b.request(a.node(), Bytes::from_static(b"?")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    crate::soon("a new call", again).await;
    assert_eq!(a.reachability(), Reachability::Hidden);
}

/// Reserves at a relay; gives the limits that it names, or nothing if it refuses.
async fn reserve(
    caller: &mut libp2p::Swarm<libp2p::relay::client::Behaviour>,
    relay: &str,
) -> Option<(Option<Duration>, Option<u64>)> {
    let relay: Multiaddr = relay.parse().unwrap();
    caller.listen_on(relay.with(Protocol::P2pCircuit)).unwrap();
    event("a reservation or none", caller, |event| match event {
        Event::Behaviour(CallerEvent::ReservationReqAccepted { limit, .. }) => {
            Some(limit.map(|l| (l.duration(), l.data_in_bytes())))
        }
        Event::ListenerClosed { .. } => Some(None),
        _ => None,
    })
    .await
}

/// Calls a peer through a relay; false if the relay refuses.
async fn call(
    caller: &mut libp2p::Swarm<libp2p::relay::client::Behaviour>,
    relay: &str,
    other: libp2p::PeerId,
) -> bool {
    let relay: Multiaddr = relay.parse().unwrap();
    caller.dial(relay.with(Protocol::P2pCircuit).with(Protocol::P2p(other))).unwrap();
    event("a call or none", caller, |event| match event {
        Event::ConnectionEstablished { peer_id, .. } if peer_id == other => Some(true),
        Event::OutgoingConnectionError { peer_id: Some(peer), .. } if peer == other => Some(false),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_keeps_and_carries_no_more_than_its_limits() {
    let mut config = config(110, Over::Tcp, &[]);
    config.relay_server = true;
    config.limits.established_max = 128;
    config.limits.established_incoming_max = 128;
    let (relay, _events) = start(config, false).await;
    let entry = relay.listen_addresses().remove(0);
    let limits = (
        Some(Duration::from_millis(defaults::RELAY_CIRCUIT_MS_MAX)),
        Some(defaults::RELAY_CIRCUIT_BYTES_MAX),
    );
    let mut reserved = Vec::new();
    for n in 0..defaults::RELAY_RESERVATIONS_MAX {
        let mut caller = raw::caller(1 + n as u8);
        assert_eq!(reserve(&mut caller, &entry).await, Some(limits), "reservation {n}");
        reserved.push(*caller.local_peer_id());
        raw::drive(caller);
    }
    let mut one_more = raw::caller(99);
    assert_eq!(reserve(&mut one_more, &entry).await, None);

    for (n, other) in reserved.iter().take(defaults::RELAY_CIRCUITS_MAX).enumerate() {
        let mut caller = raw::caller(130 + n as u8);
        assert!(call(&mut caller, &entry, *other).await, "call {n}");
        raw::drive(caller);
    }
    assert!(!call(&mut one_more, &entry, reserved[0]).await);
    let metrics = relay.metrics().await.unwrap();
    assert!(metrics.contains("ReservationReqDenied") && metrics.contains("CircuitReqDenied"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_is_announced_and_renewed() {
    let config = libp2p::relay::Config {
        reservation_duration: Duration::from_secs(4),
        ..libp2p::relay::Config::default()
    };
    let (mut relay, entry) = raw::relay(111, config).await;
    let (a, _a_events) = start(deaf(112, Over::Tcp, &[entry]), false).await;
    let (mut reservations, mut announced) = (Vec::new(), false);
    while reservations.len() < 3 || !announced {
        event("a reservation", &mut relay, |event| match event {
            Event::Behaviour(raw::RelayEvent::Relay(
                libp2p::relay::Event::ReservationReqAccepted { renewed, .. },
            )) => {
                reservations.push(renewed);
                Some(())
            }
            Event::Behaviour(raw::RelayEvent::Identify(libp2p::identify::Event::Received {
                info,
                ..
            })) => {
                let circuit = |a: &Multiaddr| a.iter().any(|part| part == Protocol::P2pCircuit);
                announced |= info.listen_addrs.iter().any(circuit);
                Some(())
            }
            _ => None,
        })
        .await;
    }
    assert_eq!(reservations, [false, true, true]);
    assert_eq!(circuits(&a, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_take_calls_the_bootstrap_first_and_a_lost_one_is_replaced() {
    let (first, _first_events) = start(firewalled(113, Over::Tcp, &[]), false).await;
    let entry = first.listen_addresses();
    let (second, _second_events) = start(firewalled(114, Over::Tcp, &[]), false).await;
    let (third, _third_events) = start(firewalled(115, Over::Tcp, &[]), false).await;
    let (a, _a_events) = start(deaf(116, Over::Tcp, &entry), false).await;
    for relay in [&second, &third] {
        a.add_peer(&relay.listen_addresses()[0]).await.unwrap();
    }
    knows(&a, &[&first, &second, &third]).await;
    let via = |circuits: &[String], relay: &SwarmHandle| {
        circuits.iter().any(|c| c.starts_with(&relay.listen_addresses()[0]))
    };
    let two = circuits(&a, defaults::RELAYS_MAX).await;
    assert!(via(&two, &first), "{two:?}");
    first.shutdown().await;
    patiently("the lost relay is replaced", || {
        let now = a.external_addresses();
        now.len() == 2 && via(&now, &second) && via(&now, &third)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_learn_which_of_their_addresses_are_good() {
    let (tester, _events) = start(config(117, Over::Tcp, &[]), false).await;
    let mut client = raw::tested(118);
    client.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let real = raw::listening(&mut client).await;
    let made_up: Multiaddr = "/ip4/127.0.0.118/tcp/9".parse().unwrap();
    client.behaviour_mut().claims.0 = vec![real.clone(), made_up.clone()];
    client.dial(tester.listen_addresses()[0].parse::<Multiaddr>().unwrap()).unwrap();
    let mut results = std::collections::BTreeMap::new();
    while !(results.contains_key(&real) && results.contains_key(&made_up)) {
        let (address, good) = event("a test", &mut client, |event| match event {
            Event::Behaviour(raw::TestedEvent::Autonat(e)) => {
                Some((e.tested_addr, e.result.is_ok()))
            }
            _ => None,
        })
        .await;
        results.insert(address, good);
    }
    assert!(results[&real] && !results[&made_up], "{results:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_and_relays_once_its_address_was_found_good() {
    let (tester, _events) = start(config(119, Over::Quic, &[]), false).await;
    let mut unsure = unsure(120, Over::Tcp, &[]);
    unsure.listen.push("/ip4/127.0.0.120/udp/0/quic-v1".to_owned());
    unsure.relay_server = true;
    let (a, _a_events) = start(unsure, false).await;
    let listening = a.listen_addresses();
    let over_tcp = listening.iter().find(|l| l.contains("/tcp/")).unwrap();
    let offers = raw::protocols_of(121, over_tcp).await;
    let serves = |offers: &[String]| offers.iter().any(|o| o.starts_with("/openledger/kad/"));
    assert!(!offers.iter().any(|o| o == HOP) && !serves(&offers), "{offers:?}");
    assert_eq!(a.reachability(), Reachability::Unknown);

    a.add_peer(&tester.listen_addresses()[0]).await.unwrap();
    patiently("an address is good", || a.reachability() == Reachability::Direct).await;
    let good = a.external_addresses();
    assert!(good.iter().all(|g| listening.contains(g)), "{good:?} of {listening:?}");
    let offers = raw::protocols_of(122, over_tcp).await;
    assert!(offers.iter().any(|o| o == HOP) && serves(&offers), "{offers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_are_given_up_when_the_node_turns_out_to_be_dialable() {
    let mut only_relay = config(123, Over::Quic, &[]);
    only_relay.relay_server = true;
    only_relay.autonat_server = false;
    let (relay, _relay_events) = start(only_relay, false).await;
    let (wrong, _wrong_events) = start(firewalled(124, Over::Quic, &[]), false).await;
    let mut entry = relay.listen_addresses();
    entry.extend(wrong.listen_addresses());
    let mut two = unsure(125, Over::Quic, &entry);
    // Where dials that reuse a listener's port come from on loopback.
    two.listen.push("/ip4/127.0.0.1/tcp/0".to_owned());
    let (a, _a_events) = start(two, false).await;
    patiently("a relay takes calls", || {
        a.external_addresses().iter().any(|e| e.starts_with(&entry[0]))
    })
    .await;
    assert_eq!(a.reachability(), Reachability::Hidden);

    // A tester that can dial sees an address that was not tested yet.
    wrong.shutdown().await;
    let (right, _right_events) = start(config(126, Over::Tcp, &[]), false).await;
    a.add_peer(&right.listen_addresses()[0]).await.unwrap();
    patiently("relays are given up", || {
        let external = a.external_addresses();
        a.reachability() == Reachability::Direct
            && !external.is_empty()
            && external.iter().all(|e| e.contains("/tcp/") && !e.contains("/p2p-circuit"))
            && !a.listen_addresses().iter().any(|l| l.contains("/p2p-circuit"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_connection_becomes_a_direct_one() {
    let (relay, _relay_events) = start(firewalled(127, Over::Quic, &[]), false).await;
    let entry = relay.listen_addresses();
    let (a, a_events) = start(unsure(128, Over::Quic, &entry), false).await;
    let mut heard = answering(a_events);
    let circuit = circuits(&a, 1).await.remove(0);
    let (b, _b_events) = start(unsure(129, Over::Quic, &entry), false).await;
    knows(&b, &[&relay]).await;
    b.add_peer(&circuit).await.unwrap();
    knows(&b, &[&a]).await;
    until("the connection is direct", || {
        let direct = |from, to| address_of(from, to).is_some_and(|at| !at.contains("/p2p-circuit"));
        direct(&a, &b) && direct(&b, &a)
    })
    .await;
    // Whose dial met whose is chance.
    let metrics = [a.metrics().await.unwrap(), b.metrics().await.unwrap()].concat();
    let upgraded = "dcutr_events_total{event=\"DirectConnectionUpgradeSucceeded\"}";
    assert!(metrics.contains(upgraded));
    // It stands without the relay.
    relay.shutdown().await;
    until("the relay is gone", || a.peers().len() == 1 && b.peers().len() == 1).await;
    assert_eq!(b.request(a.node(), Bytes::from_static(b"?abc")).await.unwrap(), "?");
    publish(&b, b"hello").await;
    let hello = crate::soon("gossip", heard.recv()).await.unwrap();
    assert_eq!(hello, (b.node(), Bytes::from_static(b"hello")));
}

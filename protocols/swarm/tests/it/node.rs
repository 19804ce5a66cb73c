//! Whole libp2p nodes on loopback.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openledger_swarm::{
    Acceptance, Admission, PublishError, RequestError, Swarm, SwarmConfig, SwarmEvent, SwarmHandle,
};
use openledger_wire::gossip::TOPIC_PROOFS;
use openledger_wire::limits::GOSSIP_MAX;
use openledger_wire::{NetworkId, NodeId, NodeKey};
use tokio::sync::mpsc;

use crate::{soon, until};

/// Judges by the first letter: `r` is rejected, `i` ignored. Node 2 is the strict one.
struct ByLetter {
    strict: bool,
}

impl Admission for ByLetter {
    fn gossip(&self, topic: &str, _: NodeId, bytes: &[u8]) -> Acceptance {
        assert_eq!(topic, TOPIC_PROOFS);
        match bytes.first() {
            Some(b'r') if self.strict => Acceptance::Reject,
            Some(b'i') if self.strict => Acceptance::Ignore,
            _ => Acceptance::Accept,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Over {
    Quic,
    Tcp,
}

pub(crate) fn config(seed: u8, over: Over, bootstrap: &[String]) -> SwarmConfig {
    let mut config = SwarmConfig::new(NodeKey::from_seed(&[seed; 32]), NetworkId([1; 32]));
    config.listen = vec![match over {
        Over::Quic => format!("/ip4/127.0.0.{seed}/udp/0/quic-v1"),
        Over::Tcp => format!("/ip4/127.0.0.{seed}/tcp/0"),
    }];
    config.bootstrap = bootstrap.to_vec();
    config.mdns = false;
    config.reachable = true;
    config.colocation = None;
    config
}

pub(crate) async fn start(
    config: SwarmConfig,
    strict: bool,
) -> (SwarmHandle, mpsc::Receiver<SwarmEvent>) {
    Swarm::start(config, Arc::new(ByLetter { strict })).await.unwrap()
}

pub(crate) async fn knows(node: &SwarmHandle, others: &[&SwarmHandle]) {
    until("peers found each other", || {
        let peers = node.peers();
        others.iter().all(|o| peers.iter().any(|p| p.node == o.node()))
    })
    .await;
}

/// Publishes as soon as a peer takes part in the topic.
pub(crate) async fn publish(node: &SwarmHandle, bytes: &'static [u8]) {
    let published = async {
        while let Err(e) = node.publish(TOPIC_PROOFS, Bytes::from_static(bytes)).await {
            assert!(matches!(e, PublishError::NoPeers), "{e}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    soon("publishing", published).await;
}

pub(crate) async fn next_gossip(events: &mut mpsc::Receiver<SwarmEvent>) -> (NodeId, Bytes) {
    loop {
        match soon("gossip", events.recv()).await.unwrap() {
            SwarmEvent::Gossip { author, bytes, .. } => return (author, bytes),
            _ => continue,
        }
    }
}

async fn three_find_each_other_through_one(over: Over, first: u8) {
    let (boot, mut boot_events) = start(config(first, over, &[]), false).await;
    let entry = boot.listen_addresses();
    assert_eq!(entry.len(), 1);
    let (a, _a_events) = start(config(first + 1, over, &entry), false).await;
    let (b, mut b_events) = start(config(first + 2, over, &entry), false).await;
    knows(&a, &[&boot, &b]).await;
    knows(&b, &[&boot, &a]).await;

    publish(&a, b"hello").await;
    let heard = (a.node(), Bytes::from_static(b"hello"));
    assert_eq!(next_gossip(&mut b_events).await, heard);
    assert_eq!(next_gossip(&mut boot_events).await, heard);
    publish(&a, b"hello").await;

    let metrics = boot.metrics().await.unwrap();
    assert!(metrics.contains("openledger_swarm_gossip_accepted_total 1"), "{metrics}");
    assert!(metrics.contains("libp2p_swarm_connections_established"));
    for node in [boot, a, b] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_meet_and_gossip_over_quic() {
    three_find_each_other_through_one(Over::Quic, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_meet_and_gossip_over_tcp() {
    three_find_each_other_through_one(Over::Tcp, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_middle_rejects_goes_no_further() {
    let (middle, mut middle_events) = start(config(30, Over::Quic, &[]), true).await;
    let entry = middle.listen_addresses();
    let (a, _a_events) = start(config(31, Over::Quic, &[]), false).await;
    let (b, mut b_events) = start(config(32, Over::Quic, &[]), false).await;
    // The ends refuse each other, so everything goes through the middle.
    a.ban(b.node(), 600_000).await.unwrap();
    b.ban(a.node(), 600_000).await.unwrap();
    a.add_peer(&entry[0]).await.unwrap();
    b.add_peer(&entry[0]).await.unwrap();
    knows(&middle, &[&a, &b]).await;

    publish(&a, b"rejected").await;
    publish(&a, b"ignored").await;
    publish(&a, b"good").await;
    assert_eq!(next_gossip(&mut middle_events).await.1, "good");
    assert_eq!(next_gossip(&mut b_events).await, (a.node(), Bytes::from_static(b"good")));
    assert!(b.peers().iter().all(|p| p.node != a.node()));
    let metrics = middle.metrics().await.unwrap();
    assert!(metrics.contains("openledger_swarm_gossip_rejected_total 1"));
    assert!(metrics.contains("openledger_swarm_gossip_ignored_total 1"));

    let long = Bytes::from(vec![b'x'; GOSSIP_MAX + 1]);
    assert!(matches!(a.publish(TOPIC_PROOFS, long).await, Err(PublishError::TooLong { .. })));
    let longest = Bytes::from(vec![b'x'; GOSSIP_MAX]);
    a.publish(TOPIC_PROOFS, longest.clone()).await.unwrap();
    assert_eq!(next_gossip(&mut b_events).await.1, longest);
    let unknown = a.publish("no such topic", Bytes::from_static(b"x")).await;
    assert!(matches!(unknown, Err(PublishError::UnknownTopic { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_answer_requests_or_say_why_not() {
    let (a, mut events) = start(config(40, Over::Tcp, &[]), false).await;
    let (b, _b_events) = start(config(41, Over::Tcp, &a.listen_addresses()), false).await;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let SwarmEvent::Request { bytes, answer, .. } = event {
                match bytes.first() {
                    Some(b'?') => answer.send(bytes.repeat(100).into()),
                    _ => drop(answer),
                }
            }
        }
    });
    knows(&b, &[&a]).await;
    let answer = soon("an answer", b.request(a.node(), Bytes::from_static(b"?abc"))).await;
    assert_eq!(answer.unwrap().len(), 400);
    let refused = soon("a refusal", b.request(a.node(), Bytes::from_static(b"!"))).await;
    assert!(matches!(refused, Err(RequestError::Failed { .. })), "{refused:?}");
    let long = b.request(a.node(), Bytes::from(vec![0; 65 * 1024])).await;
    assert!(matches!(long, Err(RequestError::TooLong { .. })));
    let stranger = NodeKey::from_seed(&[99; 32]).public();
    let unknown = soon("a refusal", b.request(stranger, Bytes::from_static(b"?"))).await;
    assert!(matches!(unknown, Err(RequestError::Failed { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_network_is_sent_away() {
    let (a, mut a_events) = start(config(50, Over::Quic, &[]), false).await;
    let mut other = config(51, Over::Quic, &a.listen_addresses());
    other.network = NetworkId([2; 32]);
    let (b, mut b_events) = start(other, false).await;
    // Whoever hears the other first sends it away; the other one then may not learn why.
    let event = soon("one sends the other away", async {
        tokio::select! { event = a_events.recv() => event, event = b_events.recv() => event }
    });
    match event.await.unwrap() {
        SwarmEvent::OtherNetwork { peer, theirs } => {
            let network = if peer == a.node() { NetworkId([1; 32]) } else { NetworkId([2; 32]) };
            assert!(theirs.contains(&network.to_string()), "{theirs}");
        }
        other => panic!("networks mixed: {other:?}"),
    }
    assert!(a.peers().is_empty() && b.peers().is_empty());
}

/// The namespace's address; multicast does not work on loopback.
const HOUSE: &str = "10.99.0.1";

/// Runs itself again in a network namespace of its own with one pair of interfaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_house_find_each_other_without_any_bootstrap() {
    const INSIDE: &str = "OPENLEDGER_TEST_INSIDE_NAMESPACE";
    const NAME: &str = "node::nodes_of_one_house_find_each_other_without_any_bootstrap";
    if std::env::var_os(INSIDE).is_some() {
        let at_home = |seed| {
            let mut config = config(seed, Over::Quic, &[]);
            config.listen = vec![format!("/ip4/{HOUSE}/udp/0/quic-v1")];
            config.mdns = true;
            config
        };
        let (a, _a_events) = start(at_home(80), false).await;
        let (b, _b_events) = start(at_home(81), false).await;
        return knows(&a, &[&b]).await;
    }
    let script = format!(
        "ip link add va type veth peer name vb && ip addr add {HOUSE}/24 dev va && \
         ip link set lo up && \
         ip link set va up && ip link set vb up && exec \"$0\" --exact {NAME}"
    );
    let in_namespace = |script: &str| {
        let mut command = tokio::process::Command::new("unshare");
        command.args(["-rn", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
        command.env(INSIDE, "1").kill_on_drop(true);
        command
    };
    // Some build machines allow no namespaces; there is nothing to be tested there.
    let possible = in_namespace("ip link show").output().await;
    if !possible.is_ok_and(|o| o.status.success()) {
        return eprintln!("no network namespace to be had: mDNS was not tested");
    }
    let output = soon("mDNS", in_namespace(&script).output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A free address that nobody listens on, with somebody's name.
fn dead_bootstrap() -> Vec<String> {
    vec![
        "/ip4/127.0.0.99/tcp/9/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".into(),
        "not an address".into(),
    ]
}

fn remembering(seed: u8, dir: &Path, port: u16, bootstrap: &[String]) -> SwarmConfig {
    let mut config = config(seed, Over::Tcp, bootstrap);
    config.listen = vec![format!("/ip4/127.0.0.{seed}/tcp/{port}")];
    config.data_dir = Some(dir.join(seed.to_string()));
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remembered_peers_replace_a_dead_bootstrap() {
    let dir = tempfile::tempdir().unwrap();
    let (a, _a_events) = start(remembering(60, dir.path(), 0, &[]), false).await;
    let entry = a.listen_addresses();
    let (b, _b_events) = start(remembering(61, dir.path(), 0, &entry), false).await;
    knows(&b, &[&a]).await;
    b.shutdown().await;
    let text = std::fs::read_to_string(dir.path().join("61/peers.txt")).unwrap();
    assert!(text.contains(&a.node().to_string()), "{text}");

    let (b, _b_events) = start(remembering(61, dir.path(), 0, &dead_bootstrap()), false).await;
    knows(&b, &[&a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_and_bad_addresses_are_clear_errors() {
    let (a, _events) = start(config(70, Over::Quic, &[]), false).await;
    let taken = a.listen_addresses()[0].split("/p2p/").next().unwrap().to_owned();
    let mut second = config(71, Over::Quic, &[]);
    second.listen = vec![taken.clone()];
    let error = Swarm::start(second, Arc::new(ByLetter { strict: false })).await.err().unwrap();
    assert!(error.to_string().contains(&taken), "{error}");
    assert!(a.add_peer("/ip4/127.0.0.1/tcp/1").await.is_err());
}

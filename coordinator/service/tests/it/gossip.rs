//! A node whose link does not carry its proofs: they come by gossip, small ones whole, the others
//! as blobs.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openledger_ledger::EmbeddedLedger;
use openledger_swarm::{
    Acceptance, Admission, Blobs, BlobsConfig, IrohBlobs, Swarm, SwarmConfig, SwarmHandle,
};
use openledger_wire::gossip::{GossipedProof, ProofAt, ProofHeader, TOPIC_PROOFS};
use openledger_wire::{Envelope, List, NetworkId, NodeId, Text, encode};

use crate::network::{Network, get};
use crate::node::Node;

/// Forwards everything: the test's peers are honest.
struct Open;

impl Admission for Open {
    fn gossip(&self, _: &str, _: NodeId, _: &[u8]) -> Acceptance {
        Acceptance::Accept
    }
}

/// Gossips a node's proofs, every second one as a blob.
async fn gossip_proofs(node: Node, network: NetworkId, swarm: SwarmHandle, blobs: IrohBlobs) {
    let mut sent = 0;
    loop {
        for envelope in node.unsent_by_link(sent) {
            let message = if sent % 2 == 0 {
                GossipedProof::Whole(envelope)
            } else {
                at_node(&node, network, &blobs, &envelope).await
            };
            let bytes = Bytes::from(encode(&message).unwrap());
            while swarm.publish(TOPIC_PROOFS, bytes.clone()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            sent += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn at_node(
    node: &Node,
    network: NetworkId,
    blobs: &IrohBlobs,
    envelope: &Envelope,
) -> GossipedProof {
    let bytes = envelope.to_bytes().unwrap();
    let len = u32::try_from(bytes.len()).unwrap();
    let id = blobs.put(Bytes::from(bytes)).await.unwrap();
    let texts = blobs.addresses().iter().map(|a| Text::clipped(&a.to_string())).collect::<Vec<_>>();
    let at = ProofAt { envelope: id, bytes: len, blob_addresses: List::new(texts).unwrap() };
    let signed = Envelope::seal(&at, network, &node.key).unwrap();
    GossipedProof::AtNode(ProofHeader { signed })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_that_come_by_gossip_count_like_any_others() {
    let founding: Vec<_> = (1..=3).map(|n| Node::keys(n).0.public()).collect();
    let network = Network::new(&founding).with_swarm();
    let ledger = Arc::new(EmbeddedLedger::in_memory().unwrap());
    let coordinator = network.start(ledger, "127.0.0.1:0".parse().unwrap()).await;
    let url = coordinator.url();
    let mut nodes: Vec<Node> = (1..=3).map(|n| Node::new(n, &network.profile)).collect();
    nodes[0].proofs_by_link = false;
    let id = network.profile.network();
    let ip = IpAddr::V4(Ipv4Addr::new(127, 1, 0, 1));
    let key = nodes[0].key.clone();
    let mut config = SwarmConfig::new(key.clone(), id).listen_on(ip, 0);
    config.bootstrap = coordinator.gossip_addresses();
    config.mdns = false;
    let (swarm, mut events) = Swarm::start(config, Arc::new(Open)).await.unwrap();
    let reading = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let dir = tempfile::tempdir().unwrap();
    let blobs = IrohBlobs::start(BlobsConfig::new(key, ip, dir.path())).await.unwrap();
    let gossiping = gossip_proofs(nodes[0].clone(), id, swarm.clone(), blobs.clone());
    let gossiping = tokio::spawn(gossiping);
    let links: Vec<_> = nodes.iter().map(|node| node.connect(coordinator.link_address())).collect();
    network.fund(&url, 4).await;

    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let stats = get(&url, "/api/v1/stats").await;
        let by_gossip = stats["proofs_first_seen_by_gossip"].as_u64().unwrap();
        if by_gossip >= 2 && nodes[0].accepted() >= 2 && stats["urls_refined"] == 4 {
            assert_eq!(stats["rejected_founding"], 0, "{stats}");
            break;
        }
        assert!(Instant::now() < deadline, "not done in time: {stats}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    links.iter().for_each(tokio::task::JoinHandle::abort);
    gossiping.abort();
    swarm.shutdown().await;
    reading.abort();
    blobs.shutdown().await;
    let late = coordinator.shutdown().await.unwrap();
    assert_eq!(late, [""; 0], "all parts end when they are told to");
}

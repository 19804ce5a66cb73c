//! The coordinator link between a real client and a real server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openledger_swarm::link::refused;
use openledger_swarm::{
    LinkClient, LinkClientConfig, LinkError, LinkEvent, LinkLimits, LinkServer, LinkServerConfig,
    LinkService, Peer,
};
use openledger_wire::eip712::SignedHead;
use openledger_wire::gossip::{Announcement, GossipedHead};
use openledger_wire::link::{
    AccountStatus, Declined, LINK_VERSION, LinkPush, LinkRequest, LinkResponse,
};
use openledger_wire::{
    AccountId, Blob, Envelope, Epoch, EvmSignature, Height, List, LogHead, NetworkId, NodeId,
    NodeKey, Open, Points, Round, TaskId, Text, UnixMs,
};
use tokio::sync::mpsc;

use crate::soon;

const NETWORK: NetworkId = NetworkId([1; 32]);

/// Says who asks: the account's id is the node's.
struct Echo;

#[async_trait]
impl LinkService for Echo {
    async fn handle(&self, peer: Peer, request: LinkRequest) -> LinkResponse {
        match request {
            LinkRequest::Hello { .. } => LinkResponse::Welcome {
                now: UnixMs(7),
                round: Round(1),
                epoch: Epoch(2),
                head: GossipedHead {
                    head: SignedHead { network: NETWORK, height: Height(3), head: LogHead::ZERO },
                    signature: EvmSignature::ZERO,
                },
            },
            LinkRequest::Account => LinkResponse::Account(AccountStatus {
                account: AccountId(peer.node.0),
                payout: None,
                pending: Points::default(),
                vested: Points::default(),
                cumulative: Open::default(),
                epoch: Epoch(0),
                claim: None,
            }),
            // A large answer: three quarters of the link's limit.
            LinkRequest::Log { .. } => {
                let entry = Blob::new(vec![7; 3 * 1024 * 1024]).unwrap();
                LinkResponse::Log(List::new(vec![entry]).unwrap())
            }
            LinkRequest::Decline(items) => {
                let counted = format!("{} items", items.len());
                refused("not-now", &counted, 0)
            }
            _ => LinkResponse::Done,
        }
    }
}

async fn server(seed: u8, address: &str) -> LinkServer {
    let config = LinkServerConfig {
        key: NodeKey::from_seed(&[seed; 32]),
        address: address.parse().unwrap(),
        limits: LinkLimits::default(),
    };
    // A server that has just stopped gives its port back a moment later.
    let bound = async {
        loop {
            match LinkServer::bind(config.clone(), Arc::new(Echo)).await {
                Ok(server) => break server,
                Err(LinkError::Bind { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(e) => panic!("{e}"),
            }
        }
    };
    soon("a free port", bound).await
}

fn client(server: &LinkServer, server_key: NodeId) -> (LinkClient, mpsc::Receiver<LinkEvent>) {
    let key = NodeKey::from_seed(&[9; 32]);
    let nothing = Announcement {
        at: UnixMs(0),
        blob_addresses: List::default(),
        kinds: List::default(),
        blobs: List::default(),
        offers: List::default(),
    };
    let registration = Envelope::seal(&nothing, NETWORK, &key).unwrap();
    LinkClient::start(LinkClientConfig {
        key,
        server_key,
        addresses: vec![server.local_address()],
        bind: Some("127.0.0.9".parse().unwrap()),
        hello: Arc::new(move || LinkRequest::Hello {
            version: LINK_VERSION,
            registration: registration.clone(),
        }),
    })
    .unwrap()
}

fn public(seed: u8) -> NodeId {
    NodeKey::from_seed(&[seed; 32]).public()
}

async fn next(events: &mut mpsc::Receiver<LinkEvent>) -> LinkEvent {
    soon("a link event", events.recv()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_and_pushes_arrive_in_order() {
    let server = server(1, "127.0.0.1:0").await;
    let (client, mut events) = client(&server, public(1));
    let welcome = next(&mut events).await;
    assert!(matches!(welcome, LinkEvent::Connected(LinkResponse::Welcome { now: UnixMs(7), .. })));

    match client.request(&LinkRequest::Account).await.unwrap() {
        LinkResponse::Account(status) => assert_eq!(status.account, AccountId(public(9).0)),
        other => panic!("{other:?}"),
    }
    let log = LinkRequest::Log { from: Height(0), entries_max: 1 };
    match client.request(&log).await.unwrap() {
        LinkResponse::Log(entries) => assert_eq!(entries[0].len(), 3 * 1024 * 1024),
        other => panic!("{other:?}"),
    }
    let declined = |n: u8| Declined {
        task: TaskId([n; 32]),
        wave: 0,
        reason: Text::new("busy with other things").unwrap(),
    };
    let many = LinkRequest::Decline(List::new((0..64).map(declined).collect::<Vec<_>>()).unwrap());
    match client.request(&many).await.unwrap() {
        LinkResponse::Refused { message, .. } => assert_eq!(&*message, "64 items"),
        other => panic!("{other:?}"),
    }

    assert_eq!(server.connected(), [public(9)]);
    for n in 0..100 {
        assert!(server.push(public(9), &LinkPush::EpochClosed(Epoch(n))));
    }
    assert!(!server.push(public(8), &LinkPush::EpochClosed(Epoch(0))), "not connected");
    for n in 0..100 {
        match next(&mut events).await {
            LinkEvent::Push(LinkPush::EpochClosed(epoch)) => assert_eq!(epoch, Epoch(n)),
            other => panic!("{other:?}"),
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_servers_key_is_named_and_refused() {
    let server = server(1, "127.0.0.1:0").await;
    let (client, mut events) = client(&server, public(2));
    match next(&mut events).await {
        LinkEvent::Disconnected(LinkError::WrongServerKey { expected, found, .. }) => {
            assert_eq!((expected, found), (public(2), public(1)));
        }
        other => panic!("{other:?}"),
    }
    assert!(!client.is_connected());
    let refused = client.request(&LinkRequest::Account).await;
    assert!(matches!(refused, Err(LinkError::NotConnected)));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_comes_back_when_the_server_does() {
    let first = server(1, "127.0.0.1:0").await;
    let address = first.local_address().to_string();
    let (client, mut events) = client(&first, public(1));
    assert!(matches!(next(&mut events).await, LinkEvent::Connected(_)));
    first.shutdown().await;
    match next(&mut events).await {
        LinkEvent::Disconnected(LinkError::Closed { reason }) => {
            assert!(reason.contains("coordinator stops"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let second = server(1, &address).await;
    loop {
        match next(&mut events).await {
            LinkEvent::Connected(_) => break,
            LinkEvent::Disconnected(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(client.request(&LinkRequest::Account).await, Ok(LinkResponse::Account(_))));
    second.shutdown().await;
}

//! A hostile client against a real server, over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openledger_wire::eip712::SignedHead;
use openledger_wire::gossip::{Announcement, GossipedHead};
use openledger_wire::limits::LINK_MAX;
use openledger_wire::link::{LINK_VERSION, LinkRequest, LinkResponse};
use openledger_wire::{
    Envelope, Epoch, EvmSignature, Height, LogHead, NetworkId, NodeKey, Round, UnixMs,
};

use super::server::{LinkServer, LinkServerConfig, LinkService, Peer};
use super::{LinkLimits, Rate, frame, tls};

const NETWORK: NetworkId = NetworkId([1; 32]);

struct Greets;

#[async_trait]
impl LinkService for Greets {
    async fn handle(&self, _: Peer, request: LinkRequest) -> LinkResponse {
        match request {
            LinkRequest::Hello { .. } => LinkResponse::Welcome {
                now: UnixMs(1),
                round: Round(0),
                epoch: Epoch(0),
                head: GossipedHead {
                    head: SignedHead { network: NETWORK, height: Height(0), head: LogHead::ZERO },
                    signature: EvmSignature::ZERO,
                },
            },
            _ => LinkResponse::Done,
        }
    }
}

fn hello(key: &NodeKey) -> LinkRequest {
    let nothing = Announcement {
        at: UnixMs(0),
        blob_addresses: Default::default(),
        kinds: Default::default(),
        blobs: Default::default(),
        offers: Default::default(),
    };
    let registration = Envelope::seal(&nothing, NETWORK, key).unwrap();
    LinkRequest::Hello { version: LINK_VERSION, registration }
}

async fn server(limits: LinkLimits) -> (LinkServer, NodeKey) {
    let key = NodeKey::from_seed(&[1; 32]);
    let address = "127.0.0.1:0".parse().unwrap();
    let config = LinkServerConfig { key: key.clone(), address, limits };
    (LinkServer::bind(config, Arc::new(Greets)).await.unwrap(), key)
}

async fn connect(key: &NodeKey, server: &LinkServer, of: &NodeKey) -> quinn::Connection {
    let crypto = tls::client(key, of.public(), Arc::default()).unwrap();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let endpoint = quinn::Endpoint::client(local).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    endpoint.connect_with(config, server.local_address(), "any").unwrap().await.unwrap()
}

/// Sends raw bytes on a stream and reads the answer.
async fn say(connection: &quinn::Connection, bytes: &[u8]) -> LinkResponse {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    // The server may refuse before it has read all.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    let answer = frame::read_frame(&mut recv);
    tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap().unwrap()
}

fn code(response: LinkResponse) -> String {
    match response {
        LinkResponse::Refused { code, .. } => code.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_protocol_is_refused_by_name_and_the_connection_lives_on() {
    let (server, of) = server(LinkLimits::default()).await;
    let me = NodeKey::from_seed(&[2; 32]);
    let connection = connect(&me, &server, &of).await;

    let account = frame::frame(&LinkRequest::Account).unwrap();
    assert_eq!(code(say(&connection, &account).await), "hello-first");
    let announced = u32::try_from(LINK_MAX + 1).unwrap().to_be_bytes();
    assert_eq!(code(say(&connection, &announced).await), "too-long");
    assert_eq!(code(say(&connection, &[0, 0, 0, 2, 0xff, 0xff]).await), "malformed");
    assert!(server.connected().is_empty());

    let greeting = frame::frame(&hello(&me)).unwrap();
    assert!(matches!(say(&connection, &greeting).await, LinkResponse::Welcome { .. }));
    assert_eq!(say(&connection, &account).await, LinkResponse::Done);
    assert_eq!(server.connected(), [me.public()]);
    assert_eq!(server.stats().malformed, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_hold_across_connections_and_the_newest_connection_wins() {
    let requests = Rate { per_s: 1, burst: 3 };
    let (server, of) = server(LinkLimits { requests, ..LinkLimits::default() }).await;
    let me = NodeKey::from_seed(&[2; 32]);
    let first = connect(&me, &server, &of).await;
    let greeting = frame::frame(&hello(&me)).unwrap();
    assert!(matches!(say(&first, &greeting).await, LinkResponse::Welcome { .. }));

    let second = connect(&me, &server, &of).await;
    assert!(matches!(say(&second, &greeting).await, LinkResponse::Welcome { .. }));
    let replaced = tokio::time::timeout(Duration::from_secs(5), first.closed()).await.unwrap();
    assert!(replaced.to_string().contains("same node"), "{replaced}");
    say(&second, &greeting).await;
    match say(&second, &greeting).await {
        LinkResponse::Refused { code, retry_after_ms, .. } => {
            assert_eq!(&*code, "busy");
            assert!((1..=1_000).contains(&retry_after_ms));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.connected(), [me.public()]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_does_not_get_all_connections() {
    let limits = LinkLimits { connections_per_ip_max: 1, ..LinkLimits::default() };
    let (server, of) = server(limits).await;
    let _first = connect(&NodeKey::from_seed(&[2; 32]), &server, &of).await;
    let crypto = tls::client(&NodeKey::from_seed(&[3; 32]), of.public(), Arc::default()).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let second = endpoint.connect_with(config, server.local_address(), "any").unwrap().await;
    assert!(second.is_err());
    assert_eq!(server.stats().turned_away, 1);
    server.shutdown().await;
}

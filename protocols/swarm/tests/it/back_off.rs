//! Back-offs of gossipsub meshes, with a peer that speaks the protocol by hand.
//!
//! A peer that comes back into a mesh before its time is punished by our scores; our own node does
//! not; and a back-off of absurd length does not bring it down, as it once did the library
//! (CVE-2026-33040).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Codec, ProtocolSupport};
use libp2p::swarm::SwarmEvent as Event;
use libp2p::{Multiaddr, StreamProtocol, Swarm};
use openledger_swarm::SwarmHandle;
use openledger_wire::NetworkId;
use openledger_wire::gossip::TOPIC_PROOFS;
use tokio::sync::{Mutex, mpsc};

use crate::node::{Over, config, knows, publish, start};
use crate::{raw, soon};

/// Gossipsub 1.1: meshes with back-offs, and nothing newer.
const MESHSUB: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");

/// The frames of both directions, each a stream that stays open.
#[derive(Clone)]
struct Frames {
    out: Arc<Mutex<mpsc::UnboundedReceiver<Vec<u8>>>>,
    heard: mpsc::UnboundedSender<Vec<u8>>,
}

impl Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        loop {
            let mut frame = vec![0; read_varint(io).await?];
            io.read_exact(&mut frame).await?;
            let _ = self.heard.send(frame);
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        io.read(&mut [0]).await.map(drop)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        while let Some(frame) = self.out.lock().await.recv().await {
            io.write_all(&varint(frame.len() as u64)).await?;
            io.write_all(&frame).await?;
            io.flush().await?;
        }
        Ok(())
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

async fn read_varint<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<usize> {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        number |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            break;
        }
    }
    Ok(number)
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A protobuf field that is a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A protobuf field of bytes.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// The contents of the byte fields of one number in a protobuf message.
fn fields(message: &[u8], wanted: u64) -> Vec<Vec<u8>> {
    fn take(rest: &mut &[u8]) -> u64 {
        let len = rest.iter().position(|b| *b < 0x80).unwrap() + 1;
        let (head, tail) = rest.split_at(len);
        *rest = tail;
        head.iter().rev().fold(0, |n, b| n << 7 | u64::from(b & 0x7f))
    }
    let (mut rest, mut found) = (message, Vec::new());
    while !rest.is_empty() {
        let key = take(&mut rest);
        let value = take(&mut rest);
        if key & 7 == 2 {
            let (bytes, tail) = rest.split_at(value as usize);
            rest = tail;
            if key >> 3 == wanted {
                found.push(bytes.to_vec());
            }
        }
    }
    found
}

/// A peer that says what it is told, over one connection to a node.
struct Hand {
    topic: String,
    out: mpsc::UnboundedSender<Vec<u8>>,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
    /// The contents of the messages heard so far.
    contents: Vec<Vec<u8>>,
}

impl Hand {
    async fn new(seed: u8, node: &SwarmHandle) -> Self {
        let (out, saying) = mpsc::unbounded_channel();
        let (hearing, heard) = mpsc::unbounded_channel();
        let frames = Frames { out: Arc::new(Mutex::new(saying)), heard: hearing };
        let config =
            request_response::Config::default().with_request_timeout(Duration::from_secs(600));
        let protocols = [(MESHSUB, ProtocolSupport::Full)];
        let mut swarm: Swarm<request_response::Behaviour<Frames>> = raw::build(seed, |_, _| {
            request_response::Behaviour::with_codec(frames, protocols, config)
        });
        swarm.dial(node.listen_addresses()[0].parse::<Multiaddr>().unwrap()).unwrap();
        let peer = raw::event("a connection", &mut swarm, |event| match event {
            Event::ConnectionEstablished { peer_id, .. } => Some(peer_id),
            _ => None,
        })
        .await;
        swarm.behaviour_mut().send_request(&peer, ());
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let topic = format!("{TOPIC_PROOFS}/{}", NetworkId([1; 32]));
        let hand = Self { topic, out, heard, contents: Vec::new() };
        hand.say(&bytes(1, &[number(1, 1), bytes(2, hand.topic.as_bytes())].concat()));
        hand
    }

    fn say(&self, rpc: &[u8]) {
        self.out.send(rpc.to_vec()).unwrap();
    }

    fn graft(&self) {
        self.say(&bytes(3, &bytes(3, &bytes(1, self.topic.as_bytes()))));
    }

    fn prune(&self, back_off_s: u64) {
        let prune = [bytes(1, self.topic.as_bytes()), number(3, back_off_s)].concat();
        self.say(&bytes(3, &bytes(4, &prune)));
    }

    /// Waits for a frame with a control message of a kind about our topic.
    async fn control(&mut self, what: &str, kind: u64) {
        loop {
            let frame = soon(what, self.heard.recv()).await.unwrap();
            self.note(&frame);
            let controls = fields(&frame, 3).into_iter().flat_map(|c| fields(&c, kind));
            if controls.into_iter().any(|c| fields(&c, 1) == [self.topic.as_bytes()]) {
                return;
            }
        }
    }

    async fn grafted(&mut self) {
        self.control("a graft", 3).await;
    }

    async fn pruned(&mut self) {
        self.control("a prune", 4).await;
    }

    fn note(&mut self, frame: &[u8]) {
        self.contents.extend(fields(frame, 2).iter().flat_map(|message| fields(message, 2)));
    }

    /// Whether a message of that content has come.
    fn has_heard(&mut self, content: &[u8]) -> bool {
        while let Ok(frame) = self.heard.try_recv() {
            self.note(&frame);
        }
        self.contents.iter().any(|c| c == content)
    }
}

async fn penalties(node: &SwarmHandle) -> u64 {
    let metrics = node.metrics().await.unwrap();
    let line = metrics.lines().find(|l| l.contains("penalt") && l.contains("GraftBackoff"));
    line.map_or(0, |l| l.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_too_early_again_and_again_is_not_listened_to() {
    let (node, _events) = start(config(90, Over::Tcp, &[]), false).await;
    let mut hand = Hand::new(91, &node).await;
    hand.grafted().await;
    hand.prune(60);
    // Once is a mistake: it is refused and nothing else.
    hand.graft();
    hand.pruned().await;
    assert_eq!(penalties(&node).await, 1);
    publish(&node, b"after one").await;
    crate::until("it still hears us", || hand.has_heard(b"after one")).await;

    // More is an attack on the mesh: our own messages do not go there any more.
    for _ in 0..2 {
        hand.graft();
        hand.pruned().await;
    }
    assert_eq!(penalties(&node).await, 3);
    let (other, mut other_events) =
        start(config(92, Over::Tcp, &node.listen_addresses()), false).await;
    knows(&node, &[&other]).await;
    publish(&node, b"after three").await;
    assert_eq!(crate::node::next_gossip(&mut other_events).await.1, "after three");
    hand.graft();
    hand.pruned().await;
    assert!(!hand.has_heard(b"after three"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_node_comes_back_only_after_the_time_it_was_told() {
    const TOLD_S: u64 = 4;
    let (node, _events) = start(config(93, Over::Tcp, &[]), false).await;
    let mut hand = Hand::new(94, &node).await;
    hand.grafted().await;
    let told = Instant::now();
    hand.prune(TOLD_S);
    hand.grafted().await;
    let waited = told.elapsed();
    assert!(waited >= Duration::from_secs(TOLD_S), "it was back after {waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absurd_back_off_is_survived() {
    let (node, _events) = start(config(95, Over::Tcp, &[]), false).await;
    let mut hand = Hand::new(96, &node).await;
    hand.grafted().await;
    hand.prune(u64::MAX);
    hand.graft();
    hand.pruned().await;
    let (other, mut other_events) =
        start(config(97, Over::Tcp, &node.listen_addresses()), false).await;
    knows(&node, &[&other]).await;
    publish(&node, b"alive").await;
    assert_eq!(crate::node::next_gossip(&mut other_events).await.1, "alive");
}

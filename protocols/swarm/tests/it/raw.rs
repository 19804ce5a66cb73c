//! Peers put together by hand, for what a whole node never does or never shows.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::identity::Keypair;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, SwarmEvent, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, autonat, identify, noise, relay, tcp, yamux};
use openledger_wire::NetworkId;

use crate::soon;

/// The network of [`crate::node::config`].
fn protocol_version() -> String {
    format!("openledger/1/{}", NetworkId([1; 32]))
}

fn identify(key: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(protocol_version(), key.public()))
}

/// A peer over TCP and relays.
pub(crate) fn build<B: NetworkBehaviour>(
    seed: u8,
    behaviour: impl FnOnce(&Keypair, relay::client::Behaviour) -> B,
) -> Swarm<B> {
    let key = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key, relay| behaviour(key, relay))
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(120)))
        .build()
}

/// A peer that can call through relays and be called through them.
pub(crate) fn caller(seed: u8) -> Swarm<relay::client::Behaviour> {
    build(seed, |_, relay| relay)
}

/// Lets a swarm go on in the background.
pub(crate) fn drive<B: NetworkBehaviour<ToSwarm: Send> + Send>(mut swarm: Swarm<B>) {
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}

/// The next event of a swarm that `wanted` makes something of.
pub(crate) async fn event<B: NetworkBehaviour, T>(
    what: &str,
    swarm: &mut Swarm<B>,
    mut wanted: impl FnMut(SwarmEvent<B::ToSwarm>) -> Option<T>,
) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(swarm.select_next_some().await) {
                return found;
            }
        }
    };
    soon(what, found).await
}

/// The protocols that a node says it speaks.
pub(crate) async fn protocols_of(seed: u8, address: &str) -> Vec<String> {
    let mut swarm = build(seed, |key, _| identify(key));
    swarm.dial(address.parse::<Multiaddr>().unwrap()).unwrap();
    event("identify", &mut swarm, |event| match event {
        SwarmEvent::Behaviour(identify::Event::Received { info, .. }) => {
            Some(info.protocols.iter().map(ToString::to_string).collect())
        }
        _ => None,
    })
    .await
}

/// Says that some addresses may be its own, like a peer that was told so.
pub(crate) struct Claims(pub(crate) Vec<Multiaddr>);

impl NetworkBehaviour for Claims {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.0.pop() {
            Some(address) => Poll::Ready(ToSwarm::NewExternalAddrCandidate(address)),
            None => Poll::Pending,
        }
    }
}

/// A peer that has addresses of its own tested.
#[derive(NetworkBehaviour)]
pub(crate) struct Tested {
    identify: identify::Behaviour,
    pub(crate) autonat: autonat::v2::client::Behaviour,
    pub(crate) claims: Claims,
}

/// See [`Tested`].
pub(crate) fn tested(seed: u8) -> Swarm<Tested> {
    build(seed, |key, _| Tested {
        identify: identify(key),
        autonat: autonat::v2::client::Behaviour::default(),
        claims: Claims(Vec::new()),
    })
}

/// A relay that finds that nobody can be dialled.
#[derive(NetworkBehaviour)]
pub(crate) struct Relay {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    autonat: autonat::v2::server::Behaviour,
    pub(crate) relay: relay::Behaviour,
}

/// See [`Relay`]; on some free port of 127.0.0.1.
pub(crate) async fn relay(seed: u8, config: relay::Config) -> (Swarm<Relay>, String) {
    let mut swarm = build(seed, |key, _| Relay {
        limits: connection_limits::Behaviour::new(
            ConnectionLimits::default().with_max_pending_outgoing(Some(0)),
        ),
        identify: identify(key),
        autonat: autonat::v2::server::Behaviour::default(),
        relay: relay::Behaviour::new(key.public().to_peer_id(), config),
    });
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = listening(&mut swarm).await;
    swarm.add_external_address(address.clone());
    let address = address.with_p2p(*swarm.local_peer_id()).unwrap();
    (swarm, address.to_string())
}

/// Where a swarm listens.
pub(crate) async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Multiaddr {
    event("listening", swarm, |event| match event {
        SwarmEvent::NewListenAddr { address, .. } => Some(address),
        _ => None,
    })
    .await
}

//! Transports: QUIC, TCP with noise and yamux, names, and calls through relays.

use std::time::Duration;

use futures::future::Either;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, dns, noise, quic, relay, tcp, yamux};

use crate::defaults::node as defaults;

type Connected = (PeerId, StreamMuxerBox);

fn upgrade_time() -> Duration {
    Duration::from_millis(defaults::UPGRADE_MS_MAX)
}

fn direct(key: &Keypair) -> Result<Boxed<Connected>, String> {
    let noise = noise::Config::new(key).map_err(|e| e.to_string())?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        // No setter is called here on purpose: the deprecated ones fall back to an old yamux.
        .multiplex(yamux::Config::default())
        .timeout(upgrade_time())
        .boxed();
    let quic = quic::tokio::Transport::new(quic::Config::new(key))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(quic.or_transport(tcp).map(|either, _| either_into(either)).boxed())
}

fn either_into(either: Either<Connected, Connected>) -> Connected {
    match either {
        Either::Left(connected) | Either::Right(connected) => connected,
    }
}

/// All transports, and the behaviour that belongs to the relayed ones.
pub(super) fn build(key: &Keypair) -> Result<(Boxed<Connected>, relay::client::Behaviour), String> {
    // A machine without a readable resolver configuration still dials by address.
    let named = match dns::tokio::Transport::system(direct(key)?) {
        Ok(named) => named,
        Err(e) => {
            tracing::warn!("failed to read the system's name servers: {e}; names are not resolved");
            let nobody = dns::ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            dns::tokio::Transport::custom(direct(key)?, nobody, dns::ResolverOpts::default())
        }
    };
    let (relayed, behaviour) = relay::client::new(key.public().to_peer_id());
    let noise = noise::Config::new(key).map_err(|e| e.to_string())?;
    let relayed = relayed
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .timeout(upgrade_time())
        .boxed();
    let all = relayed.or_transport(named.boxed()).map(|either, _| either_into(either)).boxed();
    Ok((all, behaviour))
}

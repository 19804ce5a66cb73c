//! A node's end of the link: keeps one connection to the coordinator, whatever happens.
//!
//! It reconnects by itself with jittered back-off and says `Hello` first. What is not answered is
//! not repeated here: the outbox does that, since everything is idempotent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openledger_wire::link::{LinkPush, LinkRequest, LinkResponse};
use openledger_wire::{NodeId, NodeKey};
use quinn::VarInt;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::LinkError;
use super::server::{CLOSE_REPLACED, idle};
use super::{frame, tls};
use crate::defaults::link as defaults;

/// A connection that lived this long was a good one: the next wait is short again.
const GOOD_MS: u64 = 30_000;

/// Name in the handshake; raw keys have none, QUIC wants one.
const SERVER_NAME: &str = "coordinator.openledger";

/// What a client needs.
#[derive(Clone)]
pub struct LinkClientConfig {
    /// The node's key.
    pub key: NodeKey,
    /// The coordinator's key, from the network profile.
    pub server_key: NodeId,
    /// Where the coordinator listens, tried in turn.
    pub addresses: Vec<SocketAddr>,
    /// Local address to send from, where the machine has several.
    pub bind: Option<IpAddr>,
    /// Makes the first request of each connection.
    pub hello: Arc<dyn Fn() -> LinkRequest + Send + Sync>,
}

impl std::fmt::Debug for LinkClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkClientConfig")
            .field("key", &self.key)
            .field("server_key", &self.server_key)
            .field("addresses", &self.addresses)
            .field("bind", &self.bind)
            .finish_non_exhaustive()
    }
}

/// What happens on the link.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// Connected; the answer to `Hello` is a `Welcome`. Ask `Sync` now.
    Connected(LinkResponse),
    /// The coordinator says something unasked.
    Push(LinkPush),
    /// Not connected any more, or an attempt failed; the next one follows by itself.
    Disconnected(LinkError),
}

/// Asks the coordinator; clones share the connection. The link ends when all are dropped.
#[derive(Clone)]
pub struct LinkClient {
    current: watch::Receiver<Option<quinn::Connection>>,
    stop: CancellationToken,
    _guard: Arc<DropGuard>,
}

impl LinkClient {
    /// Starts to connect. Must be called inside a tokio runtime. Events must be read: a full
    /// channel holds further pushes back.
    pub fn start(config: LinkClientConfig) -> Result<(Self, mpsc::Receiver<LinkEvent>), LinkError> {
        if config.addresses.is_empty() {
            return Err(LinkError::NoAddress);
        }
        let shown = Arc::new(tls::Shown::default());
        let crypto = tls::client(&config.key, config.server_key, Arc::clone(&shown))?;
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(4))
            .datagram_receive_buffer_size(None)
            .keep_alive_interval(Some(Duration::from_millis(defaults::KEEP_ALIVE_MS)))
            .max_idle_timeout(idle(defaults::IDLE_MS_MAX));
        let mut quic = quinn::ClientConfig::new(Arc::new(crypto));
        quic.transport_config(Arc::new(transport));

        let (connection, current) = watch::channel(None);
        let (events, receiver) = mpsc::channel(defaults::EVENTS_MAX);
        let stop = CancellationToken::new();
        let runner = Runner { config, quic, shown, connection, events };
        let stopped = stop.clone();
        tokio::spawn(async move {
            let _ = stopped.run_until_cancelled(runner.run()).await;
        });
        let guard = Arc::new(stop.clone().drop_guard());
        Ok((Self { current, stop, _guard: guard }, receiver))
    }

    /// Asks and waits for the answer. A refusal by the coordinator is an answer.
    ///
    /// # Errors
    /// [`LinkError::NotConnected`] at once if there is no connection; otherwise what broke.
    pub async fn request(&self, request: &LinkRequest) -> Result<LinkResponse, LinkError> {
        let connection = self.current.borrow().clone().ok_or(LinkError::NotConnected)?;
        ask(&connection, request).await
    }

    /// Whether there is a connection on which `Hello` was answered.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// Ends the link now.
    pub fn stop(&self) {
        self.stop.cancel();
        if let Some(connection) = self.current.borrow().as_ref() {
            connection.close(VarInt::from_u32(0), b"the node stops");
        }
    }
}

async fn ask(
    connection: &quinn::Connection,
    request: &LinkRequest,
) -> Result<LinkResponse, LinkError> {
    let frame = frame::frame(request)?;
    // A little longer than the server's own limit, so that its word arrives.
    let ms = defaults::REQUEST_MS_MAX + 2_000;
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await.map_err(closed)?;
        // A server that refuses early stops our stream and answers; so write errors wait.
        let written = frame::write_frame(&mut send, frame).await;
        match (frame::read_frame(&mut recv).await, written) {
            (Ok(response), _) => Ok(response),
            (Err(_), _) if connection.close_reason().is_some() => {
                Err(connection.close_reason().map_or(LinkError::NotConnected, closed))
            }
            (Err(e), _) => Err(e.into()),
        }
    };
    match timeout(Duration::from_millis(ms), exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(LinkError::TimedOut { what: "the coordinator's answer", ms }),
    }
}

fn closed(e: quinn::ConnectionError) -> LinkError {
    if let quinn::ConnectionError::ApplicationClosed(close) = &e {
        if close.error_code == CLOSE_REPLACED {
            return LinkError::Replaced;
        }
        let reason = String::from_utf8_lossy(&close.reason).chars().take(200).collect();
        return LinkError::Closed { reason };
    }
    LinkError::Closed { reason: e.to_string() }
}

struct Runner {
    config: LinkClientConfig,
    quic: quinn::ClientConfig,
    shown: Arc<tls::Shown>,
    connection: watch::Sender<Option<quinn::Connection>>,
    events: mpsc::Sender<LinkEvent>,
}

impl Runner {
    async fn run(self) {
        let mut failures = 0u32;
        for address in self.config.addresses.iter().copied().cycle() {
            let begun = Instant::now();
            let (welcomed, error) = self.one_connection(address).await;
            self.connection.send_replace(None);
            let good = welcomed && begun.elapsed() >= Duration::from_millis(GOOD_MS);
            failures = if good { 0 } else { failures.saturating_add(1) };
            let wait_ms = wait_ms(&error, failures, jitter());
            tracing::debug!(%address, wait_ms, "failed to {error}");
            if self.events.send(LinkEvent::Disconnected(error)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    /// Lives through one connection; says whether it was welcomed and why it ended.
    async fn one_connection(&self, address: SocketAddr) -> (bool, LinkError) {
        let connection = match self.connect(address).await {
            Ok(connection) => connection,
            Err(e) => return (false, e),
        };
        let welcome = match ask(&connection, &(self.config.hello)()).await {
            Ok(welcome @ LinkResponse::Welcome { .. }) => welcome,
            Ok(LinkResponse::Refused { code, message, retry_after_ms }) => {
                let (code, message) = (code.to_string(), message.to_string());
                return (false, LinkError::HelloRefused { code, message, retry_after_ms });
            }
            Ok(_) => return (false, LinkError::OddAnswer { asked: "Hello" }),
            Err(e) => return (false, e),
        };
        self.connection.send_replace(Some(connection.clone()));
        if self.events.send(LinkEvent::Connected(welcome)).await.is_err() {
            return (true, LinkError::NotConnected);
        }
        loop {
            let mut recv = match connection.accept_uni().await {
                Ok(recv) => recv,
                Err(e) => return (true, closed(e)),
            };
            // One after the other: pushes keep their order.
            match frame::read_frame::<LinkPush>(&mut recv).await {
                Ok(push) => {
                    if self.events.send(LinkEvent::Push(push)).await.is_err() {
                        return (true, LinkError::NotConnected);
                    }
                }
                // A kind of push that this build does not know is not worth the connection.
                Err(frame::FrameError::Decode(e)) => tracing::warn!("failed to {e}"),
                Err(e) => {
                    let reason = connection.close_reason();
                    return (true, reason.map_or_else(|| e.into(), closed));
                }
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<quinn::Connection, LinkError> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A fresh socket each time: address translation and interfaces may have changed.
        let ip = self.config.bind.filter(|b| b.is_ipv4() == address.is_ipv4()).unwrap_or(any);
        let local = SocketAddr::new(ip, 0);
        let endpoint = quinn::Endpoint::client(local)
            .map_err(|source| LinkError::Bind { address: local, source })?;
        let unreachable = |reason: String| LinkError::Unreachable { address, reason };
        let connecting = endpoint
            .connect_with(self.quic.clone(), address, SERVER_NAME)
            .map_err(|e| unreachable(e.to_string()))?;
        let _ = self.shown.take();
        let ms = defaults::HANDSHAKE_MS_MAX;
        match timeout(Duration::from_millis(ms), connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(e)) => Err(match self.shown.take() {
                Some(found) => {
                    LinkError::WrongServerKey { address, expected: self.config.server_key, found }
                }
                None => unreachable(e.to_string()),
            }),
            Err(_) => Err(unreachable(format!("no answer within {ms} ms"))),
        }
    }
}

/// Randomness in `0..=u16::MAX`; without any, waits are simply not spread.
fn jitter() -> u16 {
    let mut bytes = [0u8; 2];
    let _ = getrandom::fill(&mut bytes);
    u16::from_le_bytes(bytes)
}

/// How long to wait: doubled with each failure, between half and all of it, and never less than
/// the coordinator asked for.
fn wait_ms(error: &LinkError, failures: u32, jitter: u16) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let ceiling = (defaults::RECONNECT_MS_MIN << doublings).min(defaults::RECONNECT_MS_MAX);
    let spread = ceiling / 2 + ceiling / 2 * u64::from(jitter) / u64::from(u16::MAX);
    let asked = match error {
        LinkError::HelloRefused { retry_after_ms: 0, .. } => defaults::RECONNECT_MS_MAX,
        LinkError::HelloRefused { retry_after_ms, .. } => u64::from(*retry_after_ms),
        LinkError::Replaced => defaults::RECONNECT_REPLACED_MS,
        _ => 0,
    };
    spread.max(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread() {
        let lost = LinkError::NotConnected;
        assert_eq!(wait_ms(&lost, 1, u16::MAX), defaults::RECONNECT_MS_MIN);
        assert_eq!(wait_ms(&lost, 1, 0), defaults::RECONNECT_MS_MIN / 2);
        assert_eq!(wait_ms(&lost, 3, u16::MAX), 4 * defaults::RECONNECT_MS_MIN);
        assert_eq!(wait_ms(&lost, u32::MAX, u16::MAX), defaults::RECONNECT_MS_MAX);
        assert_eq!(wait_ms(&LinkError::Replaced, 1, 0), defaults::RECONNECT_REPLACED_MS);
        let later = LinkError::HelloRefused {
            code: "busy".into(),
            message: String::new(),
            retry_after_ms: 9_000,
        };
        assert_eq!(wait_ms(&later, 1, 0), 9_000);
    }
}

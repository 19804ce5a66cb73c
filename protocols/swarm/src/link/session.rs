//! One connection of a node at the server: its requests and its pushes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openledger_wire::link::{LinkRequest, LinkResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;

use super::frame::{self, FrameError};
use super::server::{CLOSE_SLOW, Inner, Peer, Place, count, refused, too_long};
use super::tls;
use crate::defaults::link as defaults;

/// How long a node should wait after its own budget or the coordinator's was used up.
const BUSY_MS: u32 = 1_000;

/// A node's connection.
pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) connection: quinn::Connection,
    /// Hello was answered with Welcome.
    welcome: AtomicBool,
    pushes: mpsc::Sender<Bytes>,
    pushes_bytes: AtomicUsize,
    /// One large message at a time, so that one node cannot take the whole budget of them.
    large: Arc<Semaphore>,
}

impl Session {
    pub(super) fn is_welcome(&self) -> bool {
        self.welcome.load(Ordering::Acquire)
    }

    /// Queues a push; false if too much waits already.
    pub(super) fn queue(&self, frame: Bytes) -> bool {
        let len = frame.len();
        let waiting = self.pushes_bytes.fetch_add(len, Ordering::AcqRel);
        // A single push always fits an empty queue.
        let fits = waiting == 0 || waiting.saturating_add(len) <= defaults::PUSH_QUEUE_BYTES_MAX;
        if fits && self.pushes.try_send(frame).is_ok() {
            return true;
        }
        self.pushes_bytes.fetch_sub(len, Ordering::AcqRel);
        false
    }
}

/// Runs a connection from its handshake to its end.
pub(super) async fn serve(inner: Arc<Inner>, incoming: quinn::Incoming, place: Place) {
    let address = incoming.remote_address();
    let Some((session, pushes)) = handshake(incoming, address).await else {
        drop(place);
        return;
    };
    inner.enter(&session);
    let writer = inner.tasks.spawn(write_pushes(Arc::clone(&session), pushes));
    loop {
        let stream = tokio::select! {
            () = inner.stop.cancelled() => break,
            stream = session.connection.accept_bi() => stream,
        };
        let Ok((send, recv)) = stream else { break };
        let (inner_, session_) = (Arc::clone(&inner), Arc::clone(&session));
        inner.tasks.spawn(async move { serve_request(&inner_, &session_, send, recv).await });
    }
    writer.abort();
    inner.leave(&session);
    drop(place);
}

async fn handshake(
    incoming: quinn::Incoming,
    address: SocketAddr,
) -> Option<(Arc<Session>, mpsc::Receiver<Bytes>)> {
    let connecting = incoming.accept().ok()?;
    let within = Duration::from_millis(defaults::HANDSHAKE_MS_MAX);
    let connection = match timeout(within, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(e)) => {
            tracing::debug!(%address, "failed to shake hands on the link: {e}");
            return None;
        }
        Err(_) => return None,
    };
    let node = tls::peer_node(&connection)?;
    let (pushes, queue) = mpsc::channel(defaults::PUSH_QUEUE_MAX);
    let session = Session {
        peer: Peer { node, address },
        connection,
        welcome: AtomicBool::new(false),
        pushes,
        pushes_bytes: AtomicUsize::new(0),
        large: Arc::new(Semaphore::new(1)),
    };
    Some((Arc::new(session), queue))
}

async fn write_pushes(session: Arc<Session>, mut queue: mpsc::Receiver<Bytes>) {
    let within = Duration::from_millis(defaults::PUSH_MS_MAX);
    while let Some(bytes) = queue.recv().await {
        let len = bytes.len();
        let written = timeout(within, async {
            let mut send = session.connection.open_uni().await.ok()?;
            frame::write_frame(&mut send, bytes).await.ok()?;
            // Order between pushes and back-pressure: the next one waits for this one.
            send.stopped().await.ok()
        });
        let taken = matches!(written.await, Ok(Some(_)));
        session.pushes_bytes.fetch_sub(len, Ordering::AcqRel);
        if !taken {
            session.connection.close(CLOSE_SLOW, b"pushes are not read");
            return;
        }
    }
}

async fn serve_request(
    inner: &Inner,
    session: &Session,
    mut send: quinn::SendStream,
    mut recv: quinn::RecvStream,
) {
    let answer = match answer(inner, session, &mut recv).await {
        Ok(response) => frame::frame(&response).unwrap_or_else(|e| {
            tracing::error!(node = %session.peer.node, "failed to answer: {e}");
            too_long(0)
        }),
        Err(FrameError::TooLong(len)) => {
            count(&inner.counters.malformed);
            too_long(len)
        }
        Err(FrameError::Decode(e)) => {
            count(&inner.counters.malformed);
            frame::frame(&refused("malformed", &e.to_string(), 0)).unwrap_or_default()
        }
        Err(FrameError::Broken(_)) => return,
    };
    let _ = recv.stop(quinn::VarInt::from_u32(0));
    // A node that does not take its answer loses it; it asks again.
    let within = Duration::from_millis(inner.limits.request_ms_max);
    let _ = timeout(within, frame::write_frame(&mut send, answer)).await;
}

async fn answer(
    inner: &Inner,
    session: &Session,
    recv: &mut quinn::RecvStream,
) -> Result<LinkResponse, FrameError> {
    let node = session.peer.node;
    if let Err(wait_ms) = inner.take_budget(node) {
        count(&inner.counters.busy);
        return Ok(refused("busy", "too many requests of this node; batch them", wait_ms));
    }
    let request = match read_request(inner, session, recv).await? {
        Ok(request) => request,
        Err(refusal) => {
            count(&inner.counters.busy);
            return Ok(refusal);
        }
    };
    let is_hello = matches!(request, LinkRequest::Hello { .. });
    if !is_hello && !session.is_welcome() {
        return Ok(refused("hello-first", "this connection has not been welcomed; send Hello", 0));
    }
    let within = Duration::from_millis(inner.limits.request_ms_max);
    let handled = timeout(within, async {
        let _permit: SemaphorePermit<'_> = inner.handlers.acquire().await.ok()?;
        Some(inner.service.handle(session.peer, request).await)
    });
    let Ok(Some(response)) = handled.await else {
        count(&inner.counters.busy);
        return Ok(refused("busy", "the coordinator is overloaded; send it again", BUSY_MS));
    };
    count(&inner.counters.answered);
    if is_hello && matches!(response, LinkResponse::Welcome { .. }) {
        session.welcome.store(true, Ordering::Release);
    }
    Ok(response)
}

/// Reads a request within time and memory budgets; the inner error is a refusal to send.
async fn read_request(
    inner: &Inner,
    session: &Session,
    recv: &mut quinn::RecvStream,
) -> Result<Result<LinkRequest, LinkResponse>, FrameError> {
    let read = async {
        let len = frame::read_len(recv).await?;
        let _large = if len > defaults::SMALL_BYTES_MAX {
            Some(take_large(inner, session, len).await)
        } else {
            None
        };
        frame::read_value(recv, len).await
    };
    match timeout(Duration::from_millis(defaults::BODY_MS_MAX), read).await {
        Ok(read) => read.map(Ok),
        Err(_) => Ok(Err(refused(
            "busy",
            "the request did not arrive in time; send less at a time",
            BUSY_MS,
        ))),
    }
}

type Large<'a> = (Option<OwnedSemaphorePermit>, Option<SemaphorePermit<'a>>);

/// Room for a large message; the semaphores are never closed, so this only waits.
async fn take_large<'a>(inner: &'a Inner, session: &Session, len: usize) -> Large<'a> {
    let own = Arc::clone(&session.large).acquire_owned().await.ok();
    let kib = u32::try_from(len.div_ceil(1024)).unwrap_or(u32::MAX);
    (own, inner.large_kib.acquire_many(kib).await.ok())
}

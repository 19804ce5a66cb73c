//! A listener that holds a bounded number of connections, ends silent ones, and cuts all of them
//! when the server is stopped for good.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not stopped.
    Serving,
    /// No new connections; open requests may finish.
    Stopping,
    /// All connections end.
    Cut,
}

/// Resolves once `phases` is at `phase`, or its server is gone.
pub(crate) async fn reached(mut phases: watch::Receiver<Phase>, phase: Phase) {
    // An error means that the sender is gone, which is a stop too.
    let _ = phases.wait_for(|now| *now == phase).await;
}

/// Accepts while there is room; who comes later waits in the system's queue.
pub(crate) struct BoundedListener {
    listener: TcpListener,
    room: Arc<Semaphore>,
    idle_max: Duration,
    phases: watch::Receiver<Phase>,
}

impl BoundedListener {
    pub(crate) fn new(
        listener: TcpListener,
        connections_max: usize,
        idle_max: Duration,
        phases: watch::Receiver<Phase>,
    ) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(connections_max)), idle_max, phases }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            // The semaphore is never closed; if it were, no connection would be bounded.
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            let idle = Box::pin(sleep(self.idle_max));
            let cut = Box::pin(reached(self.phases.clone(), Phase::Cut));
            let idle_max = self.idle_max;
            return (
                BoundedStream { stream, idle, idle_max, cut, is_cut: false, _permit: permit },
                peer,
            );
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once nothing moved on it for a while.
pub(crate) struct BoundedStream {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
    _permit: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn moved(&mut self) {
        let until = Instant::now() + self.idle_max;
        self.idle.as_mut().reset(until);
    }

    fn must_end(&mut self, cx: &mut Context<'_>) -> bool {
        // A future that is done is not polled again.
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        self.is_cut || self.idle.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending if self.must_end(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                self.moved();
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending if self.must_end(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                self.moved();
                Poll::Ready(result)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

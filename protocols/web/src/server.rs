//! Binding, serving and stopping.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_http::limit::RequestBodyLimitLayer;

use crate::guard::{Guard, guard};
use crate::hosts::Hosts;
use crate::io::{BoundedListener, Phase, reached};
use crate::limits;
use crate::page::asset_routes;

/// Where and within which bounds a server runs.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// Address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Further host names to answer to, without a port: what a reverse proxy passes on.
    pub hosts: Vec<String>,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// From the start of a request to the start of its answer.
    pub request_time_max: Duration,
    /// A connection on which nothing moves for so long is closed; longer than the slowest answer
    /// takes to begin.
    pub idle_max: Duration,
    /// Connections at a time.
    pub connections_max: usize,
}

impl WebConfig {
    /// A server on this address, all else at its default.
    #[must_use]
    pub const fn on(address: SocketAddr) -> Self {
        Self {
            address,
            hosts: Vec::new(),
            body_bytes_max: limits::BODY_BYTES_MAX,
            request_time_max: limits::REQUEST_TIME_MAX,
            idle_max: limits::IDLE_MAX,
            connections_max: limits::CONNECTIONS_MAX,
        }
    }
}

/// Why a server did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("listen on {address}: {source}; choose another address or port, or stop what uses it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A running server. Dropping it stops it at once.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl WebServer {
    /// Binds and serves `routes`, with all checks around them.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(config: WebConfig, routes: Router) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let guarding = Guard {
            hosts: Arc::new(Hosts::of(address, &config.hosts)),
            request_time_max: config.request_time_max,
        };
        let routes = routes
            .merge(asset_routes())
            .layer(DefaultBodyLimit::max(config.body_bytes_max))
            .layer(RequestBodyLimitLayer::new(config.body_bytes_max))
            .layer(from_fn_with_state(guarding, guard));
        let (phase, phases) = watch::channel(Phase::Serving);
        let connections_max = config.connections_max;
        let listener =
            BoundedListener::new(listener, connections_max, config.idle_max, phases.clone());
        let task = tokio::spawn(serve(listener, routes, phases));
        tracing::debug!(%address, "serving HTTP");
        Ok(Self { address, phase, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no new connections, lets open requests finish for
    /// [`limits::SHUTDOWN_GRACE`], cuts the rest, and returns.
    pub async fn shutdown(mut self) {
        self.phase.send_replace(Phase::Stopping);
        // An error is a panic of the task, which has been reported already.
        let _ = tokio::time::timeout(limits::SHUTDOWN_GRACE, &mut self.task).await;
        self.phase.send_replace(Phase::Cut);
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        // Connections end with the sender of the phases.
        self.task.abort();
    }
}

async fn serve(listener: BoundedListener, routes: Router, phases: watch::Receiver<Phase>) {
    let stopping = reached(phases, Phase::Stopping);
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopping).await {
        tracing::error!(%error, "serving HTTP ended");
    }
}

//! A worker process from the inside: takes its socket, limits itself, serves until it closes.

use std::os::fd::AsFd;
use std::time::Duration;

use openledger_wire::Text;
use openledger_wire::worker::WorkerResponse;
use thiserror::Error;
use tokio::net::UnixStream;

use super::frame::FrameError;
use super::{infer, serve_fetch, serve_refine};
use crate::limits;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum WorkerKind {
    /// Fetches pages and fingerprints their text.
    Fetch,
    /// Refines pages.
    Refine,
    /// Answers calls to models.
    Infer,
}

impl WorkerKind {
    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Refine => "refine",
            Self::Infer => "infer",
        }
    }
}

/// Why a worker ended before its node did.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChildError {
    /// Standard input is not a socket.
    #[error(
        "start a worker: its standard input is no socket ({0}); workers are started by the node, not by hand"
    )]
    NoSocket(std::io::Error),
    /// The runtime did not start.
    #[error("start a worker: {0}")]
    Runtime(std::io::Error),
    /// The node said something unreadable.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Runs a worker in this process until the node closes the socket.
///
/// A fetch worker gives a page up after `time_max`, so that what its node no longer waits for
/// takes nobody's turn.
///
/// # Errors
/// [`ChildError`]; the process should end with it.
pub fn run_child(kind: WorkerKind, time_max: Duration) -> Result<(), ChildError> {
    step_back();
    if kind != WorkerKind::Infer {
        // What an infer worker needs depends on its model.
        limit_memory(limits::WORKER_MEMORY_BYTES_MAX);
    }
    let fd = std::io::stdin().as_fd().try_clone_to_owned().map_err(ChildError::NoSocket)?;
    let socket = std::os::unix::net::UnixStream::from(fd);
    socket.peer_addr().map_err(ChildError::NoSocket)?;
    socket.set_nonblocking(true).map_err(ChildError::NoSocket)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .map_err(ChildError::Runtime)?;
    let ended = runtime.block_on(async {
        let socket = UnixStream::from_std(socket).map_err(ChildError::NoSocket)?;
        match kind {
            WorkerKind::Fetch => serve_fetch::serve(socket, time_max).await?,
            WorkerKind::Refine => serve_refine::serve(socket).await?,
            WorkerKind::Infer => infer::serve(socket).await?,
        }
        Ok(())
    });
    // Work that still runs is of no use to anybody.
    runtime.shutdown_background();
    ended
}

/// A failure as the node reads it.
pub(super) fn failed(id: u64, code: &str, message: &str, retryable: bool) -> WorkerResponse {
    let (code, message) = (Text::clipped(code), Text::clipped(message));
    WorkerResponse::Failed { id, code, message, retryable }
}

/// Bounds this process's address space. Best effort: a system that refuses still runs the worker.
pub(super) fn limit_memory(bytes_max: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // The hard limit stays: what an infer worker needs is known in two steps, of which the second
    // allows more.
    let maximum = getrlimit(Resource::As).maximum;
    let current = maximum.map_or(bytes_max, |maximum| maximum.min(bytes_max));
    let _ = setrlimit(Resource::As, Rlimit { current: Some(current), maximum });
}

/// Leaves no core files, and steps back behind the owner's programs.
fn step_back() {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    let core = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, core);
    let _ = nice(limits::WORKER_NICE);
}

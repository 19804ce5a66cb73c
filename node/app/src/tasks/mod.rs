//! Doing leased work: check the lease, let a worker do it, keep what came out, describe it.

mod fetch;
mod infer;
mod refine;
mod turns;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use openledger_swarm::{Blobs, FetchError, StoreError};
use openledger_wire::call::CallFailure;
use openledger_wire::link::LeasedTask;
use openledger_wire::proof::ProofBody;
use openledger_wire::task::TaskKind;
use openledger_wire::{BlobId, EncodeError, UnixMs};
use thiserror::Error;

use crate::conduct::Conduct;
use crate::worker::{CallError, Worker};

pub use infer::InferBench;
pub use turns::{Sites, Turn, Turns};
pub use verify::{AssignmentError, verify_assignment};

/// Why work that took too long is given back.
pub(crate) const LATE: &str = "not done before its deadline; leaving is free before a commitment";

/// Refine workers; each does one page at a time.
pub type Refiners = [tokio::sync::Mutex<Worker>];

/// What the work of one network needs.
pub struct Bench {
    /// The network's fetch worker: private hosts and the name in the User-Agent are the network's.
    pub fetcher: Worker,
    /// Whose turn it is at a site, among the networks of this node.
    pub turns: Turns,
    /// Refine workers, shared by all networks of this node: a page is a page.
    pub refiners: Arc<Refiners>,
    /// Own blobs and those of peers, shared as well: a blob's id says what it is.
    pub blobs: Arc<dyn Blobs>,
    /// What inference tasks need; none on a node that serves no models.
    pub infer: Option<InferBench>,
    /// How the node behaves.
    pub conduct: Arc<dyn Conduct>,
    /// What came from where.
    pub counts: Counts,
}

/// Counters of work since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Pages fetched from the web.
    pub pages: std::sync::atomic::AtomicU64,
    /// Pages and documents that came from peers as blobs and were verified.
    pub from_peers: std::sync::atomic::AtomicU64,
    /// Documents made.
    pub documents: std::sync::atomic::AtomicU64,
    /// Prompts of tasks answered.
    pub inferences: std::sync::atomic::AtomicU64,
}

/// A finished output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What went in; zero for a fetch.
    pub input: BlobId,
    /// What came out.
    pub body: ProofBody,
}

/// Why work on a lease gave no output.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The task's body is not what its kind says.
    #[error("read the task: {0}")]
    Task(String),
    /// The node does not do this.
    #[error("{0}")]
    Unsupported(String),
    /// The conduct gave the lease back.
    #[error("{0}")]
    Declined(String),
    /// The worker gave no answer.
    #[error(transparent)]
    Worker(#[from] CallError),
    /// The engine did not take or finish the call.
    #[error("answer the prompt: {} ({})", .0.message, .0.code)]
    Refused(CallFailure),
    /// The input could not be had.
    #[error(transparent)]
    Input(#[from] FetchError),
    /// The output could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The page makes no WARC record.
    #[error("archive the page: {0}")]
    Archive(String),
    /// The output does not encode.
    #[error("describe the output: {0}")]
    Encode(#[from] EncodeError),
    /// The output does not fit the wire's bounds.
    #[error("describe the output: {0}")]
    TooLarge(#[from] openledger_wire::bounded::TooLong),
    /// A worker answered something else than it was asked.
    #[error("the {0} worker answered something else than it was asked; it must be of this version")]
    OddAnswer(&'static str),
}

impl WorkError {
    /// Whether another attempt by this node may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Worker(CallError::Failed { retryable, .. }) => *retryable,
            Self::Worker(CallError::Start { .. }) => true,
            Self::Refused(failure) => failure.retry_after_ms > 0,
            Self::Input(FetchError::NoHolder { .. } | FetchError::AllFailed { .. }) => true,
            _ => false,
        }
    }

    /// Whether a worker died, and if so, whether this input alone can be the cause.
    #[must_use]
    pub fn crash(&self) -> Option<bool> {
        match self {
            Self::Worker(CallError::Died { alone, .. }) => Some(*alone),
            Self::Worker(CallError::TimedOut { kind: "refine", .. }) => Some(true),
            _ => None,
        }
    }
}

impl Bench {
    /// Does the work of a lease.
    ///
    /// # Errors
    /// [`WorkError`] says whether another attempt may help.
    pub async fn work(
        &self,
        leased: &LeasedTask,
        now: impl Fn() -> UnixMs,
        time_left: Duration,
    ) -> Result<Output, WorkError> {
        match leased.spec.kind {
            TaskKind::Fetch => self.fetch(leased, now, time_left).await,
            TaskKind::Refine => self.refine(leased, time_left).await,
            TaskKind::Infer => self.infer(leased, time_left).await,
            kind => Err(WorkError::Unsupported(format!(
                "this version of the node does no {} tasks; update it, or leave them to others",
                kind.name()
            ))),
        }
    }

    /// A refine worker that has nothing to do, or the first that will.
    async fn free_refiner(&self) -> Option<tokio::sync::MutexGuard<'_, Worker>> {
        for refiner in self.refiners.iter() {
            if let Ok(free) = refiner.try_lock() {
                return Some(free);
            }
        }
        Some(self.refiners.first()?.lock().await)
    }

    /// Ends the fetch worker; the others are shared and end with the node.
    pub async fn stop(&self) {
        self.fetcher.kill().await;
    }

    /// Keeps a blob, unless the conduct only pretends to.
    async fn keep(&self, bytes: Vec<u8>) -> Result<BlobId, WorkError> {
        let id = BlobId::of(&bytes);
        if !self.conduct.holds(id) {
            return Ok(id);
        }
        Ok(self.blobs.put(bytes.into()).await?)
    }
}

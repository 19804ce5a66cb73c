//! How a node behaves between doing its work and promising it.
//!
//! Honest nodes change nothing. Simulations pass another conduct to run real nodes that cheat; the
//! rest of the node neither knows nor helps.

use openledger_wire::link::LeasedTask;
use openledger_wire::proof::{FetchOutput, InferOutput, RefineOutput};
use openledger_wire::worker::FetchedPage;
use openledger_wire::{BlobId, Commitment, Envelope, NetworkId, NodeKey};

/// What a conduct may look at.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The lease with its task.
    pub leased: &'a LeasedTask,
    /// The page at hand, as fetched or as refined; the bytes of a prompt.
    pub page: &'a [u8],
}

/// What a conduct does in place of the work itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Pretend to have fetched this page.
    Fetched(Box<FetchedPage>),
    /// Pretend that refining gave this output and document.
    Refined(RefineOutput, Vec<u8>),
    /// Pretend that a model answered this.
    Inferred(InferOutput),
    /// Give the lease back.
    Decline(String),
}

/// A conduct. Every method's default is the honest one.
pub trait Conduct: Send + Sync {
    /// Asked before any work; an answer replaces the work.
    fn shortcut(&self, leased: &LeasedTask) -> Option<Shortcut> {
        let _ = leased;
        None
    }

    /// The fetched page, before it is stored and described.
    fn page(&self, honest: FetchedPage, leased: &LeasedTask) -> FetchedPage {
        let _ = leased;
        honest
    }

    /// What is promised of a fetch.
    fn fetch_output(&self, honest: FetchOutput, occasion: Occasion<'_>) -> FetchOutput {
        let _ = occasion;
        honest
    }

    /// What is promised of a refine. A changed document must be given too, so that it is held.
    fn refine_output(
        &self,
        honest: RefineOutput,
        document: Vec<u8>,
        occasion: Occasion<'_>,
    ) -> (RefineOutput, Vec<u8>) {
        let _ = occasion;
        (honest, document)
    }

    /// What is promised of an inference.
    fn infer_output(&self, honest: InferOutput, occasion: Occasion<'_>) -> InferOutput {
        let _ = occasion;
        honest
    }

    /// The commitment that is sent.
    fn commitment(&self, honest: Commitment, leased: &LeasedTask) -> Commitment {
        let _ = leased;
        honest
    }

    /// Whether the node keeps a blob that it says it has.
    fn holds(&self, blob: BlobId) -> bool {
        let _ = blob;
        true
    }

    /// The signed proof as it is sent once it may be; `None` keeps it back until it is asked for
    /// again, some seconds later. Asked with the same proof each time.
    fn proof(&self, honest: Envelope, key: &NodeKey, network: NetworkId) -> Option<Envelope> {
        let _ = (key, network);
        Some(honest)
    }

    /// Another node's proof, heard by gossip.
    fn heard(&self, proof: &Envelope) {
        let _ = proof;
    }
}

/// Does what it says and says what it did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Honest;

impl Conduct for Honest {}

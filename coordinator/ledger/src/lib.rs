//! Durable record of what the coordinator said and received.
//!
//! [`Ingest`] takes whole batches and returns once they are synced; [`Ledger`] gives back what was
//! taken: the log by height and by epoch, proofs, kept commits. [`EmbeddedLedger`] keeps it all in
//! one file on this machine; a clustered back-end implements the same traits and passes the same
//! suite (`tests/it/contract.rs`). Deliberately absent: any judgement of what is stored. The ledger
//! does not decode lines, bodies or proofs.

mod batch;
mod embedded;
mod error;
pub mod limits;
mod traits;

pub use batch::{Batch, BundleMeta, CommitKey, LogLine, Mark};
pub use embedded::EmbeddedLedger;
pub use error::LedgerError;
pub use traits::{EntryStream, Ingest, Ledger, Position};

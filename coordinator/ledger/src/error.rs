//! What can go wrong with the ledger.

use openledger_tables::{OpenError, StoreError};
use openledger_wire::{DecodeError, EncodeError, Height};
use thiserror::Error;

/// An error of the ledger. Fits after "failed to commit a batch: ".
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Entries would leave a hole.
    #[error(
        "append the entry of height {offered}: the log ends at {next}; another coordinator \
             writes this ledger, or its file was exchanged; stop one and start again"
    )]
    Gap {
        /// Height offered.
        offered: Height,
        /// Height wanted.
        next: Height,
    },
    /// Another entry stands at this height already.
    #[error(
        "append the entry of height {height}: another one stands there; two coordinators \
             write this ledger; stop one of them before anything is signed twice"
    )]
    Conflict {
        /// The height.
        height: Height,
    },
    /// A stored statement does not decode.
    #[error("read a stored statement: {0}")]
    Decode(#[from] DecodeError),
    /// A statement does not encode.
    #[error("store a statement: {0}")]
    Encode(#[from] EncodeError),
    /// The epoch is not closed in this log.
    #[error("read epoch {epoch}: it is not closed in this log; ask for an earlier one")]
    NotClosed {
        /// The epoch.
        epoch: u64,
    },
}

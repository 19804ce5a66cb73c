//! What can go wrong with a WARC file.

use std::io;

use thiserror::Error;

/// Why a WARC file cannot be written or read on. Messages fit after "failed to
/// read the archive: " and name the place: offsets count from the file's start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WarcError {
    /// The file system refused.
    #[error("the file system refused ({0})")]
    Io(#[from] io::Error),
    /// A record to be written would not be a valid one.
    #[error("the record is not valid: {0}")]
    BadRecord(String),
    /// The file ends within a record.
    #[error(
        "the file ends within the record at offset {offset}; earlier records are whole, fetch the file again for the rest"
    )]
    Truncated {
        /// Where the cut record starts.
        offset: u64,
    },
    /// The bytes are no record.
    #[error("no valid record at offset {offset}: {problem}")]
    Malformed {
        /// Where the record starts.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// A record is larger than allowed.
    #[error("the record at offset {offset} has {what} of more than {limit} bytes")]
    TooLarge {
        /// Where the record starts.
        offset: u64,
        /// Its header or its block.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A record is a decompression bomb.
    #[error(
        "the record at offset {offset} grows more than {ratio_max} times when unpacked: a bomb"
    )]
    Ratio {
        /// Where the record starts.
        offset: u64,
        /// Growth allowed.
        ratio_max: u64,
    },
    /// A record does not match its own digest.
    #[error("the record at offset {offset} does not match its {field}; it was damaged or changed")]
    DigestMismatch {
        /// Where the record starts.
        offset: u64,
        /// The field that disagrees.
        field: &'static str,
    },
}

//! WARC 1.1 (ISO 28500:2017): records, a rotating writer, a bounded reader.

mod digest;
mod error;
mod http;
mod limits;
mod reader;
mod record;
mod time;
mod writer;

pub use digest::{PayloadDigests, sha1_base32};
pub use error::WarcError;
pub use http::{PageCapture, payload_of, response_block};
pub use limits::ReadLimits;
pub use reader::{Stored, WarcReader};
pub use record::{Record, RecordId, RecordKind};
pub use time::{format_date_ms, parse_date_ms};
pub use writer::{ArchivedPage, WarcOptions, WarcRef, WarcWriter};

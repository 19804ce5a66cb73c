//! One record: named fields and a block.

use std::fmt;

use crate::warc::digest::sha1_base32;
use crate::warc::error::WarcError;
use crate::warc::limits::FIELDS_MAX;
use crate::warc::time::format_date_ms;

/// First line of every record.
pub(crate) const VERSION: &str = "WARC/1.1";

/// Hashing context of record ids.
const ID_CONTEXT: &str = "openledger 2026 warc record id v1";

/// What a record is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RecordKind {
    /// About the file.
    Warcinfo,
    /// What was asked.
    Request,
    /// What was answered.
    Response,
    /// About another record.
    Metadata,
    /// A kind that this crate does not write (`revisit`, `resource`, ...).
    Other(String),
}

impl RecordKind {
    /// The value of `WARC-Type`.
    pub fn name(&self) -> &str {
        match self {
            Self::Warcinfo => "warcinfo",
            Self::Request => "request",
            Self::Response => "response",
            Self::Metadata => "metadata",
            Self::Other(name) => name,
        }
    }

    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "warcinfo" => Self::Warcinfo,
            "request" => Self::Request,
            "response" => Self::Response,
            "metadata" => Self::Metadata,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// The value of `WARC-Record-ID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId(String);

impl RecordId {
    /// The id that follows from a record's kind, date, address and block: a UUID
    /// of version 8 (RFC 9562 section 5.8) cut from a BLAKE3 hash, so that writing the
    /// same page twice gives the same bytes.
    pub fn derived(kind: &RecordKind, date_ms: u64, target: Option<&str>, block: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        for part in [kind.name().as_bytes(), target.unwrap_or_default().as_bytes(), block] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.update(&date_ms.to_be_bytes());
        let mut bits = hasher
            .finalize()
            .as_bytes()
            .iter()
            .take(16)
            .fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
        bits = bits & !(0xf << 76) | (8 << 76);
        bits = bits & !(3 << 62) | (2 << 62);
        let hex = format!("{bits:032x}");
        let (a, rest) = hex.split_at(8);
        let (b, rest) = rest.split_at(4);
        let (c, rest) = rest.split_at(4);
        let (d, e) = rest.split_at(4);
        Self(format!("<urn:uuid:{a}-{b}-{c}-{d}-{e}>"))
    }

    /// An id as found in a file, angle brackets included.
    pub(crate) fn found(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, angle brackets included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// Its id.
    pub id: RecordId,
    /// When its content came into being, milliseconds since 1970.
    pub date_ms: u64,
    /// The address that it is about.
    pub target: Option<String>,
    /// Media type of the block.
    pub content_type: Option<String>,
    /// Further named fields in order, such as `WARC-Concurrent-To`.
    pub fields: Vec<(String, String)>,
    /// The block.
    pub block: Vec<u8>,
}

impl Record {
    /// A record with a derived id and no further fields.
    pub fn new(
        kind: RecordKind,
        date_ms: u64,
        target: Option<String>,
        content_type: &str,
        block: Vec<u8>,
    ) -> Self {
        let id = RecordId::derived(&kind, date_ms, target.as_deref(), &block);
        let content_type = Some(content_type.to_owned());
        Self { kind, id, date_ms, target, content_type, fields: Vec::new(), block }
    }

    /// Adds a named field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// The first value of a further field; case is ignored.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The record's bytes, unpacked: version, fields, block, two line ends.
    pub fn encode(&self) -> Result<Vec<u8>, WarcError> {
        let mut fields = vec![
            ("WARC-Type", self.kind.name().to_owned()),
            ("WARC-Record-ID", self.id.as_str().to_owned()),
            ("WARC-Date", format_date_ms(self.date_ms)),
        ];
        fields.extend(self.target.clone().map(|target| ("WARC-Target-URI", target)));
        fields.extend(self.fields.iter().map(|(name, value)| (name.as_str(), value.clone())));
        fields.push(("WARC-Block-Digest", sha1_base32(&self.block)));
        fields.extend(self.content_type.clone().map(|kind| ("Content-Type", kind)));
        fields.push(("Content-Length", self.block.len().to_string()));
        if fields.len() > FIELDS_MAX {
            return Err(WarcError::BadRecord(format!("more than {FIELDS_MAX} fields")));
        }
        let mut text = format!("{VERSION}\r\n");
        for (name, value) in &fields {
            check_field(name, value)?;
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.block);
        bytes.extend_from_slice(b"\r\n\r\n");
        Ok(bytes)
    }
}

/// Refuses what would let a value start a line of its own, or would not come
/// back as it was.
fn check_field(name: &str, value: &str) -> Result<(), WarcError> {
    let name_ok = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let value_ok = value.trim() == value && !value.chars().any(char::is_control);
    if name_ok && value_ok {
        return Ok(());
    }
    let shown: String = value.chars().take(80).flat_map(char::escape_debug).collect();
    Err(WarcError::BadRecord(format!("field \"{name}\" cannot hold \"{shown}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_content_and_are_proper_uuids() {
        let make =
            |block: &[u8]| RecordId::derived(&RecordKind::Response, 7, Some("http://a/"), block);
        assert_eq!(make(b"x"), make(b"x"));
        assert_ne!(make(b"x"), make(b"y"));
        let text = make(b"x").to_string();
        assert_eq!((text.len(), text.chars().nth(24)), (47, Some('8')), "{text}");
        assert!(text.chars().nth(29).is_some_and(|c| "89ab".contains(c)), "{text}");
    }

    #[test]
    fn a_value_cannot_smuggle_a_line() {
        let record = Record::new(RecordKind::Metadata, 0, None, "text/plain", b"x".to_vec());
        for bad in ["a\r\nWARC-Type: response", " a", "a\n", "\u{7f}"] {
            assert!(record.clone().with("X-Note", bad).encode().is_err(), "{bad:?}");
        }
        assert!(record.clone().with("X Note", "a").encode().is_err());
        assert!(record.with("X-Note", "plain").encode().is_ok());
    }
}

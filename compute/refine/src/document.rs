//! A document: the text of a page and what it says of itself, in one canonical form.
//!
//! The encoding is what nodes commit to and auditors reproduce: canonical CBOR (DAG-CBOR:
//! sorted keys, shortest integers, no floats), all fields always present. A decoder that
//! accepts any other bytes for the same document would let one document have two roots,
//! so decoding re-encodes and compares.

use serde::{Deserialize, Serialize};

use crate::limits::DOCUMENT_BYTES_MAX;

/// Version of the encoding.
pub const DOCUMENT_FORMAT: u8 = 1;

/// Domain of [`Document::output_root`].
const DOCUMENT_DOMAIN: &[u8] = b"openledger/refine/document/1\0";

/// A refined document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`DOCUMENT_FORMAT`].
    pub format: u8,
    /// Profile under which the document was made.
    #[serde(with = "serde_bytes")]
    pub profile: [u8; 32],
    /// Address from which it was fetched.
    pub url: String,
    /// Address that the page calls its own; a claim.
    pub canonical_url: Option<String>,
    /// Title.
    pub title: Option<String>,
    /// Author, as the page names them.
    pub author: Option<String>,
    /// Day of publication, `YYYY-MM-DD`.
    pub published: Option<String>,
    /// ISO 639-3 code.
    pub language: String,
    /// Licence that the page links to.
    pub licence: Option<Licence>,
    /// Whether the page itself reserves text and data mining.
    pub tdm_reserved: bool,
    /// Main text, addresses of people and machines replaced.
    pub text: String,
    /// Words of the text (UAX #29).
    pub word_count: u32,
}

/// A licence and where the page states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Address of the licence.
    pub url: String,
    /// Where it was found.
    pub evidence: LicenceEvidence,
}

/// Where a licence was found, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LicenceEvidence {
    /// `<link rel=license>`.
    Link,
    /// `<a rel=license>`.
    Anchor,
    /// `license` in JSON-LD.
    JsonLd,
    /// A Dublin Core `meta` element.
    Meta,
    /// A link to a Creative Commons licence somewhere on the page.
    Mention,
}

/// Why bytes are no document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Too long.
    #[error("decode a document of {0} bytes; at most {DOCUMENT_BYTES_MAX} are read")]
    Oversized(usize),
    /// No CBOR of this shape.
    #[error("decode a document: {0}; ask the node to encode it again")]
    Malformed(String),
    /// A version of the format that this build does not know.
    #[error(
        "decode a document of format {0}; this build reads format {DOCUMENT_FORMAT}, update it"
    )]
    Format(u8),
    /// Not the canonical encoding.
    #[error("decode a document: the encoding is not canonical; encode with `to_bytes`")]
    NotCanonical,
}

impl Document {
    /// Canonical CBOR.
    ///
    /// # Errors
    /// [`DocumentError::Malformed`] if the encoder fails, which it does for no value.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DocumentError> {
        serde_cbor::to_vec(self).map_err(|error| DocumentError::Malformed(error.to_string()))
    }

    /// Reads what [`Self::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`DocumentError`] says what is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(DocumentError::Oversized(bytes.len()));
        }
        let document: Self = serde_cbor::from_slice(bytes)
            .map_err(|error| DocumentError::Malformed(error.to_string()))?;
        if document.format != DOCUMENT_FORMAT {
            return Err(DocumentError::Format(document.format));
        }
        if document.to_bytes()? == bytes { Ok(document) } else { Err(DocumentError::NotCanonical) }
    }

    /// What a node commits to: BLAKE3 of the canonical bytes under a domain.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn output_root(&self) -> Result<[u8; 32], DocumentError> {
        let bytes = self.to_bytes()?;
        Ok(*blake3::Hasher::new().update(DOCUMENT_DOMAIN).update(&bytes).finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        Document {
            format: DOCUMENT_FORMAT,
            profile: [7; 32],
            url: "https://a.example/".into(),
            canonical_url: None,
            title: Some("Ein Titel".into()),
            author: None,
            published: Some("2026-01-02".into()),
            language: "deu".into(),
            licence: Some(Licence {
                url: "https://l.example/".into(),
                evidence: LicenceEvidence::JsonLd,
            }),
            tdm_reserved: false,
            text: "Ein Text.".into(),
            word_count: 2,
        }
    }

    #[test]
    fn round_trip() {
        let bytes = document().to_bytes().unwrap();
        assert_eq!(Document::from_bytes(&bytes).unwrap(), document());
    }

    #[test]
    fn every_field_is_under_the_root() {
        let root = document().output_root().unwrap();
        let changed = Document { word_count: 3, ..document() };
        assert_ne!(changed.output_root().unwrap(), root);
        let changed = Document { profile: [8; 32], ..document() };
        assert_ne!(changed.output_root().unwrap(), root);
    }

    #[test]
    fn decoding_is_strict() {
        let bytes = document().to_bytes().unwrap();
        assert!(Document::from_bytes(&[bytes.as_slice(), b"\0"].concat()).is_err());
        assert!(Document::from_bytes(&bytes[1..]).is_err());
        let newer = Document { format: 2, ..document() }.to_bytes().unwrap();
        assert!(matches!(Document::from_bytes(&newer), Err(DocumentError::Format(2))));
        // `word_count` (2, one byte) written with two bytes.
        let at = bytes.windows(11).position(|w| w == b"\x6aword_count").unwrap() + 11;
        let long = [&bytes[..at], &[0x18, 2], &bytes[at + 1..]].concat();
        assert!(Document::from_bytes(&long).is_err());
        assert!(matches!(
            Document::from_bytes(&vec![0; DOCUMENT_BYTES_MAX + 1]),
            Err(DocumentError::Oversized(_))
        ));
    }
}

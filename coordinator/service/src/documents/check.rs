//! Whether bytes are the document that was proven and accepted.
//!
//! The blob layer checks the hash; everything else that the proof or the task says of the
//! document is computed again here.

use openledger_refine::{Document, DocumentError, Signature, band_keys};
use openledger_wire::BlobId;
use thiserror::Error;

use super::follow::Proven;

/// Why bytes are not the document that was proven.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Other bytes than the id says.
    #[error("take document {proven}: the bytes have id {found}; get them from another holder")]
    OtherBytes {
        /// The id that was proven.
        proven: BlobId,
        /// The id of the bytes.
        found: BlobId,
    },
    /// Another length than the proof says.
    #[error("take a document of {found} bytes: its proof says {proven}; do not use it")]
    OtherLength {
        /// As proven.
        proven: u64,
        /// Of the bytes.
        found: u64,
    },
    /// No document.
    #[error(transparent)]
    NotADocument(#[from] DocumentError),
    /// About another page.
    #[error("take a document of {found:?}: its task is about {asked:?}; do not use it")]
    OtherPage {
        /// The task's address.
        asked: String,
        /// The document's, cut to 120 characters.
        found: String,
    },
    /// Made under another profile.
    #[error("take a document made under profile {found}: its task asks for {asked}; do not use it")]
    OtherProfile {
        /// The task's, as hex.
        asked: String,
        /// The document's, as hex.
        found: String,
    },
    /// Other near-duplicate keys than the proof says.
    #[error(
        "take a document: {differ} of its {bands} near-duplicate keys are not those of its proof; \
             do not use it"
    )]
    OtherBands {
        /// Keys that differ.
        differ: usize,
        /// Keys in all.
        bands: usize,
    },
}

impl CheckError {
    /// Stable code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OtherBytes { .. } => "other-bytes",
            Self::OtherLength { .. } => "other-length",
            Self::NotADocument(_) => "not-a-document",
            Self::OtherPage { .. } => "other-page",
            Self::OtherProfile { .. } => "other-profile",
            Self::OtherBands { .. } => "other-bands",
        }
    }
}

/// What is remembered of a document that is what its proof says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its title.
    pub title: Option<String>,
    /// ISO 639-3 code.
    pub language: String,
    /// Words of its text.
    pub words: u32,
    /// Its MinHash signature, for comparison with others.
    pub signature: Signature,
}

/// Checks bytes against what was proven of them. Costs some milliseconds for a long text.
///
/// # Errors
/// The first thing that does not fit.
pub fn check(bytes: &[u8], proven: &Proven) -> Result<Verified, CheckError> {
    let found = BlobId::of(bytes);
    if found != proven.document {
        return Err(CheckError::OtherBytes { proven: proven.document, found });
    }
    let found = bytes.len() as u64;
    if found != proven.bytes {
        return Err(CheckError::OtherLength { proven: proven.bytes, found });
    }
    let document = Document::from_bytes(bytes)?;
    if document.url != proven.url {
        let found = document.url.chars().take(120).collect();
        return Err(CheckError::OtherPage { asked: proven.url.clone(), found });
    }
    if document.profile != proven.profile {
        let (asked, found) = (hex::encode(proven.profile), hex::encode(document.profile));
        return Err(CheckError::OtherProfile { asked, found });
    }
    let signature = Signature::of_text(&document.text);
    let bands = band_keys(&signature);
    if bands[..] != proven.bands[..] {
        let same = bands.iter().zip(&proven.bands).filter(|(a, b)| a == b).count();
        let (differ, bands) = (bands.len().saturating_sub(same), bands.len());
        return Err(CheckError::OtherBands { differ, bands });
    }
    let Document { title, language, word_count, .. } = document;
    Ok(Verified { title, language, words: word_count, signature })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use openledger_refine::PROFILE_V1;
    use openledger_wire::{CampaignId, Height, NodeId, TaskId, UnixMs};

    /// A document with this text, and what an honest node proves of it.
    pub(in super::super) fn proven(text: &str) -> (Vec<u8>, Proven) {
        let document = Document {
            format: 1,
            profile: PROFILE_V1.profile_id(),
            url: "http://a.test/".to_owned(),
            canonical_url: None,
            title: Some("A title".to_owned()),
            author: None,
            published: None,
            language: "eng".to_owned(),
            licence: None,
            tdm_reserved: false,
            text: text.to_owned(),
            word_count: 3,
        };
        let bytes = document.to_bytes().unwrap();
        let proven = Proven {
            task: TaskId([1; 32]),
            campaign: CampaignId([2; 32]),
            height: Height(7),
            at: UnixMs(1),
            url: document.url,
            page: BlobId([3; 32]),
            profile: document.profile,
            document: BlobId::of(&bytes),
            bytes: bytes.len() as u64,
            bands: band_keys(&Signature::of_text(text)).to_vec(),
            fetchers: vec![NodeId([4; 32])],
            refiners: vec![NodeId([5; 32])],
        };
        (bytes, proven)
    }

    #[test]
    fn a_document_that_is_what_its_proof_says_is_taken() {
        let (bytes, proven) = proven("some words here");
        let verified = check(&bytes, &proven).unwrap();
        assert_eq!((verified.language.as_str(), verified.words), ("eng", 3));
        assert_eq!(verified.title.as_deref(), Some("A title"));
    }

    #[test]
    fn whatever_does_not_fit_is_refused_with_its_reason() {
        let (bytes, good) = proven("some words here");
        let code = |bytes: &[u8], proven: &Proven| {
            let error = check(bytes, proven).unwrap_err();
            assert!(!error.to_string().is_empty());
            error.code()
        };
        let (other, _) = proven("other words");
        assert_eq!(code(&other, &good), "other-bytes");
        assert_eq!(code(&bytes, &Proven { bytes: 9, ..good.clone() }), "other-length");
        let url = "http://b.test/".to_owned();
        assert_eq!(code(&bytes, &Proven { url, ..good.clone() }), "other-page");
        assert_eq!(code(&bytes, &Proven { profile: [9; 32], ..good.clone() }), "other-profile");
        let mut bands = good.bands.clone();
        bands[3] ^= 1;
        assert_eq!(code(&bytes, &Proven { bands, ..good.clone() }), "other-bands");
        let bands = good.bands[..13].to_vec();
        assert_eq!(code(&bytes, &Proven { bands, ..good.clone() }), "other-bands");
        let junk = b"no document";
        let named = Proven { document: BlobId::of(junk), bytes: 11, ..good };
        assert_eq!(code(junk, &named), "not-a-document");
    }
}

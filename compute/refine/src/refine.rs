//! The pipeline: a page and a profile in; a document or a reason, and a fingerprint, out.
//!
//! Every page has an outcome and a fingerprint, pages that are no documents too, because
//! "there is nothing here" is work that must be checkable. The only errors are calls
//! that no honest caller makes.

use url::Url;

use crate::document::{DOCUMENT_FORMAT, Document, DocumentError};
use crate::limits::URL_BYTES_MAX;
use crate::{Extract, Fingerprint, Page, Profile, Reason, StatusClass, extract, language, quality};

/// Domain of the root of a rejection.
const REJECTION_DOMAIN: &[u8] = b"openledger/refine/rejection/1\0";

/// What became of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is a document.
    Document(Box<Document>),
    /// It is none.
    Rejected(Reason),
}

/// Everything that refining a page gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refined {
    /// Document or reason.
    pub outcome: Outcome,
    /// For comparison with other fetches of the page.
    pub fingerprint: Fingerprint,
}

/// Why a page could not be refined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefineError {
    /// The page's address is not an absolute http(s) URL of bearable length.
    #[error(
        "refine {0:?}: not an absolute http(s) URL of at most {URL_BYTES_MAX} bytes; pass the final address of the fetch"
    )]
    Url(String),
    /// The document does not encode.
    #[error("refine a page: {0}")]
    Encode(#[from] DocumentError),
}

impl Outcome {
    /// What a node commits to: the root of the document, or a hash of the reason under
    /// its profile.
    ///
    /// # Errors
    /// [`RefineError::Encode`] as [`Document::output_root`].
    pub fn output_root(&self, profile: &Profile) -> Result<[u8; 32], RefineError> {
        match self {
            Self::Document(document) => Ok(document.output_root()?),
            Self::Rejected(reason) => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(REJECTION_DOMAIN);
                hasher.update(&profile.profile_id());
                hasher.update(&reason.code().to_le_bytes());
                Ok(*hasher.finalize().as_bytes())
            }
        }
    }
}

/// Refines `page` under `profile`.
///
/// # Errors
/// [`RefineError::Url`] for an address that no fetch ends at.
pub fn refine(page: &Page, profile: &Profile) -> Result<Outcome, RefineError> {
    check_url(&page.url)?;
    Ok(judge(page, extract(page, profile), profile))
}

/// Refines `page` under `profile` and sums it up for comparison with other fetches.
///
/// # Errors
/// As [`refine`].
pub fn process(page: &Page, profile: &Profile) -> Result<Refined, RefineError> {
    check_url(&page.url)?;
    let found = extract(page, profile);
    let fingerprint = Fingerprint::new(page, found.as_ref().ok(), profile.text_bytes_max);
    Ok(Refined { outcome: judge(page, found, profile), fingerprint })
}

fn check_url(url: &str) -> Result<(), RefineError> {
    let absolute = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if absolute && url.len() <= URL_BYTES_MAX {
        return Ok(());
    }
    Err(RefineError::Url(url.chars().take(80).collect()))
}

fn judge(page: &Page, found: Result<Extract, Reason>, profile: &Profile) -> Outcome {
    match document(page, found, profile) {
        Ok(document) => Outcome::Document(Box::new(document)),
        Err(reason) => Outcome::Rejected(reason),
    }
}

fn document(
    page: &Page,
    found: Result<Extract, Reason>,
    profile: &Profile,
) -> Result<Document, Reason> {
    if StatusClass::of(page.status) != StatusClass::Success {
        return Err(Reason::Status);
    }
    let found = found?;
    let hint = found.language_hint.as_deref();
    let language = language::identify(&found.text, hint, profile);
    // Too little text is the better reason, but the rules for text ask for the language.
    let word_count = quality::check(&found.text, language.unwrap_or_default(), profile)?;
    let language = language.ok_or(Reason::Language)?;
    Ok(Document {
        format: DOCUMENT_FORMAT,
        profile: profile.profile_id(),
        url: page.url.clone(),
        canonical_url: found.canonical_url,
        title: found.title,
        author: found.author,
        published: found.published,
        language: language.to_owned(),
        licence: found.licence,
        tdm_reserved: found.tdm_reserved,
        text: found.text,
        word_count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROFILE_V1;

    fn page(url: &str, status: u16) -> Page {
        Page {
            url: url.into(),
            status,
            content_type: Some("text/plain".into()),
            body: b"Gone fishing".to_vec(),
        }
    }

    #[test]
    fn rejections_have_roots_too() {
        let root = |reason| Outcome::Rejected(reason).output_root(&PROFILE_V1).unwrap();
        assert_ne!(root(Reason::Status), root(Reason::Empty));
        let other = Profile { words_min: 9, ..PROFILE_V1 };
        let elsewhere = Outcome::Rejected(Reason::Status).output_root(&other).unwrap();
        assert_ne!(root(Reason::Status), elsewhere);
    }

    #[test]
    fn error_pages_still_have_a_fingerprint() {
        let refined = process(&page("https://a.example/x", 404), &PROFILE_V1).unwrap();
        assert_eq!(refined.outcome, Outcome::Rejected(Reason::Status));
        assert_eq!(refined.fingerprint.status_class, StatusClass::ClientError);
    }

    #[test]
    fn addresses_are_checked() {
        for url in
            ["", "/x", "ftp://a.example/", &format!("http://a.example/{}", "x".repeat(9_000))]
        {
            assert!(matches!(refine(&page(url, 200), &PROFILE_V1), Err(RefineError::Url(_))));
        }
    }
}

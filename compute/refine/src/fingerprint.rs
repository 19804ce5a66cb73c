//! What a fetch saw, in a form that replicas of the fetch can be compared by.
//!
//! Two honest nodes that fetch one page minutes apart get different bytes (nonces,
//! advertisements, counters), so body hashes say nothing. They do get the same text
//! (shingle similarity), the same numbers (fluent poison changes those first, see
//! [`mod@crate::numerals`]), the same title and the same class of status. A node that
//! copies late or invents must hit all of them without having seen the page. Agreement
//! proves no truth: a site can show everyone the same lie, or one node another page,
//! which is why disagreement is never by itself proof of cheating.

use serde::{Deserialize, Serialize};

use crate::limits::FINGERPRINT_BYTES_MAX;
use crate::minhash::{LANES, Signature};
use crate::numerals::Numerals;
use crate::{Extract, Page, text};

/// Least shingle similarity of two fetches that agree, in permille. Pages that rotate
/// more than this between visits are volatile and belong in no Datanet.
pub const SIMILARITY_PERMILLE_MIN: u32 = 900;
/// Least agreement of the numerals, in permille: stricter than for the text, because a
/// poisoned copy changes few of them.
pub const NUMERAL_AGREEMENT_PERMILLE_MIN: u32 = 950;
/// Least ratio of the shorter to the longer text, in permille. Shingles are a set and do
/// not see a text pasted ten times; its length does.
pub const LENGTH_RATIO_PERMILLE_MIN: u32 = 800;

/// Version of the encoding.
const FORMAT: u8 = 1;

/// Domain of the title's hash.
const TITLE_DOMAIN: &[u8] = b"openledger/refine/title/1\0";

/// The class of an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StatusClass {
    /// Outside 100 to 599.
    Other = 0,
    /// 1xx.
    Informational = 1,
    /// 2xx.
    Success = 2,
    /// 3xx.
    Redirection = 3,
    /// 4xx.
    ClientError = 4,
    /// 5xx.
    ServerError = 5,
}

impl StatusClass {
    /// The class of a status code.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Other,
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            5 => Self::ServerError,
            _ => return None,
        })
    }
}

/// What a fingerprint is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Subject {
    /// The extracted text.
    Text = 0,
    /// The bytes of the body, where there is no text: only equal ones agree.
    Body = 1,
}

/// Sketch of a fetched page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// What the signature is of.
    pub subject: Subject,
    /// Class of the status.
    pub status_class: StatusClass,
    /// Hash of the lower-case title; zero when there is none.
    pub title_hash: [u8; 32],
    /// Length of the text, or of the body, in bytes; [`u32::MAX`] for more.
    pub text_len: u32,
    /// MinHash signature.
    pub signature: Signature,
    /// Numerals of the text.
    pub numerals: Numerals,
}

/// Whether two fetches saw the same page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They did.
    Agree,
    /// They did not, and this was seen first.
    Differ(Difference),
}

/// The first difference, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Different classes of status.
    Status,
    /// One has text, the other none.
    Subject,
    /// Different titles.
    Title,
    /// Lengths too far apart; the ratio in permille.
    Length(u32),
    /// Too little shared text; the similarity in permille.
    Text(u32),
    /// Other numerals; the agreement in permille.
    Numerals(u32),
}

/// Why bytes are no fingerprint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// Too long.
    #[error("decode a fingerprint of {0} bytes; at most {FINGERPRINT_BYTES_MAX} are read")]
    Oversized(usize),
    /// No CBOR of this shape.
    #[error("decode a fingerprint: {0}; ask the node to encode it again")]
    Malformed(String),
    /// A field out of its range.
    #[error("decode a fingerprint: field `{0}` is out of range; ask the node to encode it again")]
    Field(&'static str),
    /// Not the canonical encoding.
    #[error("decode a fingerprint: the encoding is not canonical; encode with `to_bytes`")]
    NotCanonical,
}

/// The encoded form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    format: u8,
    subject: u8,
    status_class: u8,
    truncated: bool,
    text_len: u32,
    #[serde(with = "serde_bytes")]
    title_hash: [u8; 32],
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
    #[serde(with = "serde_bytes")]
    numerals: Vec<u8>,
}

impl Fingerprint {
    /// The fingerprint of `page`, of which `found` was extracted, if anything was. At
    /// most `text_bytes_max` bytes of the text count.
    #[must_use]
    pub fn new(page: &Page, found: Option<&Extract>, text_bytes_max: u64) -> Self {
        let status_class = StatusClass::of(page.status);
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let Some(found) = found else {
            return Self {
                subject: Subject::Body,
                status_class,
                title_hash: [0; 32],
                text_len: length(page.body.len()),
                signature: Signature::of_body(&page.body),
                numerals: Numerals::default(),
            };
        };
        let head = text::head(&found.text, text_bytes_max);
        Self {
            subject: Subject::Text,
            status_class,
            title_hash: found.title.as_deref().map(hash_title).unwrap_or_default(),
            text_len: length(found.text.len()),
            signature: Signature::of_text(head),
            numerals: Numerals::of_text(head),
        }
    }

    /// Canonical CBOR.
    ///
    /// # Errors
    /// [`FingerprintError::Malformed`] if the encoder fails, which it does for no value.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FingerprintError> {
        let encoded = Encoded {
            format: FORMAT,
            subject: self.subject as u8,
            status_class: self.status_class as u8,
            truncated: self.numerals.truncated(),
            text_len: self.text_len,
            title_hash: self.title_hash,
            signature: self.signature.to_bytes(),
            numerals: self.numerals.hashes().iter().flat_map(|hash| hash.to_le_bytes()).collect(),
        };
        serde_cbor::to_vec(&encoded).map_err(|error| FingerprintError::Malformed(error.to_string()))
    }

    /// Reads what [`Self::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`FingerprintError`] says what is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FingerprintError> {
        if bytes.len() > FINGERPRINT_BYTES_MAX {
            return Err(FingerprintError::Oversized(bytes.len()));
        }
        let encoded: Encoded = serde_cbor::from_slice(bytes)
            .map_err(|error| FingerprintError::Malformed(error.to_string()))?;
        let field = FingerprintError::Field;
        if encoded.format != FORMAT {
            return Err(field("format"));
        }
        let subject = match encoded.subject {
            0 => Subject::Text,
            1 => Subject::Body,
            _ => return Err(field("subject")),
        };
        let (numerals, rest) = encoded.numerals.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(field("numerals"));
        }
        let numerals = numerals.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
        let decoded = Self {
            subject,
            status_class: StatusClass::from_code(encoded.status_class)
                .ok_or(field("status_class"))?,
            title_hash: encoded.title_hash,
            text_len: encoded.text_len,
            signature: Signature::from_bytes(&encoded.signature).ok_or(field("signature"))?,
            numerals: Numerals::from_parts(numerals, encoded.truncated).ok_or(field("numerals"))?,
        };
        if decoded.to_bytes()? == bytes { Ok(decoded) } else { Err(FingerprintError::NotCanonical) }
    }
}

/// Estimated Jaccard similarity of two texts' shingles in permille, from [`LANES`] lanes.
#[must_use]
pub fn similarity_permille(a: &Fingerprint, b: &Fingerprint) -> u32 {
    const { assert!(LANES == 112, "the thresholds were chosen for 112 lanes") };
    a.signature.similarity_permille(&b.signature)
}

/// Jaccard similarity of two texts' numerals, counted with multiplicity, in permille.
#[must_use]
pub fn numeral_agreement_permille(a: &Fingerprint, b: &Fingerprint) -> u32 {
    a.numerals.agreement_permille(&b.numerals)
}

/// Whether two fetches saw the same page; symmetric.
#[must_use]
pub fn agree(a: &Fingerprint, b: &Fingerprint) -> Agreement {
    let shorter = u64::from(a.text_len.min(b.text_len));
    let longer = u64::from(a.text_len.max(b.text_len)).max(1);
    let length = if a.text_len == b.text_len { 1_000 } else { (shorter * 1_000 / longer) as u32 };
    let similarity = similarity_permille(a, b);
    let numerals = numeral_agreement_permille(a, b);
    let similarity_min = match a.subject {
        Subject::Text => SIMILARITY_PERMILLE_MIN,
        Subject::Body => 1_000,
    };
    let difference = if a.status_class != b.status_class {
        Difference::Status
    } else if a.subject != b.subject {
        Difference::Subject
    } else if a.title_hash != b.title_hash {
        Difference::Title
    } else if length < LENGTH_RATIO_PERMILLE_MIN {
        Difference::Length(length)
    } else if similarity < similarity_min {
        Difference::Text(similarity)
    } else if numerals < NUMERAL_AGREEMENT_PERMILLE_MIN {
        Difference::Numerals(numerals)
    } else {
        return Agreement::Agree;
    };
    Agreement::Differ(difference)
}

fn hash_title(title: &str) -> [u8; 32] {
    let lower = title.to_lowercase();
    *blake3::Hasher::new().update(TITLE_DOMAIN).update(lower.as_bytes()).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(status: u16, title: &str, text: &str) -> Fingerprint {
        let page = Page {
            url: "https://a.example/".into(),
            status,
            content_type: Some("text/html".into()),
            body: text.as_bytes().to_vec(),
        };
        let found = Extract {
            text: text.into(),
            title: Some(title.into()),
            author: None,
            published: None,
            language_hint: None,
            canonical_url: None,
            licence: None,
            tdm_reserved: false,
        };
        Fingerprint::new(&page, Some(&found), 1 << 20)
    }

    fn prose(words: u32) -> String {
        (0..words)
            .map(|i| if i % 10 == 0 { format!("{i} ") } else { format!("word{} ", i * 7) })
            .collect()
    }

    #[test]
    fn rotating_furniture_does_not_matter() {
        let a = fingerprint(200, "T", &prose(900));
        let b = fingerprint(203, "t", &format!("{} read also this and that", prose(900)));
        assert_eq!(agree(&a, &b), Agreement::Agree);
        assert_eq!(agree(&a, &a), Agreement::Agree);
    }

    #[test]
    fn each_difference_is_seen() {
        let text = prose(900);
        let a = fingerprint(200, "T", &text);
        let differ = |b: &Fingerprint| match agree(&a, b) {
            Agreement::Agree => None,
            Agreement::Differ(difference) => Some(difference),
        };
        assert_eq!(differ(&fingerprint(404, "T", &text)), Some(Difference::Status));
        assert_eq!(differ(&fingerprint(200, "U", &text)), Some(Difference::Title));
        assert_eq!(differ(&fingerprint(200, "T", &text.repeat(2))), Some(Difference::Length(500)));
        let other: String = (0..900).map(|i| format!("other{} ", i * 7)).collect();
        assert!(matches!(differ(&fingerprint(200, "T", &other)), Some(Difference::Text(_))));
        let body = Fingerprint { subject: Subject::Body, ..a.clone() };
        assert_eq!(differ(&body), Some(Difference::Subject));
    }

    /// A copy in which a few numbers were swapped: nearly all shingles are the same.
    #[test]
    fn poisoned_numbers_are_seen() {
        let mut words: Vec<String> =
            (0..4_000).map(|i| format!("w{}", ["a", "b", "c"][i % 3].repeat(i % 17 + 1))).collect();
        let mut clean = Vec::new();
        for (i, word) in words.iter_mut().enumerate() {
            *word = format!("{}x{}", word.replace('w', ""), "y".repeat(i % 23));
            clean.push(word.clone());
            if i % 200 == 0 {
                clean.push(format!("{}", i * 3 + 1));
            }
        }
        let mut poisoned = clean.clone();
        let numbers: Vec<usize> =
            (0..poisoned.len()).filter(|&i| poisoned[i].parse::<u32>().is_ok()).collect();
        poisoned[numbers[3]] = "77777".into();
        poisoned[numbers[7]] = "88888".into();
        let (a, b) =
            (fingerprint(200, "T", &clean.join(" ")), fingerprint(200, "T", &poisoned.join(" ")));
        assert!(similarity_permille(&a, &b) >= SIMILARITY_PERMILLE_MIN);
        assert!(matches!(agree(&a, &b), Agreement::Differ(Difference::Numerals(_))));
    }

    #[test]
    fn pages_without_text_agree_by_bytes() {
        let page = |body: &[u8]| Page {
            url: "https://a.example/x.png".into(),
            status: 200,
            content_type: Some("image/png".into()),
            body: body.to_vec(),
        };
        let of = |body: &[u8]| Fingerprint::new(&page(body), None, 1 << 20);
        assert_eq!(agree(&of(b"abc"), &of(b"abc")), Agreement::Agree);
        assert!(matches!(agree(&of(b"abc"), &of(b"abd")), Agreement::Differ(Difference::Text(_))));
        assert_eq!(agree(&of(b""), &of(b"")), Agreement::Agree);
    }

    #[test]
    fn decoding_is_strict() {
        let fingerprint = fingerprint(200, "T", &prose(50));
        let bytes = fingerprint.to_bytes().unwrap();
        assert_eq!(Fingerprint::from_bytes(&bytes).unwrap(), fingerprint);
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Fingerprint::from_bytes(&longer).is_err());
        assert!(Fingerprint::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Fingerprint::from_bytes(&[]).is_err());
        assert!(matches!(
            Fingerprint::from_bytes(&vec![0; FINGERPRINT_BYTES_MAX + 1]),
            Err(FingerprintError::Oversized(_))
        ));
    }

    #[test]
    fn the_largest_fingerprint_fits_its_limit() {
        let numbers: String = (0..9_000).map(|i| format!("{i} ")).collect();
        let bytes = fingerprint(200, "T", &numbers).to_bytes().unwrap();
        assert!(bytes.len() <= FINGERPRINT_BYTES_MAX, "{}", bytes.len());
        assert!(Fingerprint::from_bytes(&bytes).is_ok());
    }
}

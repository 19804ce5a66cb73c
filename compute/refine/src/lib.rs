//! Turns fetched pages into documents: the same bytes on every machine.
//!
//! Bytes in, bytes out. There is no socket, clock, disk or randomness here, no map
//! whose order depends on the process, and no floating-point sum whose order could
//! differ: an auditor who runs [`refine`] on the same [`Page`] under the same
//! [`Profile`] must get the same [`Outcome::output_root`], or somebody lied.
//!
//! The steps, each in its module: [`mod@page`] sorts by media type, `charset` decodes,
//! `markup` parses within limits, `metadata` and `jsonld` read what the page says of
//! itself, [`mod@extract`] finds the main text, `text` tidies it, [`redact`] hides
//! addresses of people and machines, `language` names the language, [`quality`] and
//! `repetition` reject what nobody wants to read, [`minhash`] and [`numerals`] sum up
//! what the page says, and [`fingerprint`] compares two fetches of it.

pub mod document;
pub mod duplicates;
pub mod extract;
pub mod fingerprint;
pub mod limits;
pub mod minhash;
pub mod numerals;
pub mod page;
pub mod profile;
pub mod quality;
pub mod reason;
pub mod redact;
pub mod refine;

mod charset;
mod jsonld;
mod language;
mod markup;
mod metadata;
mod repetition;
mod text;

pub use document::{Document, DocumentError, Licence, LicenceEvidence};
pub use duplicates::{DuplicateIndex, band_keys};
pub use extract::{Extract, extract};
pub use fingerprint::{
    Agreement, Difference, Fingerprint, FingerprintError, StatusClass, Subject, agree,
    numeral_agreement_permille, similarity_permille,
};
pub use minhash::{BANDS, LANES, ROWS_PER_BAND, Signature};
pub use page::{Media, Page};
pub use profile::{PROFILE_V1, Profile};
pub use reason::Reason;
pub use refine::{Outcome, RefineError, Refined, process, refine};

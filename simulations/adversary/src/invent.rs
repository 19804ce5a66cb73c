//! Fluent text that nobody wrote and no site serves.
//!
//! It is meant to pass every filter for form and quality, because such text is the cheapest lie
//! in a network that pays for pages. Seeded by the address and the cheater, so that two cheaters
//! never agree by chance.

use openledger_refine::{Outcome, PROFILE_V1, Page, band_keys, process};
use openledger_wire::proof::RefineOutput;
use openledger_wire::worker::FetchedPage;
use openledger_wire::{Blob, BlobId, List, Text};
use thiserror::Error;

use crate::limits;

const SUBJECTS: [&str; 12] = [
    "the planner",
    "a background process",
    "the administrator",
    "every session",
    "the archive of write-ahead logs",
    "an index on the second column",
    "the maintenance worker",
    "a prepared statement",
    "the replication slot",
    "the default configuration",
    "a foreign table",
    "the visibility map",
];
const VERBS: [&str; 12] = [
    "keeps track of",
    "is told to release",
    "never has to read",
    "depends on",
    "can be asked to rebuild",
    "waits for",
    "should be given access to",
    "is usually faster than",
    "records the state of",
    "may overwrite",
    "has been designed to protect",
    "gives back",
];
const OBJECTS: [&str; 12] = [
    "the pages that were changed since the last checkpoint",
    "all rows that are still visible to somebody",
    "the memory that the operating system lends it",
    "a list of relations that have to be with the same owner",
    "the oldest transaction that might need them",
    "that part of the cache which nobody has used for a while",
    "the statistics of the columns that appear in the condition",
    "the locks of the statement before",
    "a copy of the catalogue on the standby server",
    "the files of the table and of its indexes",
    "the result of the function that was called first",
    "the certificates which the client sends",
];
const ENDINGS: [&str; 10] = [
    "when the load of the machine is low",
    "unless somebody has changed the setting for this database",
    "and this is what most people want",
    "before the next vacuum can be of use to it",
    "as the example in the following section shows",
    "even if the connection is lost in the middle of a command",
    "because nothing else would be safe after a crash",
    "if the value of the parameter is higher than that of its neighbour",
    "which takes about as long as a sequential scan of half the table",
    "so that no reader has to wait for a writer",
];

/// Why something could not be invented.
#[derive(Debug, Error)]
#[non_exhaustive]
#[error("invent a page: {0}")]
pub struct InventError(pub String);

/// Invents pages and documents.
#[derive(Clone, Debug)]
pub struct Inventor {
    salt: [u8; 32],
}

impl Inventor {
    /// An inventor of its own, told apart from others by its salt.
    #[must_use]
    pub const fn new(salt: [u8; 32]) -> Self {
        Self { salt }
    }

    /// A page as the address might have served it, with the fingerprint of its text.
    ///
    /// # Errors
    /// An address that no page can have.
    pub fn page(&self, url: &str) -> Result<FetchedPage, InventError> {
        let body = self.html(url);
        let content_type = "text/html; charset=utf-8";
        let page = Page {
            url: url.to_owned(),
            status: 200,
            content_type: Some(content_type.to_owned()),
            body: body.clone(),
        };
        let refined = process(&page, &PROFILE_V1).map_err(because)?;
        let fingerprint = refined.fingerprint.to_bytes().map_err(because)?;
        Ok(FetchedPage {
            final_url: Text::new(url).map_err(because)?,
            status: 200,
            content_type: Text::clipped(content_type),
            headers: List::new(vec![(Text::clipped("content-type"), Text::clipped(content_type))])
                .unwrap_or_default(),
            signals: 0,
            address: Text::clipped("127.0.0.1"),
            body: Blob::new(body).map_err(because)?,
            fingerprint: Blob::new(fingerprint).map_err(because)?,
        })
    }

    /// What refining such a page would have given, with the document's bytes.
    ///
    /// # Errors
    /// An address that no page can have.
    pub fn document(&self, url: &str) -> Result<(RefineOutput, Vec<u8>), InventError> {
        let page = Page {
            url: url.to_owned(),
            status: 200,
            content_type: Some("text/html".to_owned()),
            body: self.html(url),
        };
        let refined = process(&page, &PROFILE_V1).map_err(because)?;
        let Outcome::Document(document) = refined.outcome else {
            return Err(InventError(format!("{:?}", refined.outcome)));
        };
        let bytes = document.to_bytes().map_err(because)?;
        let output = RefineOutput::Document {
            document: BlobId::of(&bytes),
            document_bytes: bytes.len() as u64,
            bands: List::new(band_keys(&refined.fingerprint.signature)).unwrap_or_default(),
        };
        Ok((output, bytes))
    }

    fn html(&self, url: &str) -> Vec<u8> {
        let mut dice = Dice::new(&self.salt, url);
        let title = format!("How {} {}", dice.pick(&SUBJECTS), dice.pick(&ENDINGS));
        let mut text = format!(
            "<!DOCTYPE html><html lang=\"en\"><head><title>{title}</title></head><body><article><h1>{title}</h1>"
        );
        for at in 0..limits::SENTENCES {
            if at % limits::PARAGRAPH_SENTENCES == 0 {
                text.push_str(if at == 0 { "<p>" } else { "</p>\n<p>" });
            }
            text.push_str(&sentence(&mut dice));
        }
        text.push_str("</p></article></body></html>");
        text.into_bytes()
    }
}

fn because(error: impl std::fmt::Display) -> InventError {
    InventError(error.to_string())
}

fn sentence(dice: &mut Dice) -> String {
    let subject = dice.pick(&SUBJECTS);
    let (verb, object, ending) = (dice.pick(&VERBS), dice.pick(&OBJECTS), dice.pick(&ENDINGS));
    let mut letters = subject.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let subject: String = first.into_iter().chain(letters).collect();
    let number = dice.next() % 9_000 + 12;
    match dice.next() % 4 {
        0 => format!("{subject} {verb} {object}, {ending}. "),
        1 => format!("{subject} {verb} {object} {ending}. "),
        2 => format!("In {number} of these cases {} {verb} {object}. ", dice.pick(&SUBJECTS)),
        _ => format!("{subject} {verb} {object} after {number} milliseconds, {ending}. "),
    }
}

/// Chance that a seed determines.
struct Dice {
    bytes: blake3::OutputReader,
}

impl Dice {
    fn new(salt: &[u8; 32], url: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(salt);
        hasher.update(url.as_bytes());
        Self { bytes: hasher.finalize_xof() }
    }

    fn next(&mut self) -> u64 {
        let mut eight = [0; 8];
        self.bytes.fill(&mut eight);
        u64::from_le_bytes(eight)
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        let at = self.next() % (words.len() as u64).max(1);
        usize::try_from(at).ok().and_then(|at| words.get(at)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_refine::{Agreement, Fingerprint, agree};

    const URL: &str = "http://docs01.devnet/a.html";

    #[test]
    fn invented_pages_pass_every_filter_and_agree_with_nobody() {
        for n in 0..40 {
            let url = format!("http://docs01.devnet/{n}.html");
            let (output, bytes) = Inventor::new([n; 32]).document(&url).unwrap();
            assert!(matches!(output, RefineOutput::Document { .. }), "{output:?}");
            assert!(bytes.len() > 2_000);
        }
        let read = |salt| {
            let page = Inventor::new([salt; 32]).page(URL).unwrap();
            Fingerprint::from_bytes(&page.fingerprint).unwrap()
        };
        assert!(matches!(agree(&read(1), &read(1)), Agreement::Agree));
        assert!(!matches!(agree(&read(1), &read(2)), Agreement::Agree));
    }

    #[test]
    fn the_same_cheater_tells_the_same_lie() {
        let inventor = Inventor::new([7; 32]);
        assert_eq!(inventor.page(URL).unwrap(), inventor.page(URL).unwrap());
    }
}

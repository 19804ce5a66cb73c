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

const QUALITIES: [&str; 24] = [
    "shared",
    "idle",
    "partial",
    "stored",
    "nested",
    "visible",
    "remote",
    "temporary",
    "sorted",
    "frozen",
    "logical",
    "default",
    "unlogged",
    "prepared",
    "recursive",
    "parallel",
    "trusted",
    "inherited",
    "deferred",
    "compressed",
    "foreign",
    "primary",
    "stale",
    "materialised",
];
const THINGS: [&str; 40] = [
    "planner",
    "checkpoint",
    "relation",
    "tablespace",
    "snapshot",
    "cursor",
    "trigger",
    "index",
    "buffer",
    "standby",
    "constraint",
    "sequence",
    "transaction",
    "catalogue",
    "lock",
    "replica",
    "partition",
    "statistic",
    "operator",
    "archive",
    "vacuum",
    "session",
    "privilege",
    "schema",
    "segment",
    "timeline",
    "subscription",
    "aggregate",
    "column",
    "backup",
    "listener",
    "journal",
    "locale",
    "domain",
    "role",
    "histogram",
    "wrapper",
    "publication",
    "savepoint",
    "condition",
];
const ACTIONS: [&str; 24] = [
    "reads",
    "releases",
    "protects",
    "rebuilds",
    "describes",
    "overwrites",
    "follows",
    "delays",
    "measures",
    "restores",
    "copies",
    "extends",
    "hides",
    "replaces",
    "checks",
    "updates",
    "joins",
    "narrows",
    "postpones",
    "records",
    "inspects",
    "shortens",
    "announces",
    "keeps",
];
const MANNERS: [&str; 20] = [
    "usually",
    "quickly",
    "silently",
    "twice",
    "carefully",
    "rarely",
    "again",
    "immediately",
    "seldom",
    "safely",
    "often",
    "first",
    "later",
    "together",
    "fully",
    "lazily",
    "early",
    "correctly",
    "cheaply",
    "always",
];
const PLACES: [&str; 12] = [
    "behind", "before", "beside", "within", "after", "without", "through", "near", "above",
    "below", "during", "across",
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
        let title = format!("How a {} {} every {}", dice.thing(), dice.action(), dice.thing());
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

/// Many short words in few forms: text that repeats whole phrases would be filtered out.
fn sentence(dice: &mut Dice) -> String {
    let (a, b, c, d) = (dice.thing(), dice.thing(), dice.thing(), dice.thing());
    let (does, also, how) = (dice.action(), dice.action(), dice.pick(&MANNERS));
    let (one, other, place) = (dice.pick(&QUALITIES), dice.pick(&QUALITIES), dice.pick(&PLACES));
    let number = dice.next() % 9_000 + 12;
    match dice.next() % 5 {
        0 => format!("The {one} {a} {does} {how} and {also} the {other} {b} {place} that {c}. "),
        1 => format!("A {a} of {number} {d}s {does} {how}, while its {one} {b} {also} {c} data. "),
        2 => {
            format!("With {other} {a}s, each {b} {place} the {c} {also} {how} what a {d} {does}. ")
        }
        3 => format!("To be {one}, every {a} {does} some {other} {b} {place} {number} {c}s. "),
        _ => format!(
            "That {a} {also} {how}: the {b} {does} {number} rows of a {one} {c} {place} it. "
        ),
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

    fn thing(&mut self) -> &'static str {
        self.pick(&THINGS)
    }

    fn action(&mut self) -> &'static str {
        self.pick(&ACTIONS)
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

//! Whole pages through the whole pipeline.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![expect(clippy::print_stdout, reason = "skipped and scored tests say so")]

mod charsets;
mod golden;
mod hostile;
mod pages;
mod properties;
mod scored;
mod volatile;

use openledger_refine::{Document, Outcome, PROFILE_V1, Page, refine};

/// A successfully fetched page.
fn page(content_type: &str, body: impl Into<Vec<u8>>) -> Page {
    Page {
        url: "https://www.example.org/2026/page".into(),
        status: 200,
        content_type: Some(content_type.into()),
        body: body.into(),
    }
}

/// The document that a page becomes; fails the test if it becomes none.
fn document(page: &Page) -> Document {
    match refine(page, &PROFILE_V1).unwrap() {
        Outcome::Document(document) => *document,
        Outcome::Rejected(reason) => panic!("rejected: {reason}"),
    }
}

const ARTICLE: &[u8] = include_bytes!("../fixtures/article.html");
const MANUAL: &[u8] = include_bytes!("../fixtures/manual.html");
const FORUM: &[u8] = include_bytes!("../fixtures/forum.html");

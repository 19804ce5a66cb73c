//! Extraction scored on real pages, where a folder with them is named.
//!
//! `OPENLEDGER_TEST_DATA` names a folder with `extraction/scrapinghub/truth.jsonl` (`id`,
//! `url`, `main_content`) and `html/ID.html.gz`. The pages belong to others and are not
//! in this repository; without them the test says that it skipped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use openledger_refine::{Outcome, PROFILE_V1, Page, Reason, extract, process};

/// Words of a shingle that the benchmark compares.
const SHINGLE_WORDS: usize = 4;
const MEAN_F1_MIN: f64 = 0.90;

fn shingles(text: &str) -> BTreeMap<Vec<&str>, u32> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .collect();
    let mut counts = BTreeMap::new();
    let width = SHINGLE_WORDS.min(words.len()).max(1);
    for shingle in words.windows(width) {
        *counts.entry(shingle.to_vec()).or_insert(0) += 1;
    }
    counts
}

/// F1 over shingles with multiplicity.
fn f1(found: &str, truth: &str) -> f64 {
    let (found, truth) = (shingles(found), shingles(truth));
    let shared: u32 =
        found.iter().map(|(shingle, count)| *count.min(truth.get(shingle).unwrap_or(&0))).sum();
    let total: u32 = found.values().chain(truth.values()).sum();
    if total == 0 { 1.0 } else { 2.0 * f64::from(shared) / f64::from(total) }
}

/// What a set of pages came to.
#[derive(Default)]
struct Tally {
    scores: Vec<f64>,
    documents: u32,
    rejected: BTreeMap<String, u32>,
    extracting: Duration,
}

impl Tally {
    fn mean(&self) -> f64 {
        self.scores.iter().sum::<f64>() / self.scores.len().max(1) as f64
    }
}

/// Runs every page of one set; `None` where there is none.
fn run(set: &str) -> Option<Tally> {
    let Some(root) = std::env::var_os("OPENLEDGER_TEST_DATA") else {
        println!("skipped {set}: OPENLEDGER_TEST_DATA names no folder with pages");
        return None;
    };
    let folder = PathBuf::from(root).join("extraction").join(set);
    let Ok(truth) = File::open(folder.join("truth.jsonl")) else {
        println!("skipped {set}: no truth.jsonl in {}", folder.display());
        return None;
    };
    let mut tally = Tally::default();
    for line in BufReader::new(truth).lines() {
        let record: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let file = File::open(folder.join(format!("html/{}.html.gz", field("id")))).unwrap();
        let mut body = Vec::new();
        GzDecoder::new(file).read_to_end(&mut body).unwrap();
        let content_type = Some("text/html; charset=utf-8".to_owned());
        let url = Some(field("url")).filter(|url| url.starts_with("http"));
        let url = url.unwrap_or_else(|| "https://www.example.org/".to_owned());
        let page = Page { url, status: 200, content_type, body };
        let start = Instant::now();
        let found = extract(&page, &PROFILE_V1);
        tally.extracting += start.elapsed();
        assert_ne!(found.as_ref().err(), Some(&Reason::Extractor), "{}", page.url);
        let text = found.map(|found| found.text).unwrap_or_default();
        tally.scores.push(f1(&text, &field("main_content")));
        match process(&page, &PROFILE_V1).unwrap().outcome {
            Outcome::Document(_) => tally.documents += 1,
            Outcome::Rejected(reason) => {
                *tally.rejected.entry(reason.to_string()).or_insert(0) += 1;
            }
        }
    }
    let pages = tally.scores.len();
    let per_second = pages as f64 / tally.extracting.as_secs_f64();
    println!("{set}: {pages} pages, mean F1 {:.4}, {per_second:.0} pages/s", tally.mean());
    println!("{set}: {} documents, rejected: {:?}", tally.documents, tally.rejected);
    Some(tally)
}

#[test]
fn scrapinghub_articles() {
    if let Some(tally) = run("scrapinghub") {
        let mean = tally.mean();
        assert!(mean >= MEAN_F1_MIN, "mean F1 {mean:.4} is below {MEAN_F1_MIN}");
    }
}

/// Seven types of pages, not only articles; this set is scored by words elsewhere, so
/// here it only has to go through.
#[test]
fn wcxb_pages() {
    if let Some(tally) = run("wcxb") {
        assert!(tally.documents > 0);
    }
}

//! `documents`: the documents of a campaign as JSON lines.
//!
//! One line for each document that was collected and is no near-duplicate of an earlier one. A
//! file is written beside its place and put there when it is whole.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value, json};
use url::Url;

use super::remote::Remote;
use super::{DocumentsArgs, print};
use crate::limits;

/// Fields of a line that come from the document itself...
const OF_CONTENT: [&str; 11] = [
    "url",
    "title",
    "language",
    "text",
    "licence",
    "tdm_reserved",
    "canonical_url",
    "author",
    "published",
    "words",
    "profile",
];
/// ...and those that come from its row.
const OF_ROW: [&str; 11] = [
    "document",
    "bytes",
    "page",
    "task",
    "campaign",
    "height",
    "at",
    "fetched_by",
    "refined_by",
    "duplicates",
    "duplicate_documents",
];

/// What was exported and what was not.
#[derive(Debug, Default)]
struct Summary {
    documents: u64,
    duplicates: u64,
    waiting: u64,
    failed: u64,
    refused: u64,
}

impl Summary {
    /// Counts a row; tells whether its document is exported.
    fn count(&mut self, row: &Value) -> bool {
        let is_duplicate = !row["duplicate_of"].is_null();
        let count = match row["state"].as_str() {
            Some("collected") if is_duplicate => &mut self.duplicates,
            Some("collected") if row["compared"] == true => {
                self.documents += 1;
                return true;
            }
            Some("failed") => &mut self.failed,
            Some("refused") => &mut self.refused,
            _ => &mut self.waiting,
        };
        *count += 1;
        false
    }

    fn to_json(&self, out: Option<&Path>) -> Value {
        json!({
            "documents": self.documents,
            "duplicates_left_out": self.duplicates,
            "waiting": self.waiting,
            "failed": self.failed,
            "refused": self.refused,
            "file": out.map(|path| path.display().to_string()),
        })
    }
}

pub(super) async fn export(args: DocumentsArgs) -> anyhow::Result<()> {
    let remote = Remote::of(&args.at)?;
    let mut summary = Summary::default();
    match &args.out {
        Some(path) => {
            let part = part_of(path);
            let failed = || format!("write {}", part.display());
            let file = File::create(&part).with_context(failed)?;
            let mut out = BufWriter::new(file);
            write(&remote, &args.campaign, &mut out, &mut summary).await?;
            let file = out.into_inner().map_err(std::io::IntoInnerError::into_error);
            file.and_then(|file| file.sync_all()).with_context(failed)?;
            std::fs::rename(&part, path)
                .with_context(|| format!("put the documents to {}", path.display()))?;
            print(&summary.to_json(Some(path)), args.at.json)
        }
        None => {
            write(&remote, &args.campaign, &mut std::io::stdout(), &mut summary).await?;
            // Standard output holds documents and nothing else.
            let text = summary.to_json(None);
            writeln!(std::io::stderr(), "{text}").context("print the summary")
        }
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Writes all lines of a campaign, page by page.
async fn write(
    remote: &Remote,
    campaign: &str,
    out: &mut impl std::io::Write,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let page = remote.get(&page_url(remote, campaign, after)?).await?;
        let odd = "read the coordinator's list of documents; it may be of another version";
        let rows = page["documents"].as_array().context(odd)?;
        let terms = &page["campaign"]["terms"];
        let kept: Vec<&Value> = rows.iter().filter(|row| summary.count(row)).collect();
        let lines = stream::iter(kept).map(|row| line(remote, row, terms));
        let mut lines = lines.buffered(limits::EXPORT_READS_MAX);
        while let Some(mut line) = lines.try_next().await? {
            line.push('\n');
            out.write_all(line.as_bytes()).context("write a document")?;
        }
        out.flush().context("write documents")?;
        if page["last"] == true {
            return Ok(());
        }
        after = page["next"].as_u64().filter(|next| *next > after).context(odd)?;
    }
}

fn page_url(remote: &Remote, campaign: &str, after: u64) -> anyhow::Result<String> {
    let (base, limit) = (remote.url("documents"), limits::ROWS_SHOWN_MAX.to_string());
    let query = [("campaign", campaign), ("after", &after.to_string()), ("limit", &limit)];
    let url = Url::parse_with_params(&base, query);
    Ok(url.with_context(|| format!("use the address {base}"))?.into())
}

/// One line: the document with where it comes from.
async fn line(remote: &Remote, row: &Value, terms: &Value) -> anyhow::Result<String> {
    let id = row["document"].as_str().context("read a row without a document's id")?;
    let document = remote.get(&remote.url(&format!("documents/{id}"))).await?;
    let mut fields = Map::new();
    for (names, of) in [(OF_CONTENT, &document["content"]), (OF_ROW, row)] {
        fields.extend(names.map(|name| (name.to_owned(), of[name].clone())));
    }
    fields.insert("terms".to_owned(), terms.clone());
    serde_json::to_string(&fields).context("write a document as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compared_originals_are_exported_and_all_are_counted() {
        let row = |state: &str, compared: bool, of: Option<&str>| json!({ "state": state, "compared": compared, "duplicate_of": of });
        let mut summary = Summary::default();
        assert!(summary.count(&row("collected", true, None)));
        assert!(!summary.count(&row("collected", true, Some("ab"))));
        assert!(!summary.count(&row("collected", false, None)));
        for state in ["waiting", "failed", "refused"] {
            assert!(!summary.count(&row(state, false, None)));
        }
        let counts = summary.to_json(None);
        assert_eq!(counts["documents"], 1);
        assert_eq!(counts["waiting"], 2, "what is not compared yet waits");
        assert_eq!([&counts["duplicates_left_out"], &counts["failed"], &counts["refused"]], [1; 3]);
    }
}

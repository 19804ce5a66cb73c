//! Printing: text for people, JSON for programs, errors with cause and remedy.

use std::io::{self, Write};

use serde::Serialize;

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    pub(super) json: bool,
}

impl Out {
    /// A value for programs, or the same as text for people.
    pub(super) fn show<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        if self.json { self.json(value) } else { self.text(&text(value)) }
    }

    /// One JSON object on one line.
    pub(super) fn json<T: Serialize>(self, value: &T) -> anyhow::Result<()> {
        self.text(&serde_json::to_string(value)?)
    }

    /// Text for people. A reader that went away is no error.
    pub(super) fn text(self, text: &str) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A note that is no result.
    pub(super) fn note(self, text: &str) {
        // There is nowhere to report that standard error cannot be written to.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// An error: what failed, why, and what to do.
    pub(super) fn error(self, error: &anyhow::Error) {
        let message = sentence(error);
        if self.json {
            let value = serde_json::json!({"error": {"message": message}});
            let _ = self.json(&value);
        }
        self.note(&format!("error: {message}"));
    }
}

/// The causes of an error in one sentence; each says a thing once.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::from("failed to ");
    let mut first = true;
    for cause in error.chain() {
        let cause = cause.to_string();
        // Transparent errors repeat their source.
        if text.contains(&cause) {
            continue;
        }
        if !first {
            text.push_str(": ");
        }
        text.push_str(&cause);
        first = false;
    }
    text
}

/// Rows of a table with columns as wide as they need be.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_errors_say_things_once() {
        let rows = [["a", "long"], ["longer", "b"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        assert_eq!(table(&rows), "a       long\nlonger  b\n");
        let error = anyhow::anyhow!("it is full").context("write the file");
        assert_eq!(sentence(&error), "failed to write the file: it is full");
        let same = anyhow::anyhow!("read x").context("read x");
        assert_eq!(sentence(&same), "failed to read x");
    }
}

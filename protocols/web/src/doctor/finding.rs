//! One thing that was looked at.

use serde::{Deserialize, Serialize};

use crate::limits;

/// How bad a finding is, from nothing to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Could not be looked at, because of something that another finding tells.
    Skipped,
    /// Works, but less well than it could, or not for long.
    Warning,
    /// Stops the program, or keeps it from its work.
    Error,
    /// The check itself failed: nothing is known.
    Broken,
}

impl Severity {
    /// The mark in front of a line of text.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Skipped => "skip",
            Self::Warning => "WARN",
            Self::Error => "FAIL",
            Self::Broken => "????",
        }
    }
}

/// One thing that was looked at: found, cause, mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Stable code of the check, in kebab case. Several findings may share one.
    pub code: String,
    /// The network that it is about, where a program is in several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Whether nothing is to be done.
    pub ok: bool,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, in one sentence.
    pub found: String,
    /// Why it is so; none where nothing is wrong.
    pub cause: Option<String>,
    /// What to do about it, commands in backquotes; none where nothing is wrong.
    pub mend: Option<String>,
}

impl Finding {
    /// Nothing is wrong.
    #[must_use]
    pub fn fine(code: &str, found: impl AsRef<str>) -> Self {
        Self::of(code, Severity::Fine, found.as_ref(), None)
    }

    /// It could not be looked at; `found` says because of what.
    #[must_use]
    pub fn skipped(code: &str, found: impl AsRef<str>) -> Self {
        Self::of(code, Severity::Skipped, found.as_ref(), None)
    }

    /// Something that should be mended some time.
    #[must_use]
    pub fn warning(
        code: &str,
        found: impl AsRef<str>,
        cause: impl AsRef<str>,
        mend: impl AsRef<str>,
    ) -> Self {
        let why = Some((cause.as_ref(), mend.as_ref()));
        Self::of(code, Severity::Warning, found.as_ref(), why)
    }

    /// Something that must be mended first.
    #[must_use]
    pub fn error(
        code: &str,
        found: impl AsRef<str>,
        cause: impl AsRef<str>,
        mend: impl AsRef<str>,
    ) -> Self {
        let why = Some((cause.as_ref(), mend.as_ref()));
        Self::of(code, Severity::Error, found.as_ref(), why)
    }

    /// The check itself failed.
    #[must_use]
    pub(super) fn broken(code: &str, cause: &str) -> Self {
        let mend = "run doctor again; if it stays so, report it with the output of `--json`";
        let found = "this check failed, so nothing is known";
        Self::of(code, Severity::Broken, found, Some((cause, mend)))
    }

    fn of(code: &str, severity: Severity, found: &str, why: Option<(&str, &str)>) -> Self {
        Self {
            code: code.to_owned(),
            network: None,
            ok: severity <= Severity::Skipped,
            severity,
            found: plain(found),
            cause: why.map(|(cause, _)| plain(cause)),
            mend: why.map(|(_, mend)| plain(mend)),
        }
    }

    /// The same, about a network.
    #[must_use]
    pub fn of_network(mut self, name: &str) -> Self {
        self.network = Some(plain(name));
        self
    }
}

/// Text that a terminal shows and nothing else: servers' words come in here too.
fn plain(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limits::FINDING_CHARS_MAX)
        .collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_strangers_cannot_steer_a_terminal_or_flood_it() {
        let finding = Finding::warning("x", "a\u{1b}[2J\nb", "c".repeat(1 << 20), "d");
        assert_eq!(finding.found, "a [2J b");
        assert_eq!(finding.cause.map(|cause| cause.len()), Some(limits::FINDING_CHARS_MAX));
        assert!(!finding.ok);
    }

    #[test]
    fn what_programs_read_stays_as_it_is() {
        let finding = Finding::error("port", "taken", "because", "do").of_network("main");
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(
            json,
            r#"{"code":"port","network":"main","ok":false,"severity":"error","found":"taken","cause":"because","mend":"do"}"#
        );
        let fine = serde_json::to_value(Finding::fine("port", "free")).unwrap();
        let expected = serde_json::json!({
            "code": "port", "ok": true, "severity": "fine", "found": "free",
            "cause": null, "mend": null,
        });
        assert_eq!(fine, expected);
    }
}

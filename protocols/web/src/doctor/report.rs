//! All findings together: as text, as JSON (by serde), as an exit code.

use serde::{Deserialize, Serialize};

use super::finding::{Finding, Severity};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worst of all findings.
    pub worst: Severity,
    /// All of them, in the order of the checks.
    pub checks: Vec<Finding>,
}

impl Report {
    /// A report of these findings.
    #[must_use]
    pub fn new(checks: Vec<Finding>) -> Self {
        let worst = checks.iter().map(|one| one.severity).max().unwrap_or(Severity::Fine);
        Self { worst, checks }
    }

    /// 0 if all is well, 1 if there are warnings only, 2 if something stops the program or keeps
    /// it from its work, 3 if a check itself failed.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.worst {
            Severity::Fine | Severity::Skipped => 0,
            Severity::Warning => 1,
            Severity::Error => 2,
            Severity::Broken => 3,
        }
    }

    /// For a terminal: one line per finding, cause and mend below those that need them.
    #[must_use]
    pub fn text(&self) -> String {
        let name = |one: &Finding| match &one.network {
            Some(network) => format!("{} ({network})", one.code),
            None => one.code.clone(),
        };
        let names: Vec<String> = self.checks.iter().map(name).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (one, name) in self.checks.iter().zip(&names) {
            let mark = one.severity.mark();
            text.push_str(&format!("{mark:<4}  {name:<width$}  {}\n", one.found));
            for (word, words) in [("cause", &one.cause), ("mend", &one.mend)] {
                if let Some(words) = words {
                    text.push_str(&format!("      {word:<5}  {words}\n"));
                }
            }
        }
        text.push_str(&self.verdict());
        text.push('\n');
        text
    }

    /// The last line.
    fn verdict(&self) -> String {
        let count = |severity| self.checks.iter().filter(|one| one.severity == severity).count();
        let words = |count: usize, one: &str, many: &str| match count {
            0 => None,
            1 => Some(one.to_owned()),
            _ => Some(format!("{count} {many}")),
        };
        let parts: Vec<String> = [
            words(count(Severity::Error), "1 thing must be mended", "things must be mended"),
            words(count(Severity::Warning), "1 warning", "warnings"),
            words(count(Severity::Broken), "1 check failed", "checks failed"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() { "all is well".to_owned() } else { parts.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let mut findings = vec![Finding::fine("a", "x"), Finding::skipped("b", "x")];
        assert_eq!(Report::new(findings.clone()).exit_code(), 0);
        assert_eq!(Report::new(Vec::new()).exit_code(), 0);
        findings.push(Finding::warning("c", "x", "y", "z"));
        assert_eq!(Report::new(findings.clone()).exit_code(), 1);
        findings.push(Finding::error("d", "x", "y", "z"));
        findings.push(Finding::warning("e", "x", "y", "z"));
        let report = Report::new(findings);
        assert_eq!((report.exit_code(), report.worst), (2, Severity::Error));
        assert!(report.text().ends_with("1 thing must be mended, 2 warnings\n"));
    }

    #[test]
    fn text_aligns_and_shows_cause_and_mend_below() {
        let report = Report::new(vec![
            Finding::fine("disk", "free"),
            Finding::error("clock", "off", "no NTP", "set it").of_network("main"),
        ]);
        let expected = "ok    disk          free\n\
                        FAIL  clock (main)  off\n      cause  no NTP\n      mend   set it\n\
                        1 thing must be mended\n";
        assert_eq!(report.text(), expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["worst"], "error");
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}

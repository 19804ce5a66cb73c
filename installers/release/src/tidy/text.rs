//! Rules of every written file: white space, marks of unfinished work, paths of one machine.

use super::files::File;
use super::rules::{Finding, finding};

/// Marks of unfinished work, in halves.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Folders that exist on one machine only, in halves.
const PLACES: [&str; 4] =
    [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.split('\n')) {
        if line.contains('\t') {
            findings.push(finding(file, number, "holds a tab; use spaces"));
        }
        if line.ends_with(' ') || line.ends_with('\r') {
            findings.push(finding(file, number, "ends in white space"));
        }
        for mark in MARKS.into_iter().filter(|mark| is_word(line, mark)) {
            findings.push(finding(file, number, format!("holds {mark}; do it now or let it go")));
        }
        for place in PLACES.into_iter().filter(|place| is_path(line, place)) {
            findings.push(finding(file, number, format!("names {place}, a folder of one machine")));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(finding(file, 0, "does not end in a line break"));
    }
    findings
}

/// Whether `word` stands alone in `line`.
fn is_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !inside(before) && (word.ends_with(':') || !inside(after))
    })
}

/// Whether `place` starts a path in `line`, rather than standing in the middle of one or of a URL.
fn is_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        before.is_none_or(|c| !(c.is_alphanumeric() || "/._-}*~)".contains(c)))
    })
}

/// Whether code, outside of string literals and comments behind it, holds a pattern.
pub(super) fn code_contains(code: &str, pattern: &str) -> bool {
    let mut outside = String::new();
    let (mut quoted, mut escaped) = (false, false);
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if !quoted => outside.push(c),
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
    }
    outside.contains(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        check(&File { path: "a.md".to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn white_space_marks_and_places_are_found() {
        assert_eq!(found("fine\n"), 0);
        assert_eq!(found(""), 0);
        for bad in ["a\tb\n", "a \n", "a\r\n", "no end"] {
            assert_eq!(found(bad), 1, "{bad:?}");
        }
        assert_eq!(found(&format!("a {} b\n", MARKS[0])), 1);
        assert_eq!(found(&format!("a{}b\n", MARKS[0])), 0);
        assert_eq!(found(&format!("see {}x\n", PLACES[0])), 1);
        assert_eq!(found(&format!("\"{}x\"\n", PLACES[1])), 1);
        assert_eq!(found(&format!("https://a.example{}x\n", PLACES[1])), 0);
    }

    #[test]
    fn strings_and_comments_are_not_code() {
        assert!(code_contains("a(b)", "a("));
        assert!(!code_contains("let x = \"a(\";", "a("));
        assert!(!code_contains("b // a(", "a("));
        assert!(code_contains("\"x\\\"\" a(", "a("));
    }
}

//! robots.txt by RFC 9309: what it says about a page, and what its absence says.
//!
//! Matching is the work of `texting_robots`, which carries Google's own test
//! cases. In front of it stands a filter, because the file comes from a
//! stranger: lines and patterns are bounded, and `User-agent` lines are reduced
//! to the product token that the RFC compares. Fetching and caching are not here.

use serde::{Deserialize, Serialize};
use texting_robots::Robot;

/// Longest line that is looked at. Real rules have tens of bytes.
const LINE_BYTES_MAX: usize = 2_048;

/// Most rules with an end anchor (`$`): each becomes a regular expression of up
/// to 42 KB, so these are bounded to about 40 MB. Real files have tens.
const ANCHORED_RULES_MAX: usize = 1_000;

/// Why a page may be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RobotsVerdict {
    /// The file exists and allows it.
    AllowedByRules,
    /// The host answered that it has none (any 4xx but 429).
    AllowedWithoutFile,
}

/// Why a page may not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RobotsRefusal {
    /// A rule of the file says so.
    Rule,
    /// The file could not be had or understood, so everything is closed.
    Closed(String),
}

/// What is known of one origin's robots.txt.
#[derive(Debug)]
pub enum RobotsState {
    /// It was read.
    Rules(Robot),
    /// The host says that there is none.
    NoFile,
    /// Overloaded, broken, unreachable or not to be understood: hands off.
    Closed(String),
}

impl RobotsState {
    /// Judges the answer to a request for robots.txt: `status` after redirects,
    /// `body` its first part (RFC 9309 section 2.3.1).
    pub fn from_answer(product_token: &str, status: u16, body: &[u8]) -> Self {
        match status {
            200..=299 => Self::parse(product_token, body),
            429 => Self::Closed("it was answered with 429 Too Many Requests".to_owned()),
            400..=499 => Self::NoFile,
            _ => Self::Closed(format!("it was answered with status {status}")),
        }
    }

    fn parse(product_token: &str, body: &[u8]) -> Self {
        let Some(text) = tamed(body) else {
            return Self::Closed(format!("it has more than {ANCHORED_RULES_MAX} rules with $"));
        };
        match Robot::new(product_token, &text) {
            Ok(robot) => Self::Rules(robot),
            Err(e) => Self::Closed(format!("it cannot be understood ({e})")),
        }
    }

    /// Whether the normalised address `url` may be fetched.
    pub fn verdict(&self, url: &str) -> Result<RobotsVerdict, RobotsRefusal> {
        match self {
            Self::NoFile => Ok(RobotsVerdict::AllowedWithoutFile),
            Self::Closed(why) => Err(RobotsRefusal::Closed(why.clone())),
            Self::Rules(robot) if robot.allowed(url) => Ok(RobotsVerdict::AllowedByRules),
            Self::Rules(_) => Err(RobotsRefusal::Rule),
        }
    }

    /// The pause between requests that the site asks for, in milliseconds.
    pub fn crawl_delay_ms(&self) -> Option<u64> {
        match self {
            // A float-to-integer cast saturates, so an absurd delay stays a long one.
            Self::Rules(robot) => robot.delay.map(|seconds| (seconds * 1_000.0) as u64),
            _ => None,
        }
    }

    /// Addresses of sitemaps that the file names, as written.
    pub fn sitemaps(&self) -> &[String] {
        match self {
            Self::Rules(robot) => &robot.sitemaps,
            _ => &[],
        }
    }

    /// Whether the file may well be available a little later.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

/// Drops over-long lines and cuts `User-agent` values to their product token.
/// `None` if the anchored patterns alone would cost too much.
fn tamed(body: &[u8]) -> Option<Vec<u8>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut text = Vec::with_capacity(body.len());
    let mut anchored = 0;
    for line in body.split(|b| matches!(b, b'\n' | b'\r' | 0)) {
        if line.len() > LINE_BYTES_MAX {
            continue;
        }
        anchored += usize::from(line.contains(&b'$'));
        text.extend_from_slice(product_token_of(line).unwrap_or(line));
        text.push(b'\n');
    }
    (anchored <= ANCHORED_RULES_MAX).then_some(text)
}

/// For `User-agent: Name/1.2 more`, the part up to the end of the product token
/// (RFC 9309 section 2.2.1: letters, `_` and `-`); `None` for any other line.
fn product_token_of(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (key, value) = line.split_at_checked(colon + 1)?;
    let key = key.strip_suffix(b":")?.trim_ascii();
    if !key.eq_ignore_ascii_case(b"user-agent") {
        return None;
    }
    let blanks = value.len() - value.trim_ascii_start().len();
    let token = value
        .get(blanks..)?
        .iter()
        .take_while(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_' | b'*'))
        .count();
    line.get(..colon + 1 + blanks + token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(robots: &str, path: &str) -> bool {
        let state = RobotsState::from_answer("OpenLedgerBot", 200, robots.as_bytes());
        state.verdict(&format!("https://a.org{path}")).is_ok()
    }

    #[test]
    fn the_longest_match_wins_and_allow_wins_ties() {
        let file = "User-agent: *\nDisallow: /a\nAllow: /a/b\nDisallow: /*.pdf$\nAllow: /t\nDisallow: /t\n";
        assert!(!allowed(file, "/a/x") && allowed(file, "/a/b/c") && allowed(file, "/"));
        assert!(!allowed(file, "/z/q.pdf") && allowed(file, "/z/q.pdf?x") && allowed(file, "/t"));
    }

    #[test]
    fn our_own_group_replaces_the_general_one() {
        let file =
            "User-agent: *\nDisallow: /\n\nuser-agent: openledgerbot/1.0 (x)\nDisallow: /no\n";
        assert!(allowed(file, "/yes") && !allowed(file, "/no"));
        let other = "User-agent: OpenLedgerBotImages\nDisallow: /\n";
        assert!(allowed(other, "/x"), "a longer token is another crawler");
        let both = "User-agent: a\nUser-agent: OpenLedgerBot\nDisallow: /no\n\nUser-agent: OpenLedgerBot\nDisallow: /nor\n";
        assert!(!allowed(both, "/no") && !allowed(both, "/nor/x"), "groups merge");
    }

    #[test]
    fn absence_allows_and_trouble_closes() {
        let url = "https://a.org/x";
        for (status, open) in [(404, true), (401, true), (429, false), (500, false), (302, false)] {
            let state = RobotsState::from_answer("B", status, b"User-agent: *\nDisallow: /x");
            assert_eq!(state.verdict(url).is_ok(), open, "{status}");
        }
        let state = RobotsState::from_answer("B", 200, b"");
        assert_eq!(state.verdict(url), Ok(RobotsVerdict::AllowedByRules));
    }

    #[test]
    fn crawl_delay_is_read_in_milliseconds() {
        let delay = |file: &str| {
            RobotsState::from_answer("OpenLedgerBot", 200, file.as_bytes()).crawl_delay_ms()
        };
        assert_eq!(delay("User-agent: *\nCrawl-delay: 2.5\n"), Some(2_500));
        assert_eq!(delay("User-agent: *\nCrawl-delay: 1e30\n"), Some(u64::MAX));
        assert_eq!(delay("User-agent: *\nCrawl-delay: soon\n"), None);
        assert_eq!(delay("User-agent: other\nCrawl-delay: 9\n"), None);
    }

    #[test]
    fn costly_files_close_the_host() {
        let file = "User-agent: *\n".to_owned() + &"Allow: /*x$\n".repeat(ANCHORED_RULES_MAX + 1);
        let state = RobotsState::from_answer("B", 200, file.as_bytes());
        assert!(matches!(state.verdict("https://a.org/"), Err(RobotsRefusal::Closed(_))));
        let long = format!("User-agent: *\nDisallow: /{}\nDisallow: /b\n", "a".repeat(9_000));
        assert!(!allowed(&long, "/b"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_give_an_answer(body in prop::collection::vec(any::<u8>(), 0..2_000),
                                    lines in prop::collection::vec("(user-agent|allow|disallow|crawl-delay)[: ]{1,2}[ -~]{0,30}", 0..40)) {
            for body in [body, lines.join("\n").into_bytes()] {
                let state = RobotsState::from_answer("OpenLedgerBot", 200, &body);
                let _ = state.verdict("https://a.org/some/page?q=1");
                let _ = state.crawl_delay_ms();
            }
        }
    }
}

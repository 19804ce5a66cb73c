//! What a response head says about the use of a page by machines.
//!
//! Read are `X-Robots-Tag` (with `noai` and `noimageai`), `TDM-Reservation` and
//! `TDM-Policy` (W3C TDM Reservation Protocol) and `Content-Usage` (IETF AIPREF
//! drafts). They are recorded, not enforced: whether a reserved page is kept is
//! the policy of the Datanet. Tags inside the page are not looked at here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Most values kept of each kind; more are noise.
const VALUES_MAX: usize = 32;
/// Longest value kept.
const VALUE_BYTES_MAX: usize = 256;

/// The signals of one response.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Directives of `X-Robots-Tag` that address everybody or us, lower case.
    pub robots_tags: BTreeSet<String>,
    /// `TDM-Reservation`: `Some(true)` for 1, `Some(false)` for 0.
    pub tdm_reserved: Option<bool>,
    /// `TDM-Policy`, an address where terms are stated.
    pub tdm_policy: Option<String>,
    /// Preferences of `Content-Usage` by category, such as `train-ai` = `n`.
    pub content_usage: BTreeMap<String, String>,
}

impl Signals {
    /// Reads the signals from header fields (any case). `product_token` is the
    /// name under which a site may address this crawler.
    pub fn from_headers<'a>(
        product_token: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut signals = Self::default();
        for (name, value) in headers {
            match name.to_ascii_lowercase().as_str() {
                "x-robots-tag" => signals.read_robots_tag(product_token, value),
                "tdm-reservation" => match value.trim() {
                    "1" => signals.tdm_reserved = Some(true),
                    "0" if signals.tdm_reserved.is_none() => signals.tdm_reserved = Some(false),
                    _ => {}
                },
                "tdm-policy" => signals.tdm_policy = Some(bounded(value)),
                "content-usage" => signals.read_content_usage(value),
                _ => {}
            }
        }
        signals
    }

    /// Whether any signal reserves the page against mining or training. The
    /// default policy of a Datanet is not to keep such a page.
    pub fn reserved(&self) -> bool {
        let tag = ["noai", "noindex", "none"].iter().any(|tag| self.robots_tags.contains(*tag));
        let usage = ["ai", "train-ai", "genai", "tdm", "bots"]
            .iter()
            .any(|key| self.content_usage.get(*key).is_some_and(|value| value == "n"));
        tag || usage || self.tdm_reserved == Some(true)
    }

    /// `noindex, noai` speaks to all, `somebot: noai` to that bot only.
    fn read_robots_tag(&mut self, product_token: &str, value: &str) {
        const VALUED: [&str; 4] =
            ["unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"];
        let mut rest = value;
        if let Some((head, tail)) = value.split_once(':') {
            let head = head.trim();
            let is_agent =
                !head.contains(',') && !VALUED.iter().any(|v| head.eq_ignore_ascii_case(v));
            if is_agent && !head.eq_ignore_ascii_case(product_token) && head != "*" {
                return;
            }
            if is_agent {
                rest = tail;
            }
        }
        for tag in rest.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            if self.robots_tags.len() < VALUES_MAX {
                self.robots_tags.insert(bounded(tag).to_ascii_lowercase());
            }
        }
    }

    /// A dictionary of structured fields (RFC 9651), tokens only: `train-ai=n`.
    fn read_content_usage(&mut self, value: &str) {
        for member in value.split(',') {
            let member = member.split(';').next().unwrap_or_default();
            let (key, value) = member.split_once('=').unwrap_or((member, "?1"));
            let key = key.trim().to_ascii_lowercase();
            if !key.is_empty() && self.content_usage.len() < VALUES_MAX {
                let value = bounded(value.trim()).to_ascii_lowercase();
                self.content_usage.insert(bounded(&key), value);
            }
        }
    }
}

fn bounded(value: &str) -> String {
    value.trim().chars().take(VALUE_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Signals {
        Signals::from_headers("OpenLedgerBot", headers.iter().copied())
    }

    #[test]
    fn every_kind_of_reservation_is_seen() {
        for header in [
            ("X-Robots-Tag", "noarchive, NoAI"),
            ("x-robots-tag", "openledgerbot: noai"),
            ("TDM-Reservation", " 1 "),
            ("Content-Usage", "search=y, train-ai=n"),
        ] {
            assert!(read(&[header]).reserved(), "{header:?}");
        }
    }

    #[test]
    fn what_is_free_or_meant_for_others_reserves_nothing() {
        for header in [
            ("X-Robots-Tag", "otherbot: noai"),
            ("X-Robots-Tag", "max-snippet: 20, noarchive"),
            ("TDM-Reservation", "0"),
            ("Content-Usage", "train-ai=y"),
            ("Content-Type", "noai"),
        ] {
            assert!(!read(&[header]).reserved(), "{header:?}");
        }
        assert_eq!(read(&[("TDM-Reservation", "0")]).tdm_reserved, Some(false));
    }

    #[test]
    fn floods_are_bounded() {
        let tags = (0..1_000).map(|i| format!("t{i}")).collect::<Vec<_>>().join(",");
        let long = "x".repeat(10_000);
        let signals =
            read(&[("X-Robots-Tag", &tags), ("TDM-Policy", &long), ("Content-Usage", &tags)]);
        assert_eq!(signals.robots_tags.len(), VALUES_MAX);
        assert_eq!(signals.content_usage.len(), VALUES_MAX);
        assert_eq!(signals.tdm_policy.unwrap().len(), VALUE_BYTES_MAX);
    }
}

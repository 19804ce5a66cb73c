//! The owner's lists of hosts: what this machine may and may not fetch.
//!
//! A denial beats an allowance; an empty allow list allows everything. The lists
//! are about names; addresses are judged by [`address`](crate::address).

use thiserror::Error;

/// Why a line of a host list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("host pattern \"{0}\" is not valid; write \"example.org\", \"*.example.org\" or \"*\"")]
pub struct PatternError(pub String);

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// `example.org`: the host and everything below it.
    Domain(String),
    /// `*.example.org`: everything below it only.
    Below(String),
}

impl HostPattern {
    /// Reads a pattern; case is ignored, names beyond ASCII must be punycode.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let lower = text.trim().to_ascii_lowercase();
        if lower == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = match lower.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, lower.as_str()),
        };
        let valid = !name.is_empty()
            && name.split('.').all(|label| !label.is_empty())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        match (valid, below) {
            (false, _) => Err(PatternError(text.to_owned())),
            (true, true) => Ok(Self::Below(name.to_owned())),
            (true, false) => Ok(Self::Domain(name.to_owned())),
        }
    }

    /// Whether the pattern covers a normalised host.
    pub fn covers(&self, host: &str) -> bool {
        let below = |name: &str| {
            host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        match self {
            Self::Any => true,
            Self::Domain(name) => host == name || below(name),
            Self::Below(name) => below(name),
        }
    }
}

/// Both lists of an owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostLists {
    allow: Vec<HostPattern>,
    deny: Vec<(String, HostPattern)>,
}

impl HostLists {
    /// Reads both lists.
    pub fn parse(allow: &[String], deny: &[String]) -> Result<Self, PatternError> {
        let allow = allow.iter().map(|t| HostPattern::parse(t)).collect::<Result<_, _>>()?;
        let deny = deny
            .iter()
            .map(|t| HostPattern::parse(t).map(|pattern| (t.clone(), pattern)))
            .collect::<Result<_, _>>()?;
        Ok(Self { allow, deny })
    }

    /// The rule that closes `host`: the denying pattern's text, or a remark that
    /// the allow list does not name it. `None` if the host is open.
    pub fn closed_by(&self, host: &str) -> Option<String> {
        if let Some((text, _)) = self.deny.iter().find(|(_, pattern)| pattern.covers(host)) {
            return Some(format!("deny list entry \"{text}\""));
        }
        let named = self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.covers(host));
        (!named).then(|| "allow list, which does not name it".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(allow: &[&str], deny: &[&str]) -> HostLists {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        HostLists::parse(&own(allow), &own(deny)).unwrap()
    }

    #[test]
    fn a_domain_covers_what_lies_below_it_and_nothing_beside_it() {
        let pattern = HostPattern::parse("Example.org").unwrap();
        assert!(pattern.covers("example.org") && pattern.covers("a.b.example.org"));
        assert!(!pattern.covers("badexample.org") && !pattern.covers("example.org.evil.net"));
        let below = HostPattern::parse("*.example.org").unwrap();
        assert!(below.covers("a.example.org") && !below.covers("example.org"));
        assert!(HostPattern::parse("*").unwrap().covers("anything"));
    }

    #[test]
    fn a_denial_beats_an_allowance() {
        let lists = lists(&["example.org"], &["*.example.org"]);
        assert_eq!(lists.closed_by("example.org"), None);
        assert!(lists.closed_by("a.example.org").unwrap().contains("deny list"));
        assert!(lists.closed_by("other.org").unwrap().contains("allow list"));
        assert_eq!(HostLists::default().closed_by("anything.at.all"), None);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["", "a..b", "exa mple.org", "*.", "**", "http://a.org/"] {
            assert!(HostPattern::parse(text).unwrap_err().to_string().contains(text));
        }
    }
}

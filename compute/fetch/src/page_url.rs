//! Addresses of pages: one normal form, the raw one kept beside it.
//!
//! Parsing is WHATWG's (crate `url`): lower-case host, punycode, no default port,
//! numbers such as `0x7f.1` turned into the IPv4 address that they mean. On top,
//! the fragment and a trailing dot of the host go, and what a crawler must not
//! follow is refused: other schemes, credentials, over-long addresses. Query
//! parameters stay as they are: which of them matter, only the site knows.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Position, Url};

/// Why an address cannot be fetched at all.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UrlProblem {
    /// It is no absolute URL.
    #[error("it is not an absolute URL ({0}); give one like https://example.org/page")]
    Unparsable(String),
    /// Neither `http` nor `https`.
    #[error("scheme \"{0}\" is not fetched; use http or https")]
    Scheme(String),
    /// `user:password@host`.
    #[error("it carries a user name or password; remove them")]
    UserInfo,
    /// No host.
    #[error("it names no host")]
    NoHost,
    /// Outside the port policy.
    #[error("port {0} is not fetched; only 80, 443, 8080 and 8443 are")]
    Port(u16),
    /// Longer than the limit.
    #[error("it has {bytes} bytes, more than the {limit} allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Ports of public hosts that are fetched: the defaults and their usual stand-ins.
/// Others belong to services that do not expect an HTTP request.
pub const PORTS: [u16; 4] = [80, 443, 8080, 8443];

/// A checked, normalised address together with the text that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageUrl {
    raw: String,
    url: Url,
    literal: Option<IpAddr>,
}

impl PageUrl {
    /// Parses and normalises an absolute address of at most `bytes_max` bytes.
    pub fn parse(raw: &str, bytes_max: usize) -> Result<Self, UrlProblem> {
        check_length(raw, bytes_max)?;
        let url = Url::parse(raw).map_err(|e| UrlProblem::Unparsable(e.to_string()))?;
        Self::checked(raw, url, bytes_max)
    }

    /// The address that a `Location` of this page leads to.
    pub fn join(&self, location: &str, bytes_max: usize) -> Result<Self, UrlProblem> {
        check_length(location, bytes_max)?;
        let url = self.url.join(location).map_err(|e| UrlProblem::Unparsable(e.to_string()))?;
        Self::checked(location, url, bytes_max)
    }

    fn checked(raw: &str, mut url: Url, bytes_max: usize) -> Result<Self, UrlProblem> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlProblem::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlProblem::UserInfo);
        }
        url.set_fragment(None);
        if let Some(Host::Domain(name)) = url.host() {
            let bare = name.strip_suffix('.').unwrap_or(name).to_owned();
            if bare.is_empty() || bare.split('.').any(str::is_empty) {
                return Err(UrlProblem::NoHost);
            }
            url.set_host(Some(&bare)).map_err(|e| UrlProblem::Unparsable(e.to_string()))?;
        }
        let literal = match url.host() {
            None => return Err(UrlProblem::NoHost),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
        };
        check_length(url.as_str(), bytes_max)?;
        Ok(Self { raw: raw.to_owned(), url, literal })
    }

    /// The text as it was given: a redirect's is its `Location`.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The parsed form.
    pub fn as_url(&self) -> &Url {
        &self.url
    }

    /// Lower-case host; IPv6 in brackets.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The address, if the host is a literal one, which no resolver would see.
    pub fn literal(&self) -> Option<IpAddr> {
        self.literal
    }

    /// The port, the scheme's default included.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// Whether the port is written in the normal form, being no default.
    pub fn port_is_explicit(&self) -> bool {
        self.url.port().is_some()
    }

    /// `host:port`, the key of a network profile's private hosts.
    pub fn host_port(&self) -> String {
        format!("{}:{}", self.host(), self.port())
    }

    /// `scheme://host:port`, the scope of a robots.txt.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.url.scheme(), self.host_port())
    }

    /// The address of this origin's robots.txt.
    pub fn robots_txt(&self) -> Self {
        let mut url = self.url.clone();
        url.set_path("/robots.txt");
        url.set_query(None);
        Self { raw: url.to_string(), url, literal: self.literal }
    }

    /// The name under a public suffix that one party registered (public suffix
    /// list), or the host itself where there is none.
    pub fn registrable_domain(&self) -> &str {
        let host = self.host();
        if self.literal.is_some() {
            return host;
        }
        psl::domain_str(host).unwrap_or(host)
    }

    /// Path and query, as sent in the request line.
    pub fn path_and_query(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// Refuses ports outside [`PORTS`].
    pub fn check_port(&self) -> Result<(), UrlProblem> {
        if PORTS.contains(&self.port()) { Ok(()) } else { Err(UrlProblem::Port(self.port())) }
    }
}

impl fmt::Display for PageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn check_length(text: &str, limit: usize) -> Result<(), UrlProblem> {
    if text.len() > limit {
        return Err(UrlProblem::TooLong { bytes: text.len(), limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(raw: &str) -> Result<String, UrlProblem> {
        PageUrl::parse(raw, 1_000).map(|url| url.as_str().to_owned())
    }

    #[test]
    fn normal_form_is_lower_case_without_fragment_default_port_or_dot() {
        for (raw, wanted) in [
            ("HTTP://Example.ORG:80/A?b=C#frag", "http://example.org/A?b=C"),
            ("https://example.org.:443", "https://example.org/"),
            ("https://b\u{fc}cher.example/", "https://xn--bcher-kva.example/"),
            ("http://example.org:8080/x/../y", "http://example.org:8080/y"),
            ("http://0x7f.1/", "http://127.0.0.1/"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("http://[::FFFF:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
        ] {
            assert_eq!(normal(raw).unwrap(), wanted, "{raw}");
        }
        assert_eq!(PageUrl::parse("HTTP://A.org/#x", 99).unwrap().raw(), "HTTP://A.org/#x");
    }

    #[test]
    fn what_a_crawler_must_not_follow_is_refused() {
        assert_eq!(normal("file:///etc/passwd"), Err(UrlProblem::Scheme("file".into())));
        assert_eq!(normal("gopher://a.org/"), Err(UrlProblem::Scheme("gopher".into())));
        assert_eq!(normal("http://user@a.org/"), Err(UrlProblem::UserInfo));
        assert_eq!(normal("http://:pw@a.org/"), Err(UrlProblem::UserInfo));
        assert_eq!(normal("http://./"), Err(UrlProblem::NoHost));
        assert!(matches!(normal("/relative"), Err(UrlProblem::Unparsable(_))));
        assert!(matches!(normal(&"x".repeat(1_001)), Err(UrlProblem::TooLong { .. })));
        let url = PageUrl::parse("http://a.org:22/", 99).unwrap();
        assert_eq!(url.check_port(), Err(UrlProblem::Port(22)));
    }

    #[test]
    fn keys_are_taken_from_the_normal_form() {
        let url = PageUrl::parse("https://www.News.co.uk/a?b", 99).unwrap();
        assert_eq!(url.registrable_domain(), "news.co.uk");
        assert_eq!(url.origin(), "https://www.news.co.uk:443");
        assert_eq!(url.robots_txt().as_str(), "https://www.news.co.uk/robots.txt");
        assert_eq!(url.path_and_query(), "/a?b");
        let url = PageUrl::parse("http://127.0.0.1:9/", 99).unwrap();
        assert_eq!((url.registrable_domain(), url.port()), ("127.0.0.1", 9));
        let next = url.join("//other.test/x#y", 99).unwrap();
        assert_eq!((next.as_str(), next.raw()), ("http://other.test/x", "//other.test/x#y"));
        assert_eq!(url.join("file:///x", 99), Err(UrlProblem::Scheme("file".into())));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{0,60}", host in "[a-zA-Z0-9.-]{1,20}") {
            for raw in [text.clone(), format!("http://{host}/{text}")] {
                if let Ok(once) = PageUrl::parse(&raw, 4_000) {
                    let twice = PageUrl::parse(once.as_str(), 8_000).unwrap();
                    prop_assert_eq!(once.as_str(), twice.as_str());
                }
            }
        }
    }
}

//! Why a fetch failed: one list, plain data, so that it crosses the border of the
//! worker process unchanged.
//!
//! An answer with a status other than 2xx is no error: it is what the page said.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::address::AddressClass;
use crate::decode::{ContentEncoding, DecodeError};
use crate::page_url::UrlProblem;

/// The part of a fetch that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeoutPhase {
    /// Resolving the name.
    Resolve,
    /// Connecting, TLS included.
    Connect,
    /// Waiting for the whole response head.
    FirstByte,
    /// The network time of all hops together.
    Total,
}

impl fmt::Display for TimeoutPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving its name",
            Self::Connect => "connecting",
            Self::FirstByte => "waiting for the response head",
            Self::Total => "the whole fetch",
        })
    }
}

/// Why a page was not fetched. Messages fit after "failed to fetch the page: ".
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FetchError {
    /// The configuration cannot be used.
    #[error("the fetch configuration is not usable: {0}")]
    Config(String),
    /// The address cannot be fetched at all.
    #[error("address \"{url}\" is refused: {problem}")]
    BadUrl {
        /// As given, shortened.
        url: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// A redirect leads to an address that cannot be fetched at all.
    #[error("{from} redirects to \"{location}\", which is refused: {problem}")]
    BadRedirect {
        /// The redirecting page.
        from: String,
        /// Its `Location`, shortened.
        location: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// This machine's owner does not want the host to be fetched.
    #[error("host {host} is closed by the owner's {rule}; change the host lists to fetch it")]
    OwnerClosed {
        /// The host.
        host: String,
        /// The list and entry that closes it.
        rule: String,
    },
    /// The swarm does not open the host to this node at this time.
    #[error("host {host} ({address}) is not open to this node in this slot; try a later one")]
    HostNotOpen {
        /// The host.
        host: String,
        /// Its resolved address.
        address: IpAddr,
    },
    /// The host has an address that no stranger may send a node to.
    #[error(
        "host {host} has the {class} address {address}, which is refused; only a network profile can name private hosts"
    )]
    PrivateAddress {
        /// The host.
        host: String,
        /// The offending address.
        address: IpAddr,
        /// Why it is refused.
        class: AddressClass,
    },
    /// A redirect leads to such an address.
    #[error("{from} redirects to {host}, which has the {class} address {address}; this is refused")]
    RedirectToPrivate {
        /// The redirecting page.
        from: String,
        /// The host that it leads to.
        host: String,
        /// The offending address.
        address: IpAddr,
        /// Why it is refused.
        class: AddressClass,
    },
    /// The name does not resolve.
    #[error("host {host} does not resolve ({detail}); check the name and this machine's DNS")]
    Dns {
        /// The host.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// No connection.
    #[error("no connection to {host} at {address} ({detail}); try again later")]
    Connect {
        /// The host.
        host: String,
        /// The address tried.
        address: IpAddr,
        /// What the system said.
        detail: String,
    },
    /// No trust.
    #[error("the TLS connection to {host} failed ({detail}); the site must mend its certificate")]
    Tls {
        /// The host.
        host: String,
        /// What the TLS library said.
        detail: String,
    },
    /// Something took too long.
    #[error("{host} took more than {limit_ms} ms for {phase}; try again later")]
    Timeout {
        /// The host.
        host: String,
        /// What took too long.
        phase: TimeoutPhase,
        /// The limit.
        limit_ms: u64,
    },
    /// The body trickles.
    #[error("{host} sends fewer than {bytes_per_second} bytes per second; try again later")]
    TooSlow {
        /// The host.
        host: String,
        /// The required rate.
        bytes_per_second: u64,
    },
    /// Politeness did not let us through in time.
    #[error("{host} had no turn for us within {waited_ms} ms; give the task back and try later")]
    HostBusy {
        /// The host.
        host: String,
        /// How long was waited.
        waited_ms: u64,
    },
    /// robots.txt forbids the page.
    #[error("robots.txt of {origin} disallows {url}; leave it alone")]
    RobotsDisallow {
        /// Scheme, host and port.
        origin: String,
        /// The page.
        url: String,
    },
    /// robots.txt cannot be had or read, so the whole origin is closed.
    #[error("robots.txt of {origin} closes everything because {detail}; try again later")]
    RobotsUnavailable {
        /// Scheme, host and port.
        origin: String,
        /// What happened.
        detail: String,
    },
    /// The chain of redirects is too long.
    #[error("more than {limit} redirects, the last to {last}; give the final address instead")]
    TooManyRedirects {
        /// Redirects allowed.
        limit: u32,
        /// The address that was not followed any more.
        last: String,
    },
    /// The chain of redirects comes back to itself.
    #[error("redirects come back to {url}; the page needs cookies or is misconfigured")]
    RedirectLoop {
        /// The address seen twice.
        url: String,
    },
    /// The response head is too large.
    #[error(
        "{host} sent a response head over the limit of {limit_bytes} bytes or {limit_count} fields"
    )]
    HeadersTooLarge {
        /// The host.
        host: String,
        /// Bytes allowed.
        limit_bytes: usize,
        /// Fields allowed.
        limit_count: usize,
    },
    /// The body, as sent, is too large.
    #[error("the body of {url} is larger than the {limit_bytes} bytes that may be sent")]
    BodyTooLarge {
        /// The page.
        url: String,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// The body, decoded, is too large.
    #[error("the body of {url} is larger than {limit_bytes} bytes once decoded")]
    DecodedTooLarge {
        /// The page.
        url: String,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// The body is a decompression bomb.
    #[error("the {encoding} body of {url} grows more than {ratio_max} times when decoded: a bomb")]
    DecompressionRatio {
        /// The page.
        url: String,
        /// Its coding.
        encoding: ContentEncoding,
        /// Growth allowed.
        ratio_max: u64,
    },
    /// A coding that was not asked for.
    #[error("{url} uses content coding \"{encoding}\"; gzip, deflate, br and zstd are understood")]
    UnsupportedEncoding {
        /// The page.
        url: String,
        /// The header's value, shortened.
        encoding: String,
    },
    /// The body is not what its coding says.
    #[error("the body of {url} cannot be decoded as {encoding} ({detail})")]
    BadEncoding {
        /// The page.
        url: String,
        /// The coding.
        encoding: ContentEncoding,
        /// What the decoder said.
        detail: String,
    },
    /// A kind of content that is not wanted.
    #[error("{url} is of type \"{content_type}\", which is not among the types to be fetched")]
    ContentType {
        /// The page.
        url: String,
        /// Its declared type, shortened.
        content_type: String,
    },
    /// The connection ended before the body did.
    #[error("the body of {url} ended early ({detail}); try again later")]
    Incomplete {
        /// The page.
        url: String,
        /// What the transport said.
        detail: String,
    },
    /// No proper HTTP.
    #[error("{host} did not answer in proper HTTP ({detail})")]
    BadResponse {
        /// The host.
        host: String,
        /// What the transport said.
        detail: String,
    },
}

impl FetchError {
    /// A stable, short name for statistics and verdicts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::BadUrl { .. } => "bad-url",
            Self::BadRedirect { .. } => "bad-redirect",
            Self::OwnerClosed { .. } => "owner-closed",
            Self::HostNotOpen { .. } => "host-not-open",
            Self::PrivateAddress { .. } => "private-address",
            Self::RedirectToPrivate { .. } => "redirect-to-private",
            Self::Dns { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Timeout { phase, .. } => match phase {
                TimeoutPhase::Resolve => "timeout-resolve",
                TimeoutPhase::Connect => "timeout-connect",
                TimeoutPhase::FirstByte => "timeout-first-byte",
                TimeoutPhase::Total => "timeout-total",
            },
            Self::TooSlow { .. } => "too-slow",
            Self::HostBusy { .. } => "host-busy",
            Self::RobotsDisallow { .. } => "robots-disallow",
            Self::RobotsUnavailable { .. } => "robots-unavailable",
            Self::TooManyRedirects { .. } => "too-many-redirects",
            Self::RedirectLoop { .. } => "redirect-loop",
            Self::HeadersTooLarge { .. } => "headers-too-large",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::DecodedTooLarge { .. } => "decoded-too-large",
            Self::DecompressionRatio { .. } => "decompression-ratio",
            Self::UnsupportedEncoding { .. } => "unsupported-encoding",
            Self::BadEncoding { .. } => "bad-encoding",
            Self::ContentType { .. } => "content-type",
            Self::Incomplete { .. } => "incomplete",
            Self::BadResponse { .. } => "bad-response",
        }
    }

    /// Whether the same node may succeed with the same address a little later.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::HostNotOpen { .. }
                | Self::Dns { .. }
                | Self::Connect { .. }
                | Self::Timeout { .. }
                | Self::TooSlow { .. }
                | Self::HostBusy { .. }
                | Self::RobotsUnavailable { .. }
                | Self::Incomplete { .. }
        )
    }

    /// The same failure, met when following a redirect of `from`.
    pub(crate) fn met_after(self, from: &str) -> Self {
        match self {
            Self::PrivateAddress { host, address, class } => {
                Self::RedirectToPrivate { from: from.to_owned(), host, address, class }
            }
            Self::BadUrl { url, problem } => {
                Self::BadRedirect { from: from.to_owned(), location: url, problem }
            }
            other => other,
        }
    }

    /// A decoder's complaint about the body of `url`.
    pub(crate) fn from_decode(error: DecodeError, url: &str, encoding: ContentEncoding) -> Self {
        let url = url.to_owned();
        match error {
            DecodeError::WireTooLarge(limit_bytes) => Self::BodyTooLarge { url, limit_bytes },
            DecodeError::DecodedTooLarge(limit_bytes) => Self::DecodedTooLarge { url, limit_bytes },
            DecodeError::Ratio(ratio_max) => Self::DecompressionRatio { url, encoding, ratio_max },
            DecodeError::Corrupt(detail) => Self::BadEncoding { url, encoding, detail },
        }
    }
}

/// A stranger's text, cut to a length that a message or a log can bear.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    let mut short: String = text.chars().take(CHARS_MAX).filter(|c| !c.is_control()).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_behind_a_redirect_names_both_ends() {
        let error = FetchError::PrivateAddress {
            host: "in.example".into(),
            address: "10.0.0.1".parse().unwrap(),
            class: AddressClass::Private,
        };
        assert!(error.to_string().contains("10.0.0.1"));
        let error = error.met_after("http://a.org/x");
        assert_eq!(error.code(), "redirect-to-private");
        let text = error.to_string();
        assert!(text.contains("http://a.org/x") && text.contains("10.0.0.1"), "{text}");
        assert!(!error.retryable());
    }

    #[test]
    fn a_strangers_text_is_cut_and_cleaned() {
        let short = shortened(&format!("a\u{1b}[31m\n{}", "x".repeat(500)));
        assert!(short.len() <= 203 && !short.contains('\u{1b}') && short.ends_with("..."));
    }
}

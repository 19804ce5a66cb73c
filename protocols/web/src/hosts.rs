//! Which host names a server answers to, and which pages may change something on it.
//!
//! A page of another site can make a browser send requests to a loopback address, and by DNS
//! rebinding even under a name of its own. Neither has our names in `Host`, nor our origin in
//! `Origin` (RFC 6454), so both are refused before any handler runs.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, header};

/// The names that a server answers to.
#[derive(Debug, Clone)]
pub struct Hosts {
    names: BTreeSet<String>,
    any_address: bool,
}

impl Hosts {
    /// The names of a server bound to `address`: the address itself, `localhost` if it is a
    /// loopback address, any literal address if it listens on all of them (a literal address
    /// cannot be rebound), and the configured `names`, written without a port.
    #[must_use]
    pub fn of(address: SocketAddr, names: &[String]) -> Self {
        let ip = address.ip().to_canonical();
        let mut all: BTreeSet<String> =
            names.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        all.insert(bracketed(ip));
        if ip.is_loopback() {
            all.insert("localhost".to_owned());
        }
        Self { names: all, any_address: ip.is_unspecified() }
    }

    /// Whether `authority`, a `host` or `host:port`, is one of the names.
    #[must_use]
    pub fn allow(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        self.names.contains(&host) || (self.any_address && literal.parse::<IpAddr>().is_ok())
    }

    /// Whether a request that may change something comes from a page of ours or from no page at
    /// all. `Origin` must name the very host that the request was sent to; a browser too old to
    /// send it sends no request across sites with our token either.
    #[must_use]
    pub fn allow_origin(&self, method: &Method, headers: &HeaderMap) -> bool {
        if method.is_safe() {
            return true;
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let site = headers.get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes);
        if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
            return false;
        }
        if !headers.contains_key(header::ORIGIN) {
            return true;
        }
        let origin = text(header::ORIGIN).unwrap_or_default();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| {
            self.allow(authority)
                && text(header::HOST).is_some_and(|host| host.eq_ignore_ascii_case(authority))
        })
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The host of `host[:port]`, in lower case; `None` for anything else.
fn host_of(authority: &str) -> Option<String> {
    if authority.is_empty() || authority.len() > 255 || !authority.is_ascii() {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            let ip: std::net::Ipv6Addr = inside.parse().ok()?;
            (format!("[{ip}]"), after.strip_prefix(':').map_or(after, |port| port))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), port),
            None => (authority.to_ascii_lowercase(), ""),
        },
    };
    let is_port = port.is_empty() || port.parse::<u16>().is_ok();
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-_[]:".contains(&c);
    (is_port && host.bytes().all(plain)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn local() -> Hosts {
        Hosts::of("127.0.0.1:8080".parse().unwrap(), &["Ledger.Example".to_owned()])
    }

    #[test]
    fn only_our_names_pass() {
        let hosts = local();
        for good in ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "ledger.example"] {
            assert!(hosts.allow(good), "{good}");
        }
        let bad = [
            "",
            "evil.example",
            "127.0.0.2",
            "localhost.evil.example",
            "localhost:x",
            "127.0.0.1:8080:1",
            "user@localhost",
            "[::1]:80",
            "localhost:99999",
        ];
        for bad in bad {
            assert!(!hosts.allow(bad), "{bad}");
        }
        let all = Hosts::of("0.0.0.0:80".parse().unwrap(), &[]);
        assert!(all.allow("192.0.2.7:80") && all.allow("[2001:db8::1]:80"));
        assert!(!all.allow("rebound.example"));
        let six = Hosts::of("[::1]:80".parse().unwrap(), &[]);
        assert!(six.allow("[::1]:80") && six.allow("[0:0::1]") && six.allow("localhost"));
    }

    #[test]
    fn pages_of_others_may_read_nothing_into_effect() {
        let hosts = local();
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect()
        };
        let host = ("host", "127.0.0.1:8080");
        let allowed = |pairs: &[_]| hosts.allow_origin(&Method::POST, &headers(pairs));
        assert!(allowed(&[host]));
        assert!(allowed(&[host, ("origin", "http://127.0.0.1:8080")]));
        assert!(!allowed(&[host, ("origin", "http://127.0.0.1:9090")]));
        assert!(!allowed(&[host, ("origin", "http://evil.example")]));
        assert!(!allowed(&[host, ("origin", "null")]));
        assert!(!allowed(&[host, ("sec-fetch-site", "cross-site")]));
        let evil = headers(&[host, ("origin", "http://evil.example")]);
        assert!(hosts.allow_origin(&Method::GET, &evil));
    }
}

//! What an owner and a network profile decide about fetching.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::address;
use crate::error::FetchError;
use crate::hosts::HostLists;
use crate::limits::FetchLimits;

/// Who asks, in words that a webmaster can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserAgent {
    /// The token that robots.txt addresses: letters, `-` and `_` only (RFC 9309).
    pub product: String,
    /// Version of the node.
    pub version: String,
    /// Name of the coordinator that assigns the work.
    pub coordinator: String,
    /// Name of the campaign; a request may name its own.
    pub campaign: String,
    /// Where abuse is reported: an address or URL.
    pub contact: String,
}

impl UserAgent {
    /// The `User-Agent` value:
    /// `product/version (+contact; coordinator NAME; campaign NAME)`.
    pub fn render(&self, campaign: Option<&str>) -> Result<String, FetchError> {
        let campaign = campaign.unwrap_or(&self.campaign);
        let token = !self.product.is_empty()
            && self.product.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-' || b == b'_');
        if !token {
            let product = &self.product;
            let problem = format!("product token \"{product}\" may hold letters, - and _ only");
            return Err(FetchError::Config(problem));
        }
        let parts = [
            ("version", self.version.as_str()),
            ("abuse contact", &self.contact),
            ("coordinator name", &self.coordinator),
            ("campaign name", campaign),
        ];
        for (what, text) in parts {
            let plain = text.bytes().all(|b| (b' '..=b'~').contains(&b) && !b"();\\".contains(&b));
            if text.is_empty() || text.len() > 200 || !plain {
                let problem = format!(
                    "{what} \"{text}\" must have 1 to 200 ASCII characters without ( ) ; and \\"
                );
                return Err(FetchError::Config(problem));
            }
        }
        let Self { product, version, coordinator, contact, .. } = self;
        Ok(format!(
            "{product}/{version} (+{contact}; coordinator {coordinator}; campaign {campaign})"
        ))
    }
}

/// Configuration of a [`Fetcher`](crate::Fetcher).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchConfig {
    /// Who asks.
    pub user_agent: UserAgent,
    /// Bounds of each fetch.
    #[serde(default)]
    pub limits: FetchLimits,
    /// Private hosts that the network profile names: `host:port`, the port always
    /// written, to addresses. They are reached there, not through DNS, and
    /// nothing else private is reached at all. An entry for port 80 or 443 may
    /// point to another port.
    #[serde(default)]
    pub private_hosts: BTreeMap<String, Vec<SocketAddr>>,
    /// The owner's allow list, empty for everything (see [`crate::hosts`]).
    #[serde(default)]
    pub allow_hosts: Vec<String>,
    /// The owner's deny list.
    #[serde(default)]
    pub deny_hosts: Vec<String>,
    /// Media types to fetch, such as `text/html` or `text/*`; empty for all.
    /// Applied to 2xx answers that name a type.
    #[serde(default)]
    pub content_types: Vec<String>,
    /// The node's own public addresses, refused like private ones: a home router
    /// may show its inside to them.
    #[serde(default)]
    pub own_addresses: Vec<IpAddr>,
    /// The address to connect from, where a machine runs several nodes.
    #[serde(default)]
    pub local_address: Option<IpAddr>,
}

impl FetchConfig {
    /// A configuration with default bounds and empty lists.
    pub fn new(user_agent: UserAgent) -> Self {
        Self {
            user_agent,
            limits: FetchLimits::default(),
            private_hosts: BTreeMap::new(),
            allow_hosts: Vec::new(),
            deny_hosts: Vec::new(),
            content_types: Vec::new(),
            own_addresses: Vec::new(),
            local_address: None,
        }
    }

    /// Checks everything that can be wrong and gives the owner's lists.
    pub(crate) fn checked(&self) -> Result<HostLists, FetchError> {
        self.user_agent.render(None)?;
        for (key, addresses) in &self.private_hosts {
            check_private_host(key, addresses).map_err(FetchError::Config)?;
        }
        HostLists::parse(&self.allow_hosts, &self.deny_hosts)
            .map_err(|e| FetchError::Config(e.to_string()))
    }

    /// Whether `content_type` is among the wanted media types.
    pub(crate) fn wants_type(&self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        self.content_types.is_empty()
            || self.content_types.iter().any(|wanted| match wanted.strip_suffix("/*") {
                Some(kind) => {
                    essence.split('/').next().is_some_and(|k| k.eq_ignore_ascii_case(kind))
                }
                None => essence.eq_ignore_ascii_case(wanted),
            })
    }
}

fn check_private_host(key: &str, addresses: &[SocketAddr]) -> Result<(), String> {
    let port = key.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let Some(port) = port.and_then(|(_, port)| port.parse::<u16>().ok()) else {
        return Err(format!("private host \"{key}\" must be written as host:port"));
    };
    if key.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("private host \"{key}\" must be in lower case"));
    }
    if addresses.is_empty() {
        return Err(format!("private host \"{key}\" has no address"));
    }
    for address in addresses {
        if let Some(class) = address::denied(address.ip()).filter(|class| !class.may_be_named()) {
            return Err(format!("private host \"{key}\" names the {class} address {address}"));
        }
        if address.port() != port && port != 80 && port != 443 {
            return Err(format!("private host \"{key}\" names {address}, which has another port"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> FetchConfig {
        FetchConfig::new(UserAgent {
            product: "OpenLedgerBot".into(),
            version: "0.1".into(),
            coordinator: "devnet".into(),
            campaign: "manuals".into(),
            contact: "https://openledger.example/abuse".into(),
        })
    }

    #[test]
    fn the_user_agent_names_everybody_involved() {
        let agent = config().user_agent;
        assert_eq!(
            agent.render(Some("news")).unwrap(),
            "OpenLedgerBot/0.1 (+https://openledger.example/abuse; coordinator devnet; campaign news)"
        );
        assert_eq!(agent.render(Some("a\r\nHost: x")).unwrap_err().code(), "config");
        assert!(UserAgent { product: "Bot 2".into(), ..agent }.render(None).is_err());
    }

    #[test]
    fn private_hosts_must_be_plain_and_never_metadata_services() {
        let with = |key: &str, address: &str| {
            let mut config = config();
            config.private_hosts.insert(key.into(), vec![address.parse().unwrap()]);
            config.checked().map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(with("docs.test:80", "127.0.0.1:8000"), Ok(()));
        assert_eq!(with("[::1]:8000", "[::1]:8000"), Ok(()));
        for (key, address) in [
            ("docs.test", "127.0.0.1:80"),
            ("Docs.test:80", "127.0.0.1:80"),
            ("docs.test:8000", "127.0.0.1:8001"),
            ("docs.test:80", "169.254.169.254:80"),
        ] {
            assert!(with(key, address).unwrap_err().contains(key));
        }
    }

    #[test]
    fn media_types_may_be_whole_kinds() {
        let mut config = config();
        assert!(config.wants_type("video/mp4"));
        config.content_types = vec!["text/*".into(), "application/xhtml+xml".into()];
        assert!(config.wants_type("Text/HTML; charset=utf-8"));
        assert!(config.wants_type("application/xhtml+xml"));
        assert!(!config.wants_type("application/pdf") && !config.wants_type("texture/x"));
    }
}

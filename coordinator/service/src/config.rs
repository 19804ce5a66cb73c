//! The coordinator's configuration: a TOML file, overridden by `OPENLEDGER_COORDINATOR_...`.
//!
//! Every key that this build does not know is refused by name; nothing is silently ignored.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_wire::profile::{Profile, ProfileError};
use openledger_wire::{EncodeError, RuleSetId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;

/// Prefix of environment variables; `__` stands between a section and its key.
pub const ENVIRONMENT: &str = "OPENLEDGER_COORDINATOR_";

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder for the ledger, blobs, tokens; relative paths below start here.
    pub data_dir: PathBuf,
    /// The signed network profile.
    pub network: PathBuf,
    /// The vault with the coordinator's keys.
    #[serde(default = "vault")]
    pub vault: PathBuf,
    /// The coordinator link.
    #[serde(default)]
    pub link: LinkSection,
    /// The HTTP API and page.
    #[serde(default)]
    pub http: HttpSection,
    /// Gossip and blobs.
    #[serde(default)]
    pub swarm: SwarmSection,
    /// Posting on chain.
    #[serde(default)]
    pub settlement: SettlementSection,
}

/// The coordinator link (QUIC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSection {
    /// Where to listen (UDP).
    pub address: SocketAddr,
}

/// The HTTP API and page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSection {
    /// Where to listen (TCP). Put a reverse proxy with TLS before a public address.
    pub address: SocketAddr,
    /// Further host names to answer to, as a proxy passes them on.
    pub hosts: Vec<String>,
    /// File with the token that funds campaigns; made if it is missing.
    pub operator_token: PathBuf,
    /// Whether to serve `/metrics`.
    pub metrics: bool,
}

/// Gossip and blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwarmSection {
    /// Whether to join the swarm.
    pub enabled: bool,
    /// Address for gossip (QUIC and TCP); nodes start from it.
    pub address: IpAddr,
    /// Port for gossip; 0 takes a free one, which nodes cannot start from.
    pub port: u16,
    /// Multiaddrs under which others reach it, where it is behind address translation.
    pub external: Vec<String>,
    /// Finds peers in the local network.
    pub mdns: bool,
    /// Where to serve blobs (UDP).
    pub blobs: SocketAddr,
    /// Socket addresses under which nodes reach blobs, prompts above all. Without any: the bound
    /// one, or, where that is all interfaces, the port on the profile's link addresses.
    pub blobs_external: Vec<SocketAddr>,
}

/// Posting on chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettlementSection {
    /// Whether to post roots with the settlement key. RPC URLs and contracts come from the profile.
    pub enabled: bool,
}

fn vault() -> PathBuf {
    PathBuf::from("keys.vault")
}

impl Default for LinkSection {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7_420)) }
    }
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7_480)),
            hosts: Vec::new(),
            operator_token: PathBuf::from("operator.token"),
            metrics: false,
        }
    }
}

impl Default for SwarmSection {
    fn default() -> Self {
        Self {
            enabled: true,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 7_421,
            external: Vec::new(),
            mdns: false,
            blobs: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7_422)),
            blobs_external: Vec::new(),
        }
    }
}

impl Default for SettlementSection {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Why a configuration was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("read {path}: {reason}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A key is unknown, missing or of the wrong kind.
    #[error(
        "use {path}: {key}: {reason}; correct it there, or see the template that \
             openledger-coordinator init writes"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// The key, in dots.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The profile.
    #[error("use the network profile {path}: {source}")]
    Profile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ProfileError,
    },
    /// The profile names rules that this build does not have.
    #[error(
        "use the network profile: its rule set {name:?} ({id}) is not one of this build \
             (main-4, devnet-4, main-3, devnet-3, main-2, devnet-2, main-1, devnet-1 with refinement profile {profile}); update openledger"
    )]
    RuleSet {
        /// Its name.
        name: String,
        /// Its hash.
        id: RuleSetId,
        /// The processing profile of this build, as hex.
        profile: String,
    },
    /// A rule set cannot be hashed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Config {
    /// Reads a file and the environment.
    ///
    /// # Errors
    /// Names the key that is wrong and what to do.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_bounded(path, limits::CONFIG_BYTES_MAX)?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let figment = Figment::new()
            .merge(Toml::string(text))
            // `..._CONFIG` names the file itself.
            .merge(Env::prefixed(ENVIRONMENT).ignore(&["config"]).split("__"));
        let config: Self = figment.extract().map_err(|error| key_error(path, &error))?;
        let base = path.parent().unwrap_or(Path::new("."));
        Ok(Self { data_dir: base.join(&config.data_dir), ..config }.resolved(base))
    }

    /// Paths as they are used: the profile beside the file, the rest in the data folder.
    fn resolved(mut self, base: &Path) -> Self {
        self.network = base.join(&self.network);
        self.vault = self.data_dir.join(&self.vault);
        self.http.operator_token = self.data_dir.join(&self.http.operator_token);
        self
    }

    /// Reads and checks the network profile; gives its text too.
    ///
    /// # Errors
    /// A profile that is unreadable or not signed.
    pub fn profile(&self) -> Result<(Profile, String), ConfigError> {
        let path = self.network.clone();
        let text = read_bounded(&path, openledger_wire::limits::PROFILE_MAX as u64)?;
        match Profile::open(&text) {
            Ok((profile, _)) => Ok((profile, text)),
            Err(source) => Err(ConfigError::Profile { path, source }),
        }
    }

    /// A template for `init`.
    #[must_use]
    pub fn template() -> &'static str {
        TEMPLATE
    }
}

/// The rule set that a profile names, out of those of this build.
///
/// # Errors
/// When this build has no such rule set.
pub fn rule_set(profile: &Profile) -> Result<RuleSet, ConfigError> {
    let refine = PROFILE_V1.profile_id();
    for rules in RuleSet::released(refine) {
        if rules.id()? == profile.rule_set {
            return Ok(rules);
        }
    }
    let name = profile.rule_set_name.to_string();
    Err(ConfigError::RuleSet { name, id: profile.rule_set, profile: hex::encode(refine) })
}

fn key_error(path: &Path, error: &figment::Error) -> ConfigError {
    let first = error.clone().into_iter().next();
    let key = first.as_ref().map(|error| error.path.join(".")).unwrap_or_default();
    let reason = first.map_or_else(|| error.to_string(), |error| error.kind.to_string());
    let key = if key.is_empty() { "the file".to_owned() } else { key };
    ConfigError::Key { path: path.to_owned(), key, reason }
}

/// Reads a text file of bounded length.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<String, ConfigError> {
    let failed = |reason: String| ConfigError::Read { path: path.to_owned(), reason };
    let len = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if len > bytes_max {
        return Err(failed(format!("{len} bytes are more than the limit of {bytes_max}")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

const TEMPLATE: &str = r#"# Configuration of openledger-coordinator. Values shown with # are the defaults.

# Folder for the ledger, blobs and tokens; relative to this file.
data_dir = "."
# The signed network profile that nodes get too; relative to this file.
network = "network.toml"

[link]
# Where nodes connect (UDP).
# address = "0.0.0.0:7420"

[http]
# API and page (TCP). Put a reverse proxy with TLS before a public address.
# address = "127.0.0.1:7480"
# Host names that the proxy passes on.
# hosts = []
# metrics = false

[swarm]
# Gossip (UDP and TCP) and blobs (UDP).
# enabled = true
# address = "0.0.0.0"
# port = 7421
# external = []
# mdns = false
# blobs = "0.0.0.0:7422"
# Where nodes reach blobs; without any, the port of blobs on the profile's link addresses.
# blobs_external = []

[settlement]
# Post roots with the settlement key; it needs native currency for gas and bond.
# enabled = true
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/ledger/coordinator.toml"), text)
    }

    #[test]
    fn the_template_is_the_defaults() {
        let config = parse(TEMPLATE).unwrap();
        assert_eq!(config.link, LinkSection::default());
        assert_eq!(config.swarm, SwarmSection::default());
        assert_eq!(config.settlement, SettlementSection::default());
        assert_eq!(config.network, Path::new("/etc/ledger/network.toml"));
        assert!(config.vault.starts_with("/etc/ledger"));
    }

    #[test]
    fn mistakes_are_named_by_their_key() {
        let cases = [
            ("data_dir = 'x'", "network"),
            ("data_dir = 'x'\nnetwork = 'n'\nport = 7", "port"),
            ("data_dir = 'x'\nnetwork = 'n'\n[link]\naddress = 'nowhere'", "link.address"),
            ("data_dir = 'x'\nnetwork = 'n'\n[http]\nmetrics = 'yes'", "http.metrics"),
            ("data_dir = 'x'\nnetwork = 'n'\n[http]\nmetric = true", "metric"),
            ("data_dir = ", "the file"),
        ];
        for (text, key) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("correct it"), "{key}: {error}");
            assert!(error.contains("coordinator.toml"), "{error}");
        }
    }
}

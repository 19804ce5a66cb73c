//! The network profile: one signed text file that says everything a node needs to join.
//!
//! It is TOML, closed by one line `# signed KEY SIGNATURE` whose ed25519 signature covers the bytes
//! before that line. Whoever edits the text must sign it anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::{List, Text};
use crate::eip712::Domain;
use crate::ids::{EvmAddress, NetworkId, NodeId, RuleSetId, Signature, UnixMs, tagged_hash};
use crate::keys::{KeyError, NodeKey, verify_ed25519};
use crate::limits;

const MARK: &str = "# signed ";
const PREFIX: &[u8] = b"openledger network profile v1\n";

/// Where public randomness comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum BeaconSource {
    /// drand's quicknet (unchained, BLS on G1, 3 s).
    Drand {
        /// The chain's public key, hex.
        public_key: Text<256>,
        /// Time of round 1, seconds since 1970.
        genesis_s: u64,
        /// Seconds between rounds.
        period_s: u64,
        /// Relays to ask, as URLs.
        relays: List<Text<{ limits::URL_MAX }>, 8>,
    },
    /// prevrandao of the settlement chain's block.
    Prevrandao,
    /// A devnet's stand-in: the hash of the round. Refused unless the chain is local.
    Stub,
}

/// The coordinator as nodes reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorContact {
    /// Its ed25519 key: link identity and gossip.
    pub node: NodeId,
    /// Its secp256k1 address: heads, receipts, verdicts.
    pub settlement: EvmAddress,
    /// Link addresses (QUIC).
    pub link: List<SocketAddr, { limits::ADDRESSES_MAX }>,
    /// Base URL of its HTTP API.
    pub api: Text<{ limits::URL_MAX }>,
}

/// The settlement chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainContact {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// JSON-RPC URLs, tried in order.
    pub rpc: List<Text<{ limits::URL_MAX }>, 8>,
    /// The OPEN token; all zero where OPEN is the native currency.
    pub token: EvmAddress,
    /// `EpochRewards`.
    pub rewards: EvmAddress,
    /// `CallEscrow`.
    pub escrow: EvmAddress,
}

/// The profile's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Schema of this file.
    pub schema: u16,
    /// The network's name.
    pub name: Text<{ limits::NAME_MAX }>,
    /// Start of round 0 and epoch 0.
    pub genesis: UnixMs,
    /// The rule set in force at the start.
    pub rule_set: RuleSetId,
    /// Its name.
    pub rule_set_name: Text<{ limits::NAME_MAX }>,
    /// Peers to start from: multiaddrs with `/p2p/`.
    #[serde(default)]
    pub bootstrap: List<Text<{ limits::ADDRESS_MAX }>, 32>,
    /// Nodes that count as vetted from the start, each a cohort of its own.
    #[serde(default)]
    pub founding: List<NodeId, { limits::FOUNDING_MAX }>,
    /// The coordinator.
    pub coordinator: CoordinatorContact,
    /// The chain.
    pub chain: ChainContact,
    /// Public randomness.
    pub beacon: BeaconSource,
    /// `host:port` of pages with private addresses that this network may fetch, with the addresses
    /// to use: for devnets only.
    #[serde(default)]
    pub private_hosts: BTreeMap<String, List<SocketAddr, 4>>,
}

/// Chain ids of local test chains: the only ones where the stub beacon, private hosts and short
/// windows are allowed.
pub const LOCAL_CHAINS: [u64; 4] = [31_337, 1_337, 900, 901];

/// Why a profile was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Larger than any real profile.
    #[error(
        "read the network profile: {len} bytes are more than the limit of {max}; this is not a profile"
    )]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The closing line is missing or unreadable.
    #[error(
        "read the network profile: its last line must be \"# signed KEY SIGNATURE\"; fetch the file again from its publisher"
    )]
    NotSigned,
    /// The text was changed after it was signed.
    #[error("read the network profile: {0}; fetch the file again from its publisher")]
    Signature(KeyError),
    /// Not the expected fields.
    #[error("read the network profile: {0}")]
    Malformed(String),
    /// A later schema.
    #[error(
        "read the network profile: schema {found} is unknown here, this build knows 1; update openledger"
    )]
    UnknownSchema {
        /// The file's schema.
        found: u16,
    },
    /// Devnet means on a public chain.
    #[error(
        "accept the network profile: {what} is allowed on local chains only, this is chain {chain_id}; use a profile meant for this chain"
    )]
    OnlyLocal {
        /// What is not allowed.
        what: &'static str,
        /// The chain.
        chain_id: u64,
    },
}

impl Profile {
    /// The network's id: its name, chain, rewards contract and coordinator key. Addresses and
    /// peers may change without making another network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        let parts: [&[u8]; 5] = [
            self.name.as_bytes(),
            &self.chain.chain_id.to_be_bytes(),
            &self.chain.rewards.0,
            &self.coordinator.node.0,
            &self.genesis.0.to_be_bytes(),
        ];
        NetworkId(tagged_hash("openledger network v1", &parts))
    }

    /// The EIP-712 domain of receipts, verdicts, heads and bindings.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.chain.chain_id, contract: self.chain.rewards }
    }

    /// Whether the chain is a local test chain.
    #[must_use]
    pub fn is_local(&self) -> bool {
        LOCAL_CHAINS.contains(&self.chain.chain_id)
    }

    /// The signed text.
    pub fn sign(&self, key: &NodeKey) -> Result<String, ProfileError> {
        let mut text = toml::to_string(self).map_err(|e| ProfileError::Malformed(e.to_string()))?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let signature = key.sign(&[PREFIX, text.as_bytes()].concat());
        text.push_str(&format!("{MARK}{} {signature}\n", key.public()));
        Ok(text)
    }

    /// Reads a signed text; gives the profile and the key that signed it.
    pub fn open(text: &str) -> Result<(Self, NodeId), ProfileError> {
        if text.len() > limits::PROFILE_MAX {
            return Err(ProfileError::TooLong { len: text.len(), max: limits::PROFILE_MAX });
        }
        let at = text.rfind(MARK).ok_or(ProfileError::NotSigned)?;
        let (body, line) = text.split_at(at);
        let mut words = line[MARK.len()..].split_whitespace();
        let (Some(key), Some(signature), None) = (words.next(), words.next(), words.next()) else {
            return Err(ProfileError::NotSigned);
        };
        let key: NodeId = key.parse().map_err(|_| ProfileError::NotSigned)?;
        let signature: Signature = signature.parse().map_err(|_| ProfileError::NotSigned)?;
        verify_ed25519(&key.0, &[PREFIX, body.as_bytes()].concat(), &signature)
            .map_err(ProfileError::Signature)?;
        let profile: Self =
            toml::from_str(body).map_err(|e| ProfileError::Malformed(e.to_string()))?;
        profile.check()?;
        Ok((profile, key))
    }

    fn check(&self) -> Result<(), ProfileError> {
        if self.schema != 1 {
            return Err(ProfileError::UnknownSchema { found: self.schema });
        }
        if self.private_hosts.len() > limits::PRIVATE_HOSTS_MAX {
            let found = self.private_hosts.len();
            return Err(ProfileError::Malformed(format!("{found} private hosts are too many")));
        }
        let only_local = |what| {
            if self.is_local() {
                Ok(())
            } else {
                Err(ProfileError::OnlyLocal { what, chain_id: self.chain.chain_id })
            }
        };
        if self.beacon == BeaconSource::Stub {
            only_local("the stub beacon")?;
        }
        if !self.private_hosts.is_empty() {
            only_local("fetching private hosts")?;
        }
        Ok(())
    }
}

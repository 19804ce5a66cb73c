//! What a coordinator is started with, and why it may not start.

use std::sync::Arc;

use openledger_ledger::{EmbeddedLedger, Ledger, LedgerError};
use openledger_rules::RuleSet;
use openledger_swarm::{LinkError, StoreError, SwarmError};
use openledger_web::{ServeError, Token, TokenError};
use openledger_wire::profile::Profile;
use openledger_wire::{EncodeError, EvmAddress, NodeId};
use thiserror::Error;

use crate::config::{self, Config, ConfigError};
use crate::core::CoreError;
use crate::keys::{Keys, KeysError};
use crate::token;

/// Why the coordinator did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration or the profile.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// These keys are not the profile's coordinator.
    #[error(
        "run this network: its profile names coordinator {expected} with settlement address \
             0x{expected_address}, the vault holds {found} and 0x{found_address}; use the vault \
             that belongs to it, or sign a profile with these keys"
    )]
    OtherCoordinator {
        /// Node key of the profile.
        expected: NodeId,
        /// Settlement address of the profile.
        expected_address: EvmAddress,
        /// Node key here.
        found: NodeId,
        /// Settlement address here.
        found_address: EvmAddress,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The core.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The blob store.
    #[error(transparent)]
    Blobs(#[from] StoreError),
    /// Gossip.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// HTTP.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The operator's token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A file of the data folder.
    #[error("write {path}: {source}; check the folder's permissions and free space")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The HTTP client for beacons.
    #[error("set up the client for beacons: {0}")]
    Client(String),
    /// The rule set cannot be hashed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What a coordinator is started with.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The network profile.
    pub profile: Profile,
    /// Its signed text, as nodes get it.
    pub profile_text: String,
    /// The rules in force.
    pub rules: RuleSet,
    /// The keys.
    pub keys: Keys,
    /// Where everything is kept.
    pub ledger: Arc<dyn Ledger>,
    /// The token that funds campaigns.
    pub operator: Token,
}

impl Parts {
    /// What a configuration names: profile, rules, keys, ledger and token.
    ///
    /// # Errors
    /// Whatever is missing or does not fit, with what to do.
    pub fn load(config: Config) -> Result<Self, StartError> {
        let (profile, profile_text) = config.profile()?;
        let rules = config::rule_set(&profile)?;
        let keys = Keys::open(&config.vault)?;
        let named = &profile.coordinator;
        let (found, found_address) = (keys.node.public(), keys.settlement.address());
        if named.node != found || named.settlement != found_address {
            return Err(StartError::OtherCoordinator {
                expected: named.node,
                expected_address: named.settlement,
                found,
                found_address,
            });
        }
        let ledger = Arc::new(EmbeddedLedger::open(config.data_dir.join("ledger.redb"))?);
        let operator = token::read_or_make(&config.http.operator_token)?;
        Ok(Self { config, profile, profile_text, rules, keys, ledger, operator })
    }
}

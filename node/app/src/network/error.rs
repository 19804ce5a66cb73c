//! Why a network cannot be joined, or not be left.

use std::path::PathBuf;

use openledger_wire::profile::ProfileError;
use openledger_wire::{EncodeError, NetworkId, NodeId, RuleSetId};
use thiserror::Error;

use crate::data_dir::DataDirError;
use crate::limits;

/// Why a network cannot be joined, or not be left.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A file of the data folder.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// The profile was refused.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Nothing is known of that name.
    #[error(
        "join network {0:?}: there is no such file, and no network of that name was joined before; get its profile from its publisher and give the file's path"
    )]
    Unknown(String),
    /// There is no such file.
    #[error("add a network: there is no file {}; give the path of its signed profile", .0.display())]
    NoFile(PathBuf),
    /// No network was named.
    #[error("join a network: none was named and {0}; use `--network FILE` or `--network NAME`")]
    NotNamed(String),
    /// One network was named twice.
    #[error("join network {0:?}: it was named twice; name each network once")]
    Twice(String),
    /// More networks than a machine should carry.
    #[error("join {0} networks: a node is in at most {max}; name fewer", max = limits::NETWORKS_MAX)]
    TooMany(usize),
    /// Another key signed it than before.
    #[error(
        "join network {name:?}: its profile was signed by {found}, before it was {known}; if its publisher confirms the change, run `openledger network remove {name}` and add the file again (what was earned there comes back with it)"
    )]
    OtherSigner {
        /// The network's name.
        name: String,
        /// Who signed now.
        found: NodeId,
        /// Who signed before.
        known: NodeId,
    },
    /// Another network of a name that is taken.
    #[error(
        "join network {name:?}: this profile is of network {found}, but another network of that name, {known}, was joined before; ask the publisher which one is meant, and to change over run `openledger network remove {name}` first (what was earned there is kept aside)"
    )]
    OtherNetwork {
        /// The name of both.
        name: String,
        /// The network of the profile.
        found: NetworkId,
        /// The network that has the name here.
        known: NetworkId,
    },
    /// The name makes no folder.
    #[error(
        "join network {0:?}: its name may have letters, digits, '-', '_' and '.' only; ask its publisher"
    )]
    BadName(String),
    /// This program has no such rules.
    #[error(
        "join network {name:?}: it runs under rule set {wanted:?} ({id}), this version of openledger knows {known}; update openledger"
    )]
    UnknownRules {
        /// The network's name.
        name: String,
        /// The rule set's name.
        wanted: String,
        /// Its id.
        id: RuleSetId,
        /// What is known here.
        known: String,
    },
    /// The rules do not encode.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

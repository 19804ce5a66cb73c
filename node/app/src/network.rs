//! Known networks: each a folder with its signed profile.
//!
//! A profile is read from a file once, and kept under its name. Whoever signed it first must sign
//! it ever after.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_wire::profile::{Profile, ProfileError};
use openledger_wire::{EncodeError, NodeId, RuleSetId, limits as wire_limits};
use thiserror::Error;

use crate::data_dir::{DataDir, DataDirError, read_bounded, write_private};

/// Why a network cannot be joined.
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
    /// No network was named.
    #[error("join a network: none was named and {0}; use `--network FILE` or `--network NAME`")]
    NotNamed(String),
    /// Another key signed it than before.
    #[error("join network {name:?}: its profile was signed by {found}, before it was {known}; if its publisher confirms the change, remove {} and try again", path.display())]
    OtherSigner {
        /// The network's name.
        name: String,
        /// Who signed now.
        found: NodeId,
        /// Who signed before.
        known: NodeId,
        /// The profile kept.
        path: PathBuf,
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

/// A network with its profile and rules.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its profile.
    pub profile: Arc<Profile>,
    /// Who signed the profile.
    pub signer: NodeId,
    /// The rule set in force.
    pub rules: RuleSet,
    /// Its folder.
    pub folder: PathBuf,
}

impl Network {
    /// The network of a file, or one that was joined before, by name. Without either, the only
    /// one that is known.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn find(data: &DataDir, named: Option<&str>) -> Result<Self, NetworkError> {
        match named.filter(|name| !name.is_empty()) {
            Some(name) if Path::new(name).is_file() => Self::adopt(data, Path::new(name)),
            Some(name) => {
                let kept = data.network(safe(name)?).join("profile.toml");
                if !kept.is_file() {
                    return Err(NetworkError::Unknown(name.to_owned()));
                }
                Self::open(data, &kept)
            }
            None => {
                let known = Self::known(data);
                match known.as_slice() {
                    [name] => Self::find(data, Some(name)),
                    [] => Err(NetworkError::NotNamed("none was joined before".to_owned())),
                    many => {
                        let names = format!("several are known: {}", many.join(", "));
                        Err(NetworkError::NotNamed(names))
                    }
                }
            }
        }
    }

    /// Names of networks that were joined before.
    #[must_use]
    pub fn known(data: &DataDir) -> Vec<String> {
        let Ok(folders) = fs::read_dir(data.join("networks")) else { return Vec::new() };
        let mut names: Vec<String> = folders
            .filter_map(Result::ok)
            .filter(|folder| folder.path().join("profile.toml").is_file())
            .filter_map(|folder| folder.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    fn adopt(data: &DataDir, file: &Path) -> Result<Self, NetworkError> {
        let text = read_profile(file)?;
        let (profile, signer) = Profile::open(&text)?;
        let name = safe(&profile.name)?.to_owned();
        let folder = data.make(Path::new("networks").join(&name))?;
        let path = folder.join("profile.toml");
        if path.is_file() {
            let (_, known) = Profile::open(&read_profile(&path)?)?;
            if known != signer {
                return Err(NetworkError::OtherSigner { name, found: signer, known, path });
            }
        }
        write_private(&path, text.as_bytes())?;
        Self::of(profile, signer, folder)
    }

    fn open(data: &DataDir, kept: &Path) -> Result<Self, NetworkError> {
        let (profile, signer) = Profile::open(&read_profile(kept)?)?;
        let folder = data.network(safe(&profile.name)?);
        Self::of(profile, signer, folder)
    }

    fn of(profile: Profile, signer: NodeId, folder: PathBuf) -> Result<Self, NetworkError> {
        let refine = PROFILE_V1.profile_id();
        let known = [RuleSet::main_v1(refine), RuleSet::devnet_v1(refine)];
        let mut names = Vec::new();
        for rules in known {
            if rules.id()? == profile.rule_set {
                return Ok(Self { profile: Arc::new(profile), signer, rules, folder });
            }
            names.push(format!("{:?} ({})", &*rules.name, rules.id()?.short()));
        }
        Err(NetworkError::UnknownRules {
            name: profile.name.to_string(),
            wanted: profile.rule_set_name.to_string(),
            id: profile.rule_set,
            known: names.join(", "),
        })
    }

    /// The network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.profile.name
    }
}

fn read_profile(path: &Path) -> Result<String, NetworkError> {
    let bytes = read_bounded(path, wire_limits::PROFILE_MAX as u64)?.unwrap_or_default();
    Ok(String::from_utf8(bytes).map_err(|_| ProfileError::NotSigned)?)
}

/// A name that is safe as the name of a folder.
fn safe(name: &str) -> Result<&str, NetworkError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = !name.is_empty() && name.len() <= 64 && !name.starts_with('.');
    if fits && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(NetworkError::BadName(name.into()))
    }
}

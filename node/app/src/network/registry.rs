//! Finding, adding and removing networks in the data folder.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_wire::profile::{Profile, ProfileError};
use openledger_wire::{NodeId, limits as wire_limits};

use super::changes::changes;
use super::error::NetworkError;
use crate::data_dir::{DataDir, DataDirError, read_bounded, write_private};
use crate::limits;

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

/// What a profile brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A network that was not known here.
    New,
    /// One that was removed earlier; its folder came back.
    Back,
    /// Nothing: it is the profile that is kept.
    Same,
    /// The same network's profile, with these differences.
    Changed(Vec<String>),
}

/// A network that was found or added.
#[derive(Clone, Debug)]
pub struct Added {
    /// The network.
    pub network: Network,
    /// What its profile brought.
    pub news: News,
}

impl Network {
    /// The network of a file, or one that was joined before, by name. Without either, the only
    /// one that is known.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn find(data: &DataDir, named: Option<&str>) -> Result<Self, NetworkError> {
        Ok(Self::join(data, named)?.network)
    }

    /// As [`Network::find`], telling what a file brought.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn join(data: &DataDir, named: Option<&str>) -> Result<Added, NetworkError> {
        let Some(name) = named.filter(|name| !name.is_empty()) else {
            return Self::only(data).map(Added::nothing_new);
        };
        // A plain word means the network of that name first, else the file.
        if is_word(name)
            && let Ok(name) = safe(name)
            && data.network(name).join(PROFILE).is_file()
        {
            return Self::open(data, name).map(Added::nothing_new);
        }
        if Path::new(name).is_file() {
            return Self::add(data, Path::new(name));
        }
        Err(NetworkError::Unknown(name.to_owned()))
    }

    /// The networks of these files and names, in this order; without any, the only one known.
    ///
    /// # Errors
    /// [`NetworkError`], also for one that is named twice.
    pub fn join_all(data: &DataDir, named: &[String]) -> Result<Vec<Added>, NetworkError> {
        if named.is_empty() {
            return Ok(vec![Self::join(data, None)?]);
        }
        if named.len() > limits::NETWORKS_MAX {
            return Err(NetworkError::TooMany(named.len()));
        }
        let mut all: Vec<Added> = Vec::with_capacity(named.len());
        for name in named {
            let added = Self::join(data, Some(name))?;
            if all.iter().any(|other| other.network.name() == added.network.name()) {
                return Err(NetworkError::Twice(added.network.name().to_owned()));
            }
            all.push(added);
        }
        Ok(all)
    }

    /// Names of networks that were joined before.
    #[must_use]
    pub fn known(data: &DataDir) -> Vec<String> {
        let Ok(folders) = fs::read_dir(data.join("networks")) else { return Vec::new() };
        let mut names: Vec<String> = folders
            .filter_map(Result::ok)
            .filter(|folder| folder.path().join(PROFILE).is_file())
            .filter_map(|folder| folder.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Takes the profile of a file over: a new network, or a change of a known one by the key that
    /// signed it before.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing has changed then.
    pub fn add(data: &DataDir, file: &Path) -> Result<Added, NetworkError> {
        if !file.is_file() {
            return Err(NetworkError::NoFile(file.to_owned()));
        }
        let text = read_profile(file)?;
        let (profile, signer) = Profile::open(&text)?;
        let name = safe(&profile.name)?.to_owned();
        let network = Self::of(profile, signer, data.network(&name))?;
        let path = network.folder.join(PROFILE);
        let news = if path.is_file() {
            let kept = read_profile(&path)?;
            if kept == text {
                return Ok(Added { network, news: News::Same });
            }
            network.follows(&kept)?
        } else if network.bring_back(data)? {
            News::Back
        } else {
            data.make(Path::new("networks").join(&name))?;
            News::New
        };
        write_private(&path, text.as_bytes())?;
        Ok(Added { network, news })
    }

    /// Leaves a network: its folder with all promises and receipts is moved to `removed/`, from
    /// where it comes back when the network is added again. Gives the folder's new place.
    ///
    /// # Errors
    /// [`NetworkError::Unknown`], and the system's.
    pub fn remove(data: &DataDir, name: &str) -> Result<PathBuf, NetworkError> {
        let folder = data.network(safe(name)?);
        let path = folder.join(PROFILE);
        if !path.is_file() {
            return Err(NetworkError::Unknown(name.to_owned()));
        }
        let (profile, _) = Profile::open(&read_profile(&path)?)?;
        let aside = aside(data, &profile);
        data.make("removed")?;
        fs::rename(&folder, &aside).map_err(|source| {
            let action = "move to removed/ the folder";
            NetworkError::File(DataDirError::Io { action, path: folder, source })
        })?;
        Ok(aside)
    }

    /// The signed text of the profile, word for word as its publisher gave it.
    ///
    /// # Errors
    /// The system's.
    pub fn text(&self) -> Result<String, NetworkError> {
        read_profile(&self.folder.join(PROFILE))
    }

    /// The network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.profile.name
    }

    fn only(data: &DataDir) -> Result<Self, NetworkError> {
        match Self::known(data).as_slice() {
            [name] => Self::open(data, name),
            [] => Err(NetworkError::NotNamed("none was joined before".to_owned())),
            many => {
                let names = format!("several are known: {}", many.join(", "));
                Err(NetworkError::NotNamed(names))
            }
        }
    }

    fn open(data: &DataDir, name: &str) -> Result<Self, NetworkError> {
        Self::in_folder(data.network(safe(name)?))
    }

    /// The network whose folder this is.
    pub(super) fn in_folder(folder: PathBuf) -> Result<Self, NetworkError> {
        let (profile, signer) = Profile::open(&read_profile(&folder.join(PROFILE))?)?;
        Self::of(profile, signer, folder)
    }

    fn of(profile: Profile, signer: NodeId, folder: PathBuf) -> Result<Self, NetworkError> {
        let refine = PROFILE_V1.profile_id();
        let known = RuleSet::released(refine);
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

    /// Whether this profile may take the place of the one kept, and what it changes.
    fn follows(&self, kept: &str) -> Result<News, NetworkError> {
        let (old, known) = Profile::open(kept)?;
        let name = self.name().to_owned();
        if old.network() != self.profile.network() {
            let found = self.profile.network();
            return Err(NetworkError::OtherNetwork { name, found, known: old.network() });
        }
        if known != self.signer {
            return Err(NetworkError::OtherSigner { name, found: self.signer, known });
        }
        Ok(News::Changed(changes(&old, &self.profile)))
    }

    /// Brings back the folder of this very network, if it was removed.
    fn bring_back(&self, data: &DataDir) -> Result<bool, NetworkError> {
        let aside = aside(data, &self.profile);
        if !aside.is_dir() {
            return Ok(false);
        }
        data.make("networks")?;
        fs::rename(&aside, &self.folder).map_err(|source| {
            let action = "bring back from removed/ the folder";
            DataDirError::Io { action, path: aside, source }
        })?;
        Ok(true)
    }
}

impl Added {
    fn nothing_new(network: Network) -> Self {
        Self { network, news: News::Same }
    }
}

/// The profile in a network's folder.
pub(super) const PROFILE: &str = "profile.toml";

/// Where the folder of a removed network lies: by name and id, so that another network of its name
/// never finds it.
fn aside(data: &DataDir, profile: &Profile) -> PathBuf {
    data.join("removed").join(format!("{}-{}", profile.name, profile.network()))
}

fn read_profile(path: &Path) -> Result<String, NetworkError> {
    let bytes = read_bounded(path, wire_limits::PROFILE_MAX as u64)?.unwrap_or_default();
    Ok(String::from_utf8(bytes).map_err(|_| ProfileError::NotSigned)?)
}

/// Whether a name is one word and no path.
fn is_word(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use openledger_wire::profile::{BeaconSource, ChainContact, CoordinatorContact};
    use openledger_wire::{EvmAddress, List, NodeKey, Text, UnixMs};

    pub(crate) fn profile(coordinator: u8, api: &str) -> Profile {
        let rules = RuleSet::devnet_v1(PROFILE_V1.profile_id());
        Profile {
            schema: 1,
            name: Text::clipped("test"),
            genesis: UnixMs(1),
            rule_set: rules.id().unwrap(),
            rule_set_name: Text::clipped(&rules.name),
            bootstrap: List::default(),
            founding: List::default(),
            coordinator: CoordinatorContact {
                node: NodeKey::from_seed(&[coordinator; 32]).public(),
                settlement: EvmAddress([9; 20]),
                link: List::default(),
                api: Text::clipped(api),
            },
            chain: ChainContact {
                chain_id: 31_337,
                rpc: List::default(),
                token: EvmAddress([1; 20]),
                rewards: EvmAddress([2; 20]),
                escrow: EvmAddress([3; 20]),
            },
            beacon: BeaconSource::Stub,
            private_hosts: Default::default(),
        }
    }

    struct Place {
        _folder: tempfile::TempDir,
        data: DataDir,
        file: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let data = DataDir::find(Some(&folder.path().join("data"))).unwrap();
            data.make("").unwrap();
            let file = folder.path().join("given.toml");
            Self { _folder: folder, data, file }
        }

        fn add(&self, profile: &Profile, signer: u8) -> Result<Added, NetworkError> {
            let text = profile.sign(&NodeKey::from_seed(&[signer; 32])).unwrap();
            fs::write(&self.file, text).unwrap();
            Network::add(&self.data, &self.file)
        }
    }

    #[test]
    fn a_profile_is_kept_word_for_word_and_found_by_name() {
        let place = Place::new();
        let added = place.add(&profile(1, "http://a"), 1).unwrap();
        assert_eq!(added.news, News::New);
        let given = fs::read_to_string(&place.file).unwrap();
        fs::remove_file(&place.file).unwrap();
        for named in [None, Some("test"), Some("")] {
            let found = Network::find(&place.data, named).unwrap();
            assert_eq!((found.name(), found.text().unwrap()), ("test", given.clone()));
        }
        assert_eq!(Network::known(&place.data), ["test"]);
        let twice = Network::join_all(&place.data, &["test".into(), "test".into()]).unwrap_err();
        assert!(matches!(twice, NetworkError::Twice(_)), "{twice}");
        for named in ["other", "../test", "networks/test"] {
            let error = Network::find(&place.data, Some(named)).unwrap_err();
            assert!(matches!(error, NetworkError::Unknown(_)), "{named}: {error}");
        }
    }

    #[test]
    fn changes_are_told_and_only_the_first_signer_may_make_them() {
        let place = Place::new();
        place.add(&profile(1, "http://a"), 1).unwrap();
        assert_eq!(place.add(&profile(1, "http://a"), 1).unwrap().news, News::Same);
        let told = vec!["coordinator's API: http://a -> http://b".to_owned()];
        assert_eq!(place.add(&profile(1, "http://b"), 1).unwrap().news, News::Changed(told));
        let error = place.add(&profile(1, "http://c"), 2).unwrap_err();
        assert!(matches!(error, NetworkError::OtherSigner { .. }), "{error}");
        let error = place.add(&profile(2, "http://c"), 1).unwrap_err();
        assert!(matches!(error, NetworkError::OtherNetwork { .. }), "{error}");
        assert!(error.to_string().contains("network remove test"), "{error}");
        let kept = Network::find(&place.data, None).unwrap();
        assert_eq!(&*kept.profile.coordinator.api, "http://b");
    }

    #[test]
    fn a_removed_network_comes_back_with_what_it_had_and_no_other_gets_that() {
        let place = Place::new();
        let first = place.add(&profile(1, "http://a"), 1).unwrap().network;
        fs::write(first.folder.join("outbox"), "promises").unwrap();
        Network::remove(&place.data, "test").unwrap();
        assert!(Network::known(&place.data).is_empty());
        let error = Network::remove(&place.data, "test").unwrap_err();
        assert!(matches!(error, NetworkError::Unknown(_)), "{error}");
        let kept = Network::kept(&place.data);
        assert!(kept.len() == 1 && kept[0].folder.join("outbox").is_file(), "{kept:?}");

        let other = place.add(&profile(2, "http://a"), 1).unwrap();
        assert_eq!(other.news, News::New);
        assert!(!other.network.folder.join("outbox").exists());
        assert_eq!(Network::kept(&place.data).len(), 2, "both of that name");
        Network::remove(&place.data, "test").unwrap();
        // After a removal, the publisher may be another one.
        let back = place.add(&profile(1, "http://a"), 7).unwrap();
        assert_eq!(back.news, News::Back);
        assert_eq!(fs::read_to_string(back.network.folder.join("outbox")).unwrap(), "promises");
    }

    #[test]
    fn rules_that_are_not_known_leave_no_trace() {
        let place = Place::new();
        let mut unknown = profile(1, "http://a");
        unknown.rule_set.0 = [8; 32];
        let error = place.add(&unknown, 1).unwrap_err();
        assert!(matches!(error, NetworkError::UnknownRules { .. }), "{error}");
        assert!(Network::known(&place.data).is_empty());
    }
}

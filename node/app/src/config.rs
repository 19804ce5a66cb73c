//! What the owner decides: defaults, `config.toml`, `OPENLEDGER_NODE_…` variables, in this order.
//!
//! Flags of `up` come after that. Only what is really kept to can be configured.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use openledger_wire::task::TaskKind;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml_edit::{DocumentMut, Item, TableLike};

use crate::api::ApiConfig;
use crate::data_dir::{self, DataDirError};
use crate::limits;
use crate::serving::upstream::config::check as check_upstreams;
use crate::serving::{InferenceConfig, ModelsConfig, UpstreamConfig};

/// Prefix of variables that set a value: `OPENLEDGER_NODE_WORK__PARALLEL=2`.
pub const ENV_PREFIX: &str = "OPENLEDGER_NODE_";

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is done, and how much.
    pub work: WorkConfig,
    /// Which hosts may be fetched.
    pub hosts: HostsConfig,
    /// Where the node listens and whom it knows.
    pub network: NetworkConfig,
    /// Which models are served, and what that may take.
    pub models: ModelsConfig,
    /// What computes their answers, and how.
    pub inference: InferenceConfig,
    /// Servers of the owner that answer calls, too.
    pub upstream: Vec<UpstreamConfig>,
    /// How applications and peers may use them.
    pub api: ApiConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// What is done, and how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkConfig {
    /// Refine workers at the same time; 0 for as many as there are cores, at most four.
    pub parallel: usize,
    /// Kinds of work: "fetch", "refine", "infer".
    pub kinds: Vec<String>,
    /// Blobs take at most this much disk, in MiB; then fetch tasks are given back.
    pub disk_mib_max: u64,
}

/// Which hosts may be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostsConfig {
    /// Only these hosts; empty for all. `example.org` covers its subdomains too.
    pub allow: Vec<String>,
    /// Never these hosts.
    pub deny: Vec<String>,
}

/// Where the node listens and whom it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The network to join when `up` names none; empty for the only one known.
    pub name: String,
    /// More networks to be in at the same time, by name.
    pub also: Vec<String>,
    /// Address to listen on and to connect from.
    pub bind: IpAddr,
    /// Port for peers (UDP and TCP); 0 takes a free one. The second network takes the next one,
    /// and so on.
    pub peer_port: u16,
    /// Port for blobs (UDP); 0 takes a free one.
    pub blob_port: u16,
    /// Port of the control API on 127.0.0.1; 0 takes a free one.
    pub control_port: u16,
    /// Whether peers in the same local network are looked for, by a node in one network; what is
    /// announced there does not tell networks apart.
    pub mdns: bool,
    /// More peers of the first network to start from, as multiaddrs with `/p2p/`.
    pub peers: Vec<String>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// "error", "warn", "info", "debug" or a filter such as "info,openledger_app=debug".
    pub level: String,
}

impl Default for WorkConfig {
    fn default() -> Self {
        let kinds = vec!["fetch".to_owned(), "refine".to_owned()];
        Self { parallel: 0, kinds, disk_mib_max: 20 * 1024 }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            also: Vec::new(),
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            peer_port: 0,
            blob_port: 0,
            control_port: 0,
            mdns: true,
            peers: Vec::new(),
        }
    }
}

impl NetworkConfig {
    /// The networks to be in, by name; none where the owner leaves it to what is known.
    #[must_use]
    pub fn joined(&self) -> Vec<String> {
        let named = std::iter::once(&self.name).chain(&self.also);
        named.filter(|name| !name.is_empty()).cloned().collect()
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

/// Why a configuration was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// The file is not TOML.
    #[error("read {}: {reason}; mend that line, or move the file away to start from defaults", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong.
        reason: String,
    },
    /// A key is unknown or its value is of another type.
    #[error(
        "read the configuration: {key} in {place}: {reason}; see `openledger config show` for all keys and their values"
    )]
    Value {
        /// The key.
        key: String,
        /// The file or variable.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A value is outside what makes sense.
    #[error("use the configuration: {key} = {value}: {remedy}")]
    Unfit {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What to write.
        remedy: String,
    },
}

impl Config {
    /// Reads defaults, file and variables.
    ///
    /// # Errors
    /// [`ConfigError`] names key, place and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path)?;
        Self::from_text(&text, path, Env::prefixed(ENV_PREFIX).split("__"))
    }

    fn from_text(text: &str, path: &Path, env: Env) -> Result<Self, ConfigError> {
        if let Err(error) = text.parse::<toml::Table>() {
            return Err(syntax_error(path, text, error.message(), error.span()));
        }
        let file = Figment::from(Serialized::defaults(Self::default())).merge(Toml::string(text));
        let place = |error: figment::Error, from_file: bool| {
            let place = if from_file {
                path.display().to_string()
            } else {
                format!("the environment ({ENV_PREFIX}…)")
            };
            value_error(error, place)
        };
        // Extracted twice, so that a mistake is blamed on the right place.
        file.extract::<Self>().map_err(|error| place(error, true))?;
        let config: Self = file.merge(env).extract().map_err(|error| place(error, false))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let unfit = |key, value: String, remedy: String| ConfigError::Unfit { key, value, remedy };
        if self.work.parallel > limits::PARALLEL_MAX {
            let remedy = format!("use 0 (automatic) to {}", limits::PARALLEL_MAX);
            return Err(unfit("work.parallel", self.work.parallel.to_string(), remedy));
        }
        for kind in &self.work.kinds {
            if !matches!(kind.as_str(), "fetch" | "refine" | "infer") {
                let remedy = "this version knows \"fetch\", \"refine\" and \"infer\"".to_owned();
                return Err(unfit("work.kinds", format!("{kind:?}"), remedy));
            }
        }
        self.models.check().map_err(|(key, value, remedy)| unfit(key, value, remedy))?;
        self.inference.check().map_err(|(key, value, remedy)| unfit(key, value, remedy))?;
        self.api.check().map_err(|(key, value, remedy)| unfit(key, value, remedy))?;
        let upstreams = check_upstreams(&self.upstream);
        upstreams.map_err(|(key, value, remedy)| unfit(key, value, remedy))?;
        for (key, hosts) in [("hosts.allow", &self.hosts.allow), ("hosts.deny", &self.hosts.deny)] {
            if hosts.len() > limits::HOSTS_MAX {
                let remedy = format!("use at most {} entries", limits::HOSTS_MAX);
                return Err(unfit(key, format!("{} entries", hosts.len()), remedy));
            }
        }
        let networks = self.network.joined().len();
        if networks > limits::NETWORKS_MAX {
            let remedy = format!("name at most {} networks in all", limits::NETWORKS_MAX);
            return Err(unfit("network.also", format!("{networks} networks"), remedy));
        }
        openledger_fetch::hosts::HostLists::parse(&self.hosts.allow, &self.hosts.deny)
            .map_err(|error| unfit("hosts", error.to_string(), "mend that entry".to_owned()))?;
        Ok(())
    }

    /// Refine workers at the same time.
    #[must_use]
    pub fn parallel(&self) -> usize {
        match self.work.parallel {
            0 => std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(limits::PARALLEL_DEFAULT_MAX),
            parallel => parallel,
        }
    }

    /// The task kinds to offer, ascending.
    #[must_use]
    pub fn kinds(&self) -> Vec<TaskKind> {
        let wants = |kind: &TaskKind| self.work.kinds.iter().any(|name| name == kind.name());
        [TaskKind::Fetch, TaskKind::Refine, TaskKind::Infer].into_iter().filter(wants).collect()
    }

    /// The same with secrets hidden, as it may be shown: what stands for a key is none itself, so that a copy of what was shown is refused and not used.
    #[must_use]
    pub fn shown(&self) -> Self {
        let api = ApiConfig { keys: self.api.hidden_keys(), ..self.api.clone() };
        let upstream = self.upstream.iter().map(UpstreamConfig::shown).collect();
        Self { api, upstream, ..self.clone() }
    }

    /// All keys with their values, as TOML.
    ///
    /// # Errors
    /// None for values of this type, in practice.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|error| ConfigError::Syntax {
            path: PathBuf::from("the configuration"),
            reason: error.to_string(),
        })
    }
}

/// Sets one key in the file, if the whole is right afterwards. Everything else in the file stays as
/// its owner wrote it, comments too.
///
/// # Errors
/// [`ConfigError`]; the file is unchanged then.
pub fn set(path: &Path, key: &str, value: &str) -> Result<Config, ConfigError> {
    let text = read_text(path)?;
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        syntax_error(path, &text, error.message(), error.span())
    })?;
    let place = "the command line";
    let unknown = || ConfigError::Value {
        key: key.to_owned(),
        place: place.to_owned(),
        reason: "keys have the form section.name".to_owned(),
    };
    let (sections, name) = key.rsplit_once('.').ok_or_else(unknown)?;
    let mut section: &mut dyn TableLike = document.as_table_mut();
    for part in sections.split('.') {
        let inner = section.entry(part).or_insert_with(toml_edit::table);
        section = inner.as_table_like_mut().ok_or_else(unknown)?;
    }
    let mut new = value_of(value);
    match section.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            // The value alone is replaced: what is written around it on its line stays.
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            section.insert(name, Item::Value(new));
        }
    }
    let text = document.to_string();
    let config = Config::from_text(&text, Path::new(place), Env::raw().only(&[]))?;
    data_dir::write_private(path, text.as_bytes())?;
    Ok(config)
}

/// A value as TOML where it is TOML, else as a string: `4`, `true`, `["a"]`, `example.org`.
fn value_of(text: &str) -> toml_edit::Value {
    text.trim().parse().unwrap_or_else(|_| text.into())
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let bytes = data_dir::read_bounded(path, limits::CONFIG_BYTES_MAX)?.unwrap_or_default();
    String::from_utf8(bytes)
        .map_err(|error| ConfigError::Syntax { path: path.to_owned(), reason: error.to_string() })
}

/// What is wrong and where. The line itself is not repeated: it may hold a key.
fn syntax_error(
    path: &Path,
    text: &str,
    message: &str,
    span: Option<std::ops::Range<usize>>,
) -> ConfigError {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let reason = format!("line {line}, column {column}: {}", message.trim().replace('\n', " "));
    ConfigError::Syntax { path: path.to_owned(), reason }
}

fn value_error(error: figment::Error, place: String) -> ConfigError {
    let Some(error) = error.into_iter().next() else {
        let reason = "it cannot be read".to_owned();
        return ConfigError::Value { key: "a value".to_owned(), place, reason };
    };
    let (path, reason) = match &error.kind {
        figment::error::Kind::UnknownField(name, known) => {
            let mut path = error.path.clone();
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            (path, format!("there is no such key; here are {}", known.join(", ")))
        }
        // The words of others about a value repeat it, and a key is a secret.
        _ if error.path.iter().map(String::as_str).take(2).eq(["api", "keys"]) => {
            (error.path.clone(), "it must be a list of texts, such as [\"KEY\"]".to_owned())
        }
        _ if error.path.first().is_some_and(|first| first == "upstream") => {
            let reason = "it is of another type; `[[upstream]]` begins each server, with url = \"http://...\"";
            (error.path.clone(), reason.to_owned())
        }
        kind => (error.path.clone(), kind.to_string()),
    };
    ConfigError::Value { key: path.join("."), place, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let path = Path::new("config.toml");
        Config::from_text(text, path, Env::raw().only(&[])).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_need_no_file_and_print_as_a_file() {
        let config = read("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config);
        assert!((1..=limits::PARALLEL_DEFAULT_MAX).contains(&config.parallel()));
        assert_eq!(config.kinds(), [TaskKind::Fetch, TaskKind::Refine]);
    }

    #[test]
    fn mistakes_name_key_value_and_remedy() {
        for (text, parts) in [
            ("[work]\nparalel = 3", ["work.paralel", "config.toml", "parallel"]),
            ("[work]\nparallel = \"many\"", ["work.parallel", "many", "config show"]),
            ("[work]\nparallel = 1000", ["work.parallel", "1000", "0 (automatic) to 64"]),
            ("[work]\nkinds = [\"mine\"]", ["work.kinds", "\"mine\"", "\"fetch\""]),
            ("[work", ["config.toml", "line 1", "move the file away"]),
            ("[hosts]\ndeny = [\"a b\"]", ["hosts", "a b", "mend"]),
            ("[models]\nparallel = 0", ["models.parallel", "0", "use 1 to 256"]),
            ("[models]\nbases = 1", ["models.bases", "config.toml", "share"]),
        ] {
            let error = read(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{part:?} is not in {error:?}");
            }
        }
    }

    #[test]
    fn keys_are_never_shown_and_what_stands_for_them_is_no_key() {
        let key = "sk-0123456789abcdef";
        let config = read(&format!("[api]\nkeys = [{key:?}, \"other-{key}\"]")).unwrap();
        let shown = config.shown().to_toml().unwrap();
        assert!(!shown.contains(key) && shown.contains("hidden"), "{shown}");
        assert_eq!(config.shown().api.keys.len(), 2);
        assert_ne!(
            config.shown().api.keys[0],
            config.shown().api.keys[1],
            "they can be told apart"
        );
        let copied = read(&shown).unwrap_err();
        assert!(copied.contains("api.keys") && copied.contains("key number 1"), "{copied}");
        for wrong in [
            format!("[api]\nkeys = {key:?}"),
            format!("[api]\nkeys = [{key:?}, 7]"),
            format!("[api]\nkeys = [{key:?}"),
            format!("[api]\nkeys = {key}"),
        ] {
            let error = read(&wrong).unwrap_err();
            assert!(!error.contains(key), "{error}");
            assert!(error.contains("api.keys") || error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn values_are_set_one_by_one_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert_eq!(set(&path, "work.parallel", "3").unwrap().work.parallel, 3);
        set(&path, "network.name", "devnet").unwrap();
        set(&path, "hosts.deny", "[\"example.org\"]").unwrap();
        for (key, value) in [("work.parallel", "x"), ("nothing", "1"), ("work.none", "1")] {
            assert!(set(&path, key, value).is_err(), "{key}");
        }
        let config = Config::load(&path).unwrap();
        assert_eq!((config.work.parallel, config.network.name.as_str()), (3, "devnet"));
        assert_eq!(config.hosts.deny, ["example.org"]);
    }

    #[test]
    fn what_the_owner_wrote_around_a_value_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = "# my node\n\n[work]\n# the machine is old\nparallel = 1 # one is enough\n\
                    kinds = [\n  \"fetch\", # no refining\n]\n\n# at the end\n";
        std::fs::write(&path, text).unwrap();
        set(&path, "work.parallel", "2").unwrap();
        let now = std::fs::read_to_string(&path).unwrap();
        assert_eq!(now, text.replace("parallel = 1", "parallel = 2"));
        set(&path, "work.disk_mib_max", "100").unwrap();
        set(&path, "log.level", "debug").unwrap();
        assert!(set(&path, "work.parallel", "many").is_err());
        let now = std::fs::read_to_string(&path).unwrap();
        for kept in ["# my node", "# the machine is old", "# one is enough", "# no refining"] {
            assert!(now.contains(kept), "{kept:?} is gone from {now}");
        }
        assert!(now.contains("parallel = 2") && now.contains("disk_mib_max = 100"), "{now}");
        assert_eq!(Config::load(&path).unwrap().log.level, "debug");

        std::fs::write(&path, "work = { parallel = 1 } # short\nnetwork.name = \"a\"\n").unwrap();
        set(&path, "work.parallel", "3").unwrap();
        let config = set(&path, "network.also", "[\"b\"]").unwrap();
        assert_eq!(config.network.joined(), ["a", "b"]);
        assert!(std::fs::read_to_string(&path).unwrap().contains("# short"));
    }
}

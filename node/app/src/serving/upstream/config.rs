//! `[[upstream]]` of the configuration: servers of the owner that answer calls, too.

use std::path::PathBuf;

use openledger_wire::BlobId;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::limits;

/// A server that speaks OpenAI's API, such as vLLM's or llama.cpp's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// What to call it; after its host if left out.
    pub name: String,
    /// Its address, with or without `/v1` at the end.
    pub url: String,
    /// The key that it wants; empty for none.
    pub key: String,
    /// A file with the key, in place of `key`.
    pub key_file: Option<PathBuf>,
    /// Only these of its base models; empty for all.
    pub models: Vec<String>,
    /// Whether its adapters are offered as well.
    pub adapters: bool,
    /// Whether peers are told of its models and may call them, as `api.serve_peers` allows. Such
    /// calls earn fees; tasks are never done by such a server, since nobody could check them.
    pub share: bool,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            key: String::new(),
            key_file: None,
            models: Vec::new(),
            adapters: true,
            share: false,
        }
    }
}

impl UpstreamConfig {
    /// Its name, or its host's.
    #[must_use]
    pub fn shown_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let url = Url::parse(&self.url).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or("upstream").to_owned();
        match url.and_then(|url| url.port()) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// Its address without `/v1` and without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        let url = self.url.trim_end_matches('/');
        url.strip_suffix("/v1").unwrap_or(url).trim_end_matches('/').to_owned()
    }

    /// The same with its key hidden, as it may be shown.
    #[must_use]
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        if !shown.key.is_empty() {
            let hash = BlobId::of(self.key.as_bytes()).to_string();
            shown.key = format!("(hidden, blake3 {})", hash.get(..6).unwrap_or_default());
        }
        shown
    }

    fn check(&self) -> Result<(), (&'static str, String, String)> {
        let url =
            |remedy: &str| Err(("upstream.url", format!("{:?}", self.url), remedy.to_owned()));
        match Url::parse(&self.url) {
            Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
                return url("use an address that begins with http:// or https://");
            }
            // Its words are repeated nowhere: it may hold a password.
            Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
                let remedy = "leave user and password out, and use upstream.key";
                return Err((
                    "upstream.url",
                    "an address with a user".to_owned(),
                    remedy.to_owned(),
                ));
            }
            Ok(parsed) if parsed.query().is_some() || parsed.fragment().is_some() => {
                return url("leave out what follows ? or #");
            }
            Ok(parsed) if parsed.host_str().is_some() => {}
            _ => return url("name the server, such as http://127.0.0.1:8000"),
        }
        let visible = |c: char| c.is_ascii_graphic();
        if !self.key.chars().all(visible) || self.key.len() > limits::UPSTREAM_KEY_LEN_MAX {
            let remedy = "use visible characters without spaces; what `config show` prints in place of a key is none";
            return Err(("upstream.key", "a key".to_owned(), remedy.to_owned()));
        }
        if !self.key.is_empty() && self.key_file.is_some() {
            let remedy = "use one of upstream.key and upstream.key_file".to_owned();
            return Err(("upstream.key_file", "two keys".to_owned(), remedy));
        }
        if self.models.len() > limits::UPSTREAM_MODELS_MAX {
            let remedy = format!("name at most {}", limits::UPSTREAM_MODELS_MAX);
            return Err(("upstream.models", format!("{} models", self.models.len()), remedy));
        }
        Ok(())
    }
}

/// What does not make sense: key, value and remedy. Keys are secrets and not shown.
///
/// # Errors
/// The first that does not.
pub fn check(all: &[UpstreamConfig]) -> Result<(), (&'static str, String, String)> {
    if all.len() > limits::UPSTREAMS_MAX {
        let remedy = format!("name at most {}", limits::UPSTREAMS_MAX);
        return Err(("upstream", format!("{} servers", all.len()), remedy));
    }
    for (number, one) in all.iter().enumerate() {
        one.check()?;
        let is_same = |other: &UpstreamConfig| other.shown_name() == one.shown_name();
        if all.iter().take(number).any(is_same) {
            let remedy = "give each a name of its own".to_owned();
            return Err(("upstream.name", format!("{:?} twice", one.shown_name()), remedy));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> UpstreamConfig {
        UpstreamConfig { url: url.to_owned(), ..UpstreamConfig::default() }
    }

    #[test]
    fn addresses_and_keys_are_checked_and_keys_never_shown() {
        let fine =
            UpstreamConfig { key: "sk-secret".to_owned(), ..at("http://127.0.0.1:8000/v1/") };
        assert_eq!(check(std::slice::from_ref(&fine)), Ok(()));
        assert_eq!(fine.base_url(), "http://127.0.0.1:8000");
        assert_eq!(fine.shown_name(), "127.0.0.1:8000");
        let shown = fine.shown();
        assert!(shown.key.starts_with("(hidden") && !shown.key.contains("secret"));
        assert_eq!(check(&[shown]).unwrap_err().0, "upstream.key", "a copy of what was shown");
        for (wrong, key) in [
            (at("ftp://x"), "upstream.url"),
            (at(""), "upstream.url"),
            (at("http://u:hunter2@x"), "upstream.url"),
            (at("http://x?key=1"), "upstream.url"),
            (UpstreamConfig { key_file: Some("/k".into()), ..fine.clone() }, "upstream.key_file"),
        ] {
            let error = check(&[wrong]).unwrap_err();
            assert_eq!(error.0, key);
            assert!(!error.1.contains("hunter2"), "{error:?}");
        }
        assert_eq!(check(&[at("http://x"), at("https://x")]).unwrap_err().0, "upstream.name");
    }
}

//! `[api]` of the configuration.

use openledger_web::Token;
use openledger_wire::BlobId;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::routing::{House, Patience};

/// How applications and peers may use this node's models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Whether there is an API for applications, on 127.0.0.1.
    pub enabled: bool,
    /// Its port; 0 takes 4100, or a free one where another program has that.
    pub port: u16,
    /// Keys for applications, each of 16 to 256 visible characters. The token of `control.json`,
    /// which changes with every start, always works too.
    pub keys: Vec<String>,
    /// Whether a call that this machine cannot answer goes to peers, who see its prompt.
    pub forward: bool,
    /// Whether files that a call needs and no peer serves are fetched.
    pub fetch: bool,
    /// Whether calls of peers are answered.
    pub serve_peers: bool,
    /// Calls of peers at the same time.
    pub peer_calls_max: u16,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 0,
            keys: Vec::new(),
            forward: true,
            fetch: true,
            serve_peers: true,
            peer_calls_max: 8,
        }
    }
}

impl ApiConfig {
    /// What does not make sense: key, value and remedy. Keys are secrets and not shown.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), (&'static str, String, String)> {
        if self.keys.len() > limits::API_KEYS_MAX {
            let remedy = format!("use at most {} keys", limits::API_KEYS_MAX);
            return Err(("api.keys", format!("{} keys", self.keys.len()), remedy));
        }
        for (number, key) in self.keys.iter().enumerate() {
            if let Err(error) = Token::new(key.as_str()) {
                return Err(("api.keys", format!("key number {}", number + 1), error.to_string()));
            }
        }
        if !(1..=256).contains(&self.peer_calls_max) {
            let remedy = "use 1 to 256; api.serve_peers = false answers none".to_owned();
            return Err(("api.peer_calls_max", self.peer_calls_max.to_string(), remedy));
        }
        Ok(())
    }

    /// What stands for each key where a configuration is shown: enough of its hash to tell keys
    /// apart, too little to guess by. None of these is a key, since a key has no spaces.
    #[must_use]
    pub fn hidden_keys(&self) -> Vec<String> {
        let hidden = |key: &String| {
            let hash = BlobId::of(key.as_bytes()).to_string();
            format!("(hidden, blake3 {})", hash.get(..6).unwrap_or_default())
        };
        self.keys.iter().map(hidden).collect()
    }

    /// What peers may take.
    #[must_use]
    pub fn house(&self) -> House {
        House {
            is_open: self.serve_peers,
            calls_max: usize::from(self.peer_calls_max),
            per_peer_max: limits::PEER_CALLS_PER_PEER_MAX,
            patience: Patience::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_keys_are_refused_and_not_repeated() {
        assert_eq!(ApiConfig::default().check(), Ok(()));
        let weak = ApiConfig {
            keys: vec!["0123456789abcdef".into(), "hunter2".into()],
            ..ApiConfig::default()
        };
        let (key, value, remedy) = weak.check().unwrap_err();
        assert_eq!((key, value.as_str()), ("api.keys", "key number 2"));
        assert!(!remedy.contains("hunter2") && remedy.contains("16"), "{remedy}");
        let closed = ApiConfig { peer_calls_max: 0, ..ApiConfig::default() };
        assert_eq!(closed.check().unwrap_err().0, "api.peer_calls_max");
    }
}

//! `[models]` of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Which models are served, and what that may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    /// Model files (GGUF), folders of Hugging Face's form, and adapters to use where they lie,
    /// beside those that `openledger model add` took over.
    pub files: Vec<PathBuf>,
    /// The base model, by name or id: what `auto` means, and what is fetched from peers at the
    /// start if it is not here. Empty for the only one that is here.
    pub base: String,
    /// Threads of the engine; 0 for as many as there are cores, at most four.
    pub threads: usize,
    /// Calls that are answered at the same time; more of them wait.
    pub parallel: u16,
    /// Tokens that all calls together may hold in memory.
    pub tokens_max: u32,
    /// Memory for adapters, in MiB.
    pub adapters_mib_max: u64,
    /// Adapters that nobody used for so many seconds leave the memory, until they are named again;
    /// 0 keeps them until room is needed.
    pub adapters_idle_s: u32,
    /// Files fetched from peers may have this much, in MiB each.
    pub fetch_mib_max: u64,
    /// Whether peers are told of these models and may fetch them.
    pub share: bool,
    /// Whether inference tasks are taken when a base model is here. `work.kinds` with "infer"
    /// takes them in any case, and fetches what they need.
    pub tasks: bool,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            base: String::new(),
            threads: 0,
            parallel: 16,
            tokens_max: 8_192,
            adapters_mib_max: 512,
            adapters_idle_s: 900,
            fetch_mib_max: 8_192,
            share: true,
            tasks: true,
        }
    }
}

impl ModelsConfig {
    /// Threads of the engine.
    #[must_use]
    pub fn threads(&self) -> u16 {
        let threads = match self.threads {
            0 => std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(limits::PARALLEL_DEFAULT_MAX),
            threads => threads,
        };
        u16::try_from(threads).unwrap_or(u16::MAX)
    }

    /// What does not make sense: key, value and remedy.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), (&'static str, String, String)> {
        let numbers = [
            ("models.threads", self.threads as u64, 0, limits::PARALLEL_MAX as u64),
            ("models.parallel", u64::from(self.parallel), 1, 256),
            ("models.tokens_max", u64::from(self.tokens_max), 256, 1 << 22),
            ("models.adapters_mib_max", self.adapters_mib_max, 1, 1 << 20),
            ("models.adapters_idle_s", u64::from(self.adapters_idle_s), 0, 30 * 24 * 3_600),
            ("models.fetch_mib_max", self.fetch_mib_max, 1, 1 << 20),
        ];
        for (key, value, least, most) in numbers {
            if value < least || value > most {
                return Err((key, value.to_string(), format!("use {least} to {most}")));
            }
        }
        if self.files.len() > limits::MODELS_MAX {
            let remedy = format!("name at most {} files", limits::MODELS_MAX);
            return Err(("models.files", format!("{} files", self.files.len()), remedy));
        }
        Ok(())
    }
}

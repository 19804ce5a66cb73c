//! What is measured: a model file, opened, and the Python that has the peer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use openledger_inference::{Engine, EngineOptions};
use openledger_models::Model;
use openledger_sim::peers;
use thiserror::Error;

/// The file that `./installers/devnet.sh` and `./installers/test.sh` bring.
const MODEL_FILE: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// What must be there first and is not.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingError {
    /// The model.
    #[error("find the model {path}: there is no such file; name a GGUF file in OPENLEDGER_MODEL, or run ./installers/test.sh, which brings one", path = path.display())]
    Model {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The peer, with what `openledger-sim` says of it.
    #[error("{0}")]
    Peer(String),
}

/// A model and what runs it.
#[derive(Debug)]
pub struct Subject {
    /// The file.
    pub path: PathBuf,
    /// Its model.
    pub model: Arc<Model>,
    /// The Python that has llama.cpp.
    pub python: PathBuf,
    /// The machine's cores.
    pub cores: usize,
}

impl Subject {
    /// Finds the peer and the model (`OPENLEDGER_MODEL`, else the one that the installers bring).
    ///
    /// # Errors
    /// [`MissingError`] if one is not there; a file that is no model.
    pub fn find() -> Result<Self> {
        let python = peers::python(peers::LLAMA_CPP)
            .map_err(|error| MissingError::Peer(format!("{error:#}")))?;
        let path = match std::env::var_os("OPENLEDGER_MODEL").filter(|value| !value.is_empty()) {
            Some(path) => path.into(),
            None => peers::cache()?.join(MODEL_FILE),
        };
        if !path.exists() {
            return Err(MissingError::Model { path }.into());
        }
        let model = Model::open(&path).with_context(|| format!("read {}", path.display()))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { path, model: Arc::new(model), python, cores })
    }

    /// An engine with the sizes of a node's, on so many threads.
    ///
    /// # Errors
    /// A model that makes no engine.
    pub fn engine(&self, threads: usize) -> Result<Engine> {
        let options = EngineOptions { threads, ..EngineOptions::default() };
        Ok(Engine::new(Arc::clone(&self.model), options)?)
    }

    /// The file's name without its folders.
    #[must_use]
    pub fn file_name(&self) -> String {
        let name = self.path.file_name().map(Path::new).unwrap_or(&self.path);
        name.display().to_string()
    }
}

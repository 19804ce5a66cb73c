//! What is measured: a model file, opened, and the Python that has the peer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use openledger_inference::{Engine, EngineOptions, of_class};
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

/// A backend with the formats that it computes in: answers of one class have the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 32-bit numbers throughout.
    Reference,
    /// 12-bit activations, as nodes serve.
    Cpu,
    /// The same with keys and values of 8 bits.
    CpuKv8,
}

impl Class {
    /// Every class of this machine.
    pub const ALL: [Self; 3] = [Self::Reference, Self::Cpu, Self::CpuKv8];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "cpu-reference-1",
            Self::Cpu => "cpu-int12-1",
            Self::CpuKv8 => "cpu-int12-1/kv-q8",
        }
    }

    fn options(self) -> Result<EngineOptions> {
        let (backend, kv, adapters) =
            of_class(self.name()).with_context(|| format!("find the class {}", self.name()))?;
        Ok(EngineOptions { backend, kv, adapters, ..EngineOptions::default() })
    }
}

/// A model and what runs it.
#[derive(Clone, Debug)]
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
    /// Finds the peer and the model (the one named, else `OPENLEDGER_MODEL`, else the one that the
    /// installers bring).
    ///
    /// # Errors
    /// [`MissingError`] if one is not there; a file that is no model.
    pub fn find(model: Option<&Path>) -> Result<Self> {
        let python = peers::python(peers::LLAMA_CPP)
            .map_err(|error| MissingError::Peer(format!("{error:#}")))?;
        Ok(Self { python, ..Self::alone(model)? })
    }

    /// The model alone, where no peer takes part.
    ///
    /// # Errors
    /// [`MissingError`] if it is not there; a file that is no model.
    pub fn alone(model: Option<&Path>) -> Result<Self> {
        let named = || std::env::var_os("OPENLEDGER_MODEL").filter(|value| !value.is_empty());
        let path = match model.map(PathBuf::from).or_else(|| named().map(PathBuf::from)) {
            Some(path) => path,
            None => peers::cache()?.join(MODEL_FILE),
        };
        if !path.exists() {
            return Err(MissingError::Model { path }.into());
        }
        let model = Model::open(&path).with_context(|| format!("read {}", path.display()))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { path, model: Arc::new(model), python: PathBuf::new(), cores })
    }

    /// An engine with the sizes of a node's, on so many threads.
    ///
    /// # Errors
    /// A model that makes no engine.
    pub fn engine(&self, threads: usize) -> Result<Engine> {
        let options = EngineOptions { threads, prefix_cache: false, ..EngineOptions::default() };
        Ok(Engine::new(Arc::clone(&self.model), options)?)
    }

    /// An engine of a class, with room for many sequences.
    ///
    /// # Errors
    /// A model that makes no engine.
    pub fn engine_of(&self, class: Class, threads: usize) -> Result<Engine> {
        // The same prompts come again and again, and are to be computed each time.
        let prefix_cache = false;
        let options =
            EngineOptions { threads, sequences_max: 32, prefix_cache, ..class.options()? };
        Ok(Engine::new(Arc::clone(&self.model), options)?)
    }

    /// The file's name without its folders.
    #[must_use]
    pub fn file_name(&self) -> String {
        let name = self.path.file_name().map(Path::new).unwrap_or(&self.path);
        name.display().to_string()
    }
}

//! What is measured: a model file, opened, and the Python that has the peer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::ValueEnum;
use openledger_inference::{
    BackendKind, Engine, EngineOptions, GpuBackend, GpuOptions, KvFormat, LoraFormat, class_of,
    onnx_library,
};
use openledger_models::Model;
use openledger_sim::peers;
use thiserror::Error;

/// The file that `./installers/devnet.sh` and `./installers/test.sh` bring.
const MODEL_FILE: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The second one's, which is brought on request, and the variable that names another.
const SECOND_FILE: &str = "models/gemma-3-270m-q4_k_m.gguf";
const SECOND_VARIABLE: &str = "OPENLEDGER_GEMMA";

/// ONNX Runtime's, and the variable that names another.
const ONNX_FILE: &str = "onnxruntime/libonnxruntime.so";
const ONNX_VARIABLE: &str = "OPENLEDGER_ONNXRUNTIME";

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

/// A backend, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The fast one on the CPU.
    Cpu,
    /// A graphics processor, through wgpu.
    Gpu,
    /// ONNX Runtime.
    Onnx,
    /// 32-bit numbers throughout.
    Reference,
}

impl Choice {
    /// Which backend that is.
    #[must_use]
    pub const fn kind(self) -> BackendKind {
        match self {
            Self::Cpu => BackendKind::Int12,
            Self::Gpu => BackendKind::Wgpu,
            Self::Onnx => BackendKind::Onnx,
            Self::Reference => BackendKind::Reference,
        }
    }
}

/// A backend with the formats that it computes in: answers of one class have the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// What computes.
    pub backend: BackendKind,
    /// How it keeps keys and values.
    pub kv: KvFormat,
    /// How it keeps adapters.
    pub adapters: LoraFormat,
}

impl Class {
    /// 32-bit numbers throughout.
    pub const REFERENCE: Self = Self::new(BackendKind::Reference, KvFormat::F32, LoraFormat::F32);

    /// 12-bit activations, as nodes serve.
    pub const CPU: Self = Self::of(BackendKind::Int12);

    /// The same with keys and values of 8 bits.
    pub const CPU_KV8: Self = Self::new(BackendKind::Int12, KvFormat::Q8, LoraFormat::Q8);

    /// A graphics processor.
    pub const GPU: Self = Self::of(BackendKind::Wgpu);

    /// ONNX Runtime.
    pub const ONNX: Self = Self::of(BackendKind::Onnx);

    /// A backend with these formats.
    #[must_use]
    pub const fn new(backend: BackendKind, kv: KvFormat, adapters: LoraFormat) -> Self {
        Self { backend, kv, adapters }
    }

    /// A backend as nodes serve with it.
    #[must_use]
    pub const fn of(backend: BackendKind) -> Self {
        match backend {
            BackendKind::Reference => Self::REFERENCE,
            other => Self::new(other, KvFormat::F16, LoraFormat::Q8),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        class_of(self.backend, self.kv, self.adapters)
    }

    /// The options of an engine of this class, the rest as they are by default.
    #[must_use]
    pub fn options(self) -> EngineOptions {
        let Self { backend, kv, adapters } = self;
        EngineOptions { backend, kv, adapters, ..EngineOptions::default() }
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
    /// Whether a graphics processor will do that is really the processor.
    pub software: bool,
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
        Ok(Self { path, model: Arc::new(model), python: PathBuf::new(), cores, software: false })
    }

    /// The same with a graphics processor of whatever kind, where that is asked for by name.
    #[must_use]
    pub fn with(self, backend: Option<Choice>) -> Self {
        Self { software: self.software || backend == Some(Choice::Gpu), ..self }
    }

    /// The file of a second model, of another family, if it was set up.
    #[must_use]
    pub fn second() -> Option<PathBuf> {
        let named = std::env::var_os(SECOND_VARIABLE).filter(|value| !value.is_empty());
        let known = || Some(peers::cache().ok()?.join(SECOND_FILE));
        named.map(PathBuf::from).or_else(known).filter(|path| path.exists())
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
        let options = EngineOptions { threads, sequences_max: 32, prefix_cache, ..class.options() };
        self.try_engine(options)
    }

    /// An engine of these options.
    ///
    /// # Errors
    /// A backend that this build or this machine does not have, or a model that makes no engine.
    pub fn try_engine(&self, options: EngineOptions) -> Result<Engine> {
        if options.backend == BackendKind::Onnx {
            let named = std::env::var_os(ONNX_VARIABLE).filter(|value| !value.is_empty());
            let path = match named {
                Some(path) => PathBuf::from(path),
                None => peers::cache()?.join(ONNX_FILE),
            };
            onnx_library(&path)?;
        }
        let model = Arc::clone(&self.model);
        if options.backend == BackendKind::Wgpu {
            let gpus = GpuOptions { allow_software: self.software, ..GpuOptions::default() };
            let backend = GpuBackend::new(Arc::clone(&model), &options, &gpus, &mut |_, _| ())?;
            return Ok(Engine::with_backend(model, options, Box::new(backend))?);
        }
        Ok(Engine::new(model, options)?)
    }

    /// Those of the classes that this machine can run; what keeps it from the others is noted.
    #[must_use]
    pub fn available(&self, classes: &[Class], note: &mut dyn FnMut(&str)) -> Vec<Class> {
        let mut can = |class: &&Class| {
            let options = EngineOptions { pages_max: 16, ..class.options() };
            let made = self.try_engine(options);
            if let Err(error) = &made {
                note(&format!("without {}: {error:#}", class.name()));
            }
            made.is_ok()
        };
        // The backends on the CPU are always there.
        let exact = |class: &Class| class.backend.exact();
        classes.iter().filter(|class| exact(class) || can(class)).copied().collect()
    }

    /// The file's name without its folders.
    #[must_use]
    pub fn file_name(&self) -> String {
        let name = self.path.file_name().map(Path::new).unwrap_or(&self.path);
        name.display().to_string()
    }
}

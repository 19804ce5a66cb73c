//! Execution providers: what ONNX Runtime computes with, by configuration.
//!
//! A provider that was asked for is used or the backend is not made; nothing falls back in
//! silence. Operators of ours run on the processor whatever the provider, and so does an operator
//! of the library that a provider lacks: the library moves the numbers.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider};
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use thiserror::Error;

use super::error::OnnxError;
use super::library;

/// What ONNX Runtime computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// NVIDIA's devices.
    Cuda,
    /// Apple's devices.
    CoreMl,
    /// Devices of Windows that speak DirectX 12.
    DirectMl,
    /// Any device, through WebGPU.
    WebGpu,
}

/// A name that no provider has.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "read an execution provider: {found} is none; choose cpu, cuda, coreml, directml or webgpu"
)]
pub struct UnknownProvider {
    /// What was found.
    pub found: String,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cuda, Self::CoreMl, Self::DirectMl, Self::WebGpu];

    /// Its name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::CoreMl => "coreml",
            Self::DirectMl => "directml",
            Self::WebGpu => "webgpu",
        }
    }

    /// What to install to have it.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Cpu => "every library has it",
            Self::Cuda => {
                "install the library of the package onnxruntime-gpu, CUDA and cuDNN, and name it"
            }
            Self::CoreMl => "install the library of the package onnxruntime on macOS and name it",
            Self::DirectMl => {
                "install the library of the package onnxruntime-directml (Windows) and name it"
            }
            Self::WebGpu => {
                "install the package onnxruntime-ep-webgpu, name its library or put it beside ONNX \
                 Runtime's, and see that there is a driver for Vulkan, Metal or DirectX 12"
            }
        }
    }

    /// The library's name for it.
    const fn inner(self) -> &'static str {
        match self {
            Self::Cpu => ep::CPU::NAME,
            Self::Cuda => ep::CUDA::NAME,
            Self::CoreMl => ep::CoreML::NAME,
            Self::DirectMl => ep::DirectML::NAME,
            Self::WebGpu => "WebGpuExecutionProvider",
        }
    }

    /// The file of its plugin, as packages call it.
    fn plugin_name(self) -> String {
        let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        format!("{prefix}onnxruntime_providers_{}{suffix}", self.name())
    }

    fn absent(self) -> OnnxError {
        OnnxError::Absent { provider: self.name(), remedy: self.remedy() }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = || UnknownProvider { found: name.to_owned() };
        Self::ALL.into_iter().find(|provider| provider.name() == name).ok_or_else(found)
    }
}

/// Which library of ONNX Runtime to use, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxOptions {
    /// The library's file.
    pub library: PathBuf,
    /// What it computes with.
    pub provider: Provider,
    /// The file of the provider's own library, where it is a plugin that does not lie beside ONNX
    /// Runtime's.
    pub plugin: Option<PathBuf>,
}

impl OnnxOptions {
    /// A library on the processor.
    #[must_use]
    pub fn new(library: impl Into<PathBuf>) -> Self {
        Self { library: library.into(), provider: Provider::Cpu, plugin: None }
    }

    /// The library that this process has loaded, on the processor.
    ///
    /// # Errors
    /// None is loaded.
    pub fn loaded() -> Result<Self, OnnxError> {
        library::present().map(|own| Self::new(own.path())).ok_or(OnnxError::NotLoaded)
    }

    /// Checks that the library loads and has the provider.
    ///
    /// # Errors
    /// What is missing, and what to install.
    pub fn check(&self) -> Result<(), OnnxError> {
        self.builder(1).map(|_| ())
    }

    /// What a backend of so many threads runs on, in words.
    pub(super) fn describe(&self, threads: usize) -> Result<String, OnnxError> {
        let (library, provider) = (library::onnx_library(&self.library)?, self.provider);
        let plural = if threads == 1 { "" } else { "s" };
        Ok(format!("ONNX Runtime {}, {provider}, {threads} thread{plural}", library.version()))
    }

    /// What makes sessions of so many threads.
    pub(super) fn builder(&self, threads: usize) -> Result<SessionBuilder, OnnxError> {
        let environment = library::environment(&self.library)?;
        let builder = SessionBuilder::new(&environment)?
            .with_intra_threads(threads)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            // Steps have many sizes: a plan of memory for each would be kept for ever.
            .with_memory_pattern(false)?
            .with_auto_device(AutoDevicePolicy::PreferCPU)?;
        self.with_provider(&environment, builder)
    }

    fn with_provider(
        &self,
        environment: &Environment,
        mut builder: SessionBuilder,
    ) -> Result<SessionBuilder, OnnxError> {
        let own = self.provider;
        if own == Provider::Cpu {
            return Ok(builder);
        }
        let beside = self.library.canonicalize().ok();
        let beside = beside.map(|file| file.with_file_name(own.plugin_name()));
        let plugin = self.plugin.clone().or(beside.filter(|file| file.is_file()));
        let builtin = match own {
            Provider::Cuda => ep::CUDA::is_available()?,
            Provider::CoreMl => ep::CoreML::is_available()?,
            Provider::DirectMl => ep::DirectML::is_available()?,
            Provider::Cpu | Provider::WebGpu => false,
        };
        let failed = |reason: String| OnnxError::Provider {
            provider: own.name(),
            reason,
            remedy: own.remedy(),
        };
        if builtin && self.plugin.is_none() {
            let registered = match own {
                Provider::Cuda => ep::CUDA::default().register(&mut builder),
                Provider::CoreMl => ep::CoreML::default().register(&mut builder),
                Provider::DirectMl => ep::DirectML::default().register(&mut builder),
                Provider::Cpu | Provider::WebGpu => Ok(()),
            };
            registered.map_err(|error| failed(error.to_string()))?;
            return Ok(builder);
        }
        if let Some(plugin) = plugin {
            library::plugin(own.inner(), &plugin)?;
        }
        let mut devices = environment.devices();
        let device = devices.find(|device| device.ep().is_ok_and(|name| name == own.inner()));
        let device = device.ok_or_else(|| own.absent())?;
        builder.with_devices([device], None).map_err(|error| failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for provider in Provider::ALL {
            assert_eq!(provider.to_string().parse(), Ok(provider));
        }
        let error = "gpu".parse::<Provider>().unwrap_err().to_string();
        assert!(error.contains("gpu") && error.contains("webgpu"), "{error}");
    }
}

//! Adapters where they lie: a folder as PEFT saves it, one packed file, or a GGUF file.

use std::path::Path;

use super::{Adapter, AdapterError};
use crate::bundle::BundleError;
use crate::config::ModelConfig;
use crate::limits::ADAPTER_CONFIG_BYTES_MAX;
use crate::map::{MapError, Mapped};

/// PEFT's names for the two files of an adapter.
const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// What older versions wrote: a program, which may do anything when it is read.
const PICKLE: &str = "adapter_model.bin";

impl Adapter {
    /// Opens an adapter for a model of this shape: a folder as PEFT saves it, a safetensors file
    /// with the configuration in its header or beside it, or a GGUF file.
    ///
    /// # Errors
    /// [`AdapterError`].
    pub fn open(path: &Path, config: &ModelConfig) -> Result<Self, AdapterError> {
        if path.is_dir() {
            let tensors = path.join(TENSORS);
            if !tensors.exists() && path.join(PICKLE).exists() {
                let reason = format!(
                    "it has {PICKLE}, a pickle, which can run anything; save it with safe_serialization"
                );
                return Err(failed(path, reason));
            }
            return Self::parse(&config_of(path)?, &mapped(&tensors)?, config);
        }
        let file = mapped(path)?;
        if file.starts_with(b"GGUF") {
            return Self::from_gguf(&file, config);
        }
        let beside = path.parent().filter(|folder| folder.join(CONFIG).is_file());
        match (Self::from_bundle(&file, config), beside) {
            (Err(AdapterError::Bundle(BundleError::NoConfig)), Some(folder)) => {
                Self::parse(&config_of(folder)?, &file, config)
            }
            (read, _) => read,
        }
    }
}

fn failed(path: &Path, reason: String) -> AdapterError {
    AdapterError::Open { path: path.display().to_string(), reason }
}

fn mapped(path: &Path) -> Result<Mapped, AdapterError> {
    Mapped::open(path).map_err(|error| match error {
        MapError::Open { path, source } => {
            failed(&path, format!("{source}; check that it exists and that this user may read it"))
        }
        MapError::NotAFile { path } => failed(&path, "it is no ordinary file".to_owned()),
    })
}

/// The configuration in a folder; a little more than is accepted is read of one that is too long.
fn config_of(folder: &Path) -> Result<Vec<u8>, AdapterError> {
    let file = mapped(&folder.join(CONFIG))?;
    Ok(file.get(..file.len().min(ADAPTER_CONFIG_BYTES_MAX + 1)).unwrap_or_default().to_vec())
}

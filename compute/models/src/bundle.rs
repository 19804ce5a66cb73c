//! An adapter as one file, so that it is one blob: its safetensors file with the configuration
//! among the notes in the header. PEFT and others read it as the ordinary file that it is, and
//! pass over the note.

use thiserror::Error;

use crate::limits::ADAPTER_CONFIG_BYTES_MAX;
use crate::safetensors::{Safetensors, SafetensorsError};

/// The note that holds the configuration.
const NOTE: &str = "adapter_config";

/// Why an adapter could not be packed or unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The safetensors file is damaged.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The configuration is no text, or too long.
    #[error("pack the adapter: its configuration of {bytes} bytes is no text of at most {max} bytes", max = ADAPTER_CONFIG_BYTES_MAX)]
    Config {
        /// Its length.
        bytes: usize,
    },
    /// There is no configuration in the file.
    #[error(
        "unpack the adapter: the file has no note {NOTE:?}; pack adapter_config.json and adapter_model.safetensors into one file first"
    )]
    NoConfig,
}

/// An adapter as one file.
#[derive(Clone, Copy, Debug)]
pub struct AdapterBundle;

impl AdapterBundle {
    /// Packs `adapter_config.json` and `adapter_model.safetensors` into one file. The same two
    /// give the same bytes.
    ///
    /// # Errors
    /// [`BundleError`] if one of them is damaged. Whether they fit is not checked here.
    pub fn pack(config_json: &[u8], safetensors: &[u8]) -> Result<Vec<u8>, BundleError> {
        let bytes = config_json.len();
        let text = std::str::from_utf8(config_json)
            .ok()
            .filter(|text| text.len() <= ADAPTER_CONFIG_BYTES_MAX)
            .ok_or(BundleError::Config { bytes })?;
        let mut file = Safetensors::parse(safetensors)?;
        file.metadata.insert(NOTE.to_owned(), text.to_owned());
        Ok(file.to_bytes())
    }

    /// The two files of a packed adapter: configuration and tensors.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn unpack(bundle: &[u8]) -> Result<(Vec<u8>, Vec<u8>), BundleError> {
        let mut file = Safetensors::parse(bundle)?;
        let config = file.metadata.remove(NOTE).ok_or(BundleError::NoConfig)?;
        if config.len() > ADAPTER_CONFIG_BYTES_MAX {
            return Err(BundleError::Config { bytes: config.len() });
        }
        Ok((config.into_bytes(), file.to_bytes()))
    }

    /// The configuration of a packed adapter alone.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn config(bundle: &[u8]) -> Result<Vec<u8>, BundleError> {
        let mut file = Safetensors::parse(bundle)?;
        Ok(file.metadata.remove(NOTE).ok_or(BundleError::NoConfig)?.into_bytes())
    }
}

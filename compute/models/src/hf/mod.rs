//! Models as folders of the transformers library: `config.json`, `model*.safetensors`,
//! `tokenizer.json` and what belongs to them.
//!
//! The same architectures are read as from GGUF, into the same [`Model`]: weights are packed at
//! load as [`Precision`] says (or stay in their files as they are), queries and keys keep the
//! library's row order. Weights in pickles are refused: reading one runs it.

mod config;
mod error;
mod files;
mod pack;
mod tokenizer;
mod weights;

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::limits::FOLDER_JSON_BYTES_MAX;
use crate::model::{Model, ModelError};

pub use error::FolderError;
pub use pack::Precision;

/// Opens a folder.
pub(crate) fn open(folder: &Path, precision: Precision) -> Result<Model, ModelError> {
    let all: Map<String, Value> = files::json(folder, "config.json")?;
    let config = config::read(&all)?;
    let files = files::Files::open(folder, &config, config::block(&all))?;
    let (sources, slots) = weights::load(files, &config, config::has_head(&all)?, precision)?;
    let (tokenizer, chat_template) = tokenizer::read(folder, &all, &config)?;
    Ok(Model { sources, slots, config, tokenizer, chat_template })
}

/// Opens a folder without its weights.
pub(crate) fn open_bare(folder: &Path) -> Result<Model, ModelError> {
    let all: Map<String, Value> = files::json(folder, "config.json")?;
    let config = config::read(&all)?;
    let (tokenizer, chat_template) = tokenizer::read(folder, &all, &config)?;
    let (sources, slots) = Default::default();
    Ok(Model { sources, slots, config, tokenizer, chat_template })
}

impl ModelConfig {
    /// Reads the shape from a `config.json`.
    ///
    /// # Errors
    /// [`ModelError`], which names the key.
    pub fn from_json(json: &[u8]) -> Result<Self, ModelError> {
        let file = "config.json".to_owned();
        let (bytes, max) = (json.len(), FOLDER_JSON_BYTES_MAX);
        if bytes > max {
            return Err(FolderError::TooLong { file, bytes, max }.into());
        }
        let wrong = |e: serde_json::Error| FolderError::Json { file, reason: e.to_string() };
        let all: Map<String, Value> = serde_json::from_slice(json).map_err(wrong)?;
        Ok(config::read(&all)?)
    }
}

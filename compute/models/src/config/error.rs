//! Why the shape of a model was refused.

use thiserror::Error;

use crate::gguf::GgufError;

/// Why the metadata of a model was refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file's metadata could not be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Another architecture.
    #[error(
        "use the model: its architecture {0:?} is not supported, llama (also Mistral and SmolLM), qwen2, qwen3 and gemma3 are"
    )]
    Architecture(String),
    /// Something within the architecture that this engine does not do.
    #[error(
        "use the model: {key} is {found}, which is not supported; use a plain model of the families llama, qwen2, qwen3 or gemma3"
    )]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        found: String,
    },
    /// A number out of its bounds, or that does not fit the others.
    #[error(
        "use the model: {key} is {found}, {wanted} is needed; the file is damaged or for another program"
    )]
    OutOfBounds {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What is needed.
        wanted: String,
    },
    /// A number that must be there is not, or is no number.
    #[error(
        "use the model: {key} is missing or no {wanted}; the file is damaged or for another program"
    )]
    Missing {
        /// The key.
        key: String,
        /// What is needed.
        wanted: &'static str,
    },
}

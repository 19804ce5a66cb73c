//! Why a model could not be opened.

use thiserror::Error;

use crate::config::ConfigError;
use crate::gguf::{GgufError, TensorKind};
use crate::hf::FolderError;
use crate::map::MapError;
use crate::tokenizer::TokenizerError;

/// Why a model could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// It is no sound GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// It is no sound folder of the transformers library.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its shape is not supported.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its tokenizer is not supported.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A weight is not there.
    #[error("use the model: tensor {name:?} is missing; the file is incomplete, download it again")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A weight has another shape than the architecture needs.
    #[error(
        "use the model: tensor {name:?} is {found:?} where {wanted:?} is needed; the file is damaged or for another program"
    )]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its shape, in the order of its file: fastest dimension first in GGUF.
        found: Vec<u64>,
        /// The shape needed.
        wanted: Vec<u64>,
    },
    /// A vector of weights is packed in blocks.
    #[error("use the model: tensor {name:?} is {kind} where F32 is needed; convert the file with a current llama.cpp", kind = kind.name())]
    TensorType {
        /// The tensor.
        name: String,
        /// Its kind.
        kind: TensorKind,
    },
    /// The tokenizer has another number of tokens than the model.
    #[error(
        "use the model: it has {rows} rows of embeddings and {tokens} tokens; the file is damaged"
    )]
    Vocabulary {
        /// Rows.
        rows: usize,
        /// Tokens.
        tokens: usize,
    },
    /// A tensor that the architecture does not have.
    #[error(
        "use the model: tensor {name:?} is not known for this architecture; use a plain model of the families llama, qwen2, qwen3 or gemma3"
    )]
    UnknownTensor {
        /// The tensor.
        name: String,
    },
}

//! Why a folder was refused.

use thiserror::Error;

use crate::safetensors::SafetensorsError;

/// Why a folder of the transformers library was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A file is not there, or cannot be read.
    #[error("read the model: {file} cannot be opened ({reason}); download the folder again")]
    Open {
        /// The file.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// A file is larger than any of its kind.
    #[error("read the model: {file} has {bytes} bytes, {max} at most are accepted")]
    TooLong {
        /// The file.
        file: String,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A file is no JSON of the right form.
    #[error("read the model: {file} cannot be read ({reason}); download it again")]
    Json {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The weights are a pickle, which runs what it likes when it is read.
    #[error(
        "read the model: its weights are in {file}, a pickle, which can run anything; use a folder with safetensors files"
    )]
    Pickle {
        /// The file.
        file: String,
    },
    /// The index names a file outside of the folder, or too many.
    #[error(
        "read the model: model.safetensors.index.json names {found:?}, plain names of at most {max} files are accepted", max = crate::limits::SHARDS_MAX
    )]
    Shard {
        /// The name, or how many.
        found: String,
    },
    /// One of the files with weights is damaged.
    #[error("{file}: {source}")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        source: SafetensorsError,
    },
    /// One tensor in two files.
    #[error("read the model: tensor {tensor:?} is in two files; download the folder again")]
    TwoFiles {
        /// The tensor.
        tensor: String,
    },
    /// The scales of 8-bit floats do not fit their weights.
    #[error(
        "read the model: the scales of tensor {tensor:?} are {found:?}, which fits neither the tensor, nor its rows, nor blocks of {block:?}"
    )]
    Scales {
        /// The tensor.
        tensor: String,
        /// The shape of the scales.
        found: Vec<u64>,
        /// Rows and columns of a block.
        block: [usize; 2],
    },
    /// Numbers that are infinite, none, or too large to be packed.
    #[error(
        "read the model: tensor {tensor:?} has numbers that are not finite or too large to be packed; download it again, or keep it as it is stored"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
}

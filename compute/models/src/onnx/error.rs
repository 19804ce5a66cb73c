//! Why a file of the exchange format was refused.

use thiserror::Error;

use crate::limits::{ONNX_DEPTH_MAX, ONNX_EXTERNAL_FILES_MAX, ONNX_VALUES_MAX};

/// Why a file of the exchange format was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnnxFileError {
    /// A file is not there, or cannot be read.
    #[error("read the exported model: {file} cannot be opened ({reason}); export it again")]
    Open {
        /// The file.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// The file is longer than the format allows.
    #[error(
        "read the exported model: {bytes} bytes, the format has {max} at most; export the weights to a file beside it"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// It ends within something.
    #[error("read the exported model: the file ends within {what}; it is cut off, export it again")]
    Short {
        /// Within what.
        what: &'static str,
    },
    /// Something is no protocol buffer of the right form.
    #[error(
        "read the exported model: {what} has no sound form; the file is damaged or no ONNX file"
    )]
    Form {
        /// What.
        what: &'static str,
    },
    /// Something is missing.
    #[error("read the exported model: {what} is missing; the file is damaged or no ONNX file")]
    Missing {
        /// What.
        what: &'static str,
    },
    /// Graphs within graphs.
    #[error("read the exported model: graphs lie in each other more than {ONNX_DEPTH_MAX} deep")]
    Depth,
    /// Too many inputs or outputs.
    #[error(
        "read the exported model: it has more than {ONNX_VALUES_MAX} inputs or outputs, or dimensions of one"
    )]
    Values,
    /// Too many files.
    #[error(
        "read the exported model: its weights are in more than {ONNX_EXTERNAL_FILES_MAX} files"
    )]
    Files,
    /// Weights outside of the folder.
    #[error(
        "read the exported model: it names {file:?} as a file with weights; plain names of files in its own folder are accepted"
    )]
    Location {
        /// What it names.
        file: String,
    },
    /// Weights outside of their file.
    #[error(
        "read the exported model: weights up to byte {wanted} of {file} are named, which has {found}; download or export it again"
    )]
    Outside {
        /// The file.
        file: String,
        /// Its bytes.
        found: u64,
        /// The bytes that it must have.
        wanted: u64,
    },
    /// It is to be trained.
    #[error("read the exported model: it holds steps of training; export it for inference")]
    Training,
}

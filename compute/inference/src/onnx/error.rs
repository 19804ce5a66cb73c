//! Why there is no ONNX backend.

use std::path::PathBuf;

use thiserror::Error;

use crate::backend::BackendError;

/// Why ONNX Runtime was not loaded, or a backend not made on it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnnxError {
    /// The library.
    #[error(
        "load ONNX Runtime from {path}: {reason}; name the library of version 1.22 or later \
         (libonnxruntime.so of the package onnxruntime)"
    )]
    Library {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Another library.
    #[error("load ONNX Runtime from {asked}: this process has loaded {loaded}; restart it")]
    Other {
        /// The one that is loaded.
        loaded: PathBuf,
        /// The one that was asked for.
        asked: PathBuf,
    },
    /// No library yet.
    #[error("make an ONNX backend: no library is loaded; name one with `onnx_library` first")]
    NotLoaded,
    /// A library with an execution provider.
    #[error("load the execution provider from {path}: {reason}")]
    Plugin {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// An execution provider that the library does not have.
    #[error("use the execution provider {provider}: this ONNX Runtime does not have it; {remedy}")]
    Absent {
        /// Which.
        provider: &'static str,
        /// What to install.
        remedy: &'static str,
    },
    /// An execution provider that did not start.
    #[error("use the execution provider {provider}: {reason}; {remedy}")]
    Provider {
        /// Which.
        provider: &'static str,
        /// What it said.
        reason: String,
        /// What it needs.
        remedy: &'static str,
    },
    /// The library refused a graph.
    #[error("make an ONNX backend: ONNX Runtime refuses the graph: {reason}")]
    Graph {
        /// What it said.
        reason: String,
    },
    /// The model or the options.
    #[error("make an ONNX backend: {0}")]
    Backend(#[from] BackendError),
    /// A file of the exchange format that cannot be served.
    #[error("open {path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// What the library says of a graph.
impl<R> From<ort::Error<R>> for OnnxError {
    fn from(error: ort::Error<R>) -> Self {
        Self::Graph { reason: error.to_string() }
    }
}

//! The ONNX backend: ONNX Runtime, loaded from a library that the configuration names.
//!
//! A model's graph is built in memory, whatever file it came from. Quantised matrices keep their
//! bits and meet 32-bit activations; keys, values and adapters are ours, in operators that the
//! library calls, so batches are as mixed as on any other backend. How sums are rounded is the
//! library's affair and depends on a batch's size: its class is judged within a tolerance.
//!
//! Decoders that were exported by others run as they are, one sequence at a time
//! ([`OnnxExport`]).
//!
//! Only this module names the crate `ort`.

mod backend;
mod codes;
mod decoder;
mod error;
mod export;
mod export_backend;
mod graph;
mod library;
mod matrices;
mod operators;
mod provider;
mod step;

pub use backend::OnnxBackend;
pub use error::OnnxError;
pub use export::OnnxExport;
pub use export_backend::OnnxExportBackend;
pub use library::{OnnxLibrary, onnx_library};
pub use provider::{OnnxOptions, Provider, UnknownProvider};

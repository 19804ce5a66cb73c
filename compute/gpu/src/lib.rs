//! GPU kernels of the inference engine, in WGSL over wgpu.
//!
//! [`Gpu`] is an open device, [`Buffer`] memory on it, [`Kernel`] a compiled shader and [`Step`] a
//! list of kernels that runs as one submission. The other modules hold the operations of a
//! decoder: each is a struct of pipelines that records itself into a step.
//!
//! What every kernel promises: a row's result does not depend on the other rows beyond rounding,
//! and on any device it is the reference's (`openledger_kernels::reference`) within a tolerance
//! that its test names. Bits differ between devices: their compilers contract and reorder.
//!
//! Deliberately absent: models, layers and requests (that is the engine's), any knowledge of what
//! a kernel computes in the first four modules, and unsafe code but for the pipeline cache.

pub mod attention;
pub mod buffer;
pub mod draw;
pub mod elementwise;
pub mod error;
pub mod gpu;
pub mod kernel;
pub mod kv;
pub mod limits;
pub mod lora;
pub mod norm;
pub mod products;
pub mod rope;
pub mod step;
pub mod weights;

mod cache;
mod compose;
mod device;
mod layout;
mod source;
#[cfg(test)]
mod testing;

pub use attention::{Attention, AttentionInput, AttentionPlan};
pub use buffer::{Binding, Buffer};
pub use device::{DeviceInfo, DeviceKind};
pub use draw::{CANDIDATES, Draw, DrawKind, Drawn};
pub use elementwise::Elementwise;
pub use error::GpuError;
pub use gpu::{Device, DeviceChoice, Features, Gpu, Without};
pub use kernel::{Access, Kernel};
pub use kv::{HeadNorms, KvCopy, KvInput, KvPages, KvWrite, RowTable};
pub use lora::{
    ArenaFormat, Lora, LoraArena, LoraBatch, LoraInput, LoraMatrices, LoraOutput, LoraPart,
    LoraRows,
};
pub use norm::Norm;
pub use products::{Arithmetic, Embedding, Inputs, Products, Target};
pub use rope::turns;
pub use step::{Output, Read, Step};
pub use weights::Weights;

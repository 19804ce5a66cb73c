//! The operations of a decoder, in 32-bit floating point: the reference backend.
//!
//! Activations are `f32` and row-major; weights are dequantised to `f32` before they are used,
//! so nothing is lost but what the file's format lost. A *row* is one token of one sequence.
//! Nothing here knows of models, layers or requests.

mod attention;
mod lanes;
mod lora;
mod matmul;
mod ops;
mod rope;

pub use attention::{
    AttentionRow, AttentionShape, KvLayer, Reach, attention, attention_within, kv_write,
};
pub use lora::lora_add;
pub use matmul::{dequantize, matmul};
pub use ops::{add, gelu_mul, log_sum_exp, rms_norm, scale, silu_mul, softmax};
pub use rope::{RopeAngles, RopePairs, rope};

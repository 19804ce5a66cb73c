//! The operations of a decoder beside its products of weights, made to be fast.
//!
//! The same operations as in [`reference`](crate::reference), in another order and with fused
//! multiply-adds, and with the same promise: a result has the same bits on every processor, for
//! any number of threads, in any batch, chunk or page. Each kernel is written once over eight
//! lanes and compiled for what the processor has; where lanes are added to each other, the order
//! is stated. Attention reads keys and values that may be stored in 16 or 8 bits ([`KvCache`]);
//! [`lora`] applies many adapters to one batch without moving their weights.
//!
//! Nothing here knows of models, layers or requests.

mod attention;
mod half;
mod kv;
mod lora;
mod ops;
mod rope;
mod share;
mod simd;

#[cfg(test)]
mod testing;

pub use attention::attention;
pub use kv::{KvCache, KvFormat};
pub use lora::{LoraFormat, LoraGroup, LoraReadError, LoraSite, lora};
pub use ops::{add, add_bias, gelu_mul, rms_norm, rms_norm_in_place, silu_mul};
pub use rope::{RopeTable, rope};

//! CPU kernels of the inference engine: the reference by which faster ones are measured.
//!
//! Plain arithmetic on slices; no file, no model, no device, and no dependency. What every
//! kernel here promises, because verification by re-execution rests on it:
//!
//! * an output element is summed in an order fixed by its own row and column alone, so it has
//!   the same bits whatever else is in the batch and however many threads work;
//! * only operations that IEEE 754 rounds exactly are used (`+`, `-`, `*`, `/`, square root and,
//!   where a kernel says so, the fused multiply-add), and never a library's transcendental, so
//!   every machine of the kind that Rust calls 64-bit gives the same bits.
//!
//! [`Format`] and [`Matrix`] describe weights as files hold them, [`Pool`] shares work among
//! threads, [`mod@math`] has the functions that a processor lacks, [`reference`] the operations of
//! a decoder, [`packed`] the products of the fast backend and [`fused`] its other operations.

pub mod format;
pub mod fused;
pub mod math;
pub mod matrix;
pub mod packed;
pub mod pool;
pub mod reference;

mod dequantize;
mod isa;

pub use format::Format;
pub use matrix::{Matrix, ShapeError};
pub use pool::Pool;

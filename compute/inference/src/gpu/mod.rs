//! The backend on graphics processors: 32-bit activations, the file's own codes as weights.
//!
//! Everything of a model lies on the device: packed weights, keys and values in pages, and the
//! adapters that are in use. A step is one submission; what goes there is tokens, page tables and
//! angles, what comes back is logits and hidden states, or only the likeliest tokens where those
//! are all that is drawn from. Several devices each take some of the layers. A device that is lost is
//! opened again, with the weights, before the next step; keys and values are gone, which the
//! engine makes good.
//!
//! Rounding is the device's: answers are judged by fingerprints, within a tolerance
//! ([`crate::class`]). Deliberately absent: shaders (those are `openledger-gpu`'s), and any
//! knowledge of requests.

mod adapters;
mod backend;
mod device;
mod layer;
mod part;
mod scratch;
mod step;

pub use backend::GpuBackend;
pub use device::{GpuOptions, usable_gpu};
pub use openledger_gpu::{
    Arithmetic, Device, DeviceChoice, DeviceInfo, DeviceKind, Gpu, GpuError, Without,
};

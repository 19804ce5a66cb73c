//! Worker processes: hostile input is handled in children that may die.
//!
//! A child is this program with `worker fetch`, `worker refine` or `worker infer`; its standard input is one end
//! of a socket pair. Frames are `length (u32 BE) || canonical CBOR`. A child ends when the socket
//! closes, so none outlives its node, however that ends. Children get no secrets: neither keys
//! nor the environment; those that may compute on a device get what says where its driver is.

mod back_off;
mod child;
mod frame;
mod infer;
mod infer_adapters;
mod infer_ask;
mod infer_call;
mod infer_check;
mod infer_constraints;
mod infer_device;
mod infer_engine;
mod infer_tools;
mod process;
mod serve_fetch;
mod serve_refine;
mod spawn;

pub use child::{WorkerKind, run_child};
pub use frame::{FrameError, read_frame, write_frame};
pub use process::{CallError, Program, Worker};

pub(crate) use back_off::BackOff;
pub(crate) use infer_ask::InferAsk;
pub(crate) use infer_engine::kv_bytes;
pub(crate) use spawn::spawn;

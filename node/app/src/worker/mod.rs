//! Worker processes: hostile input is handled in children that may die.
//!
//! A child is this program with `worker fetch` or `worker refine`; its standard input is one end
//! of a socket pair. Frames are `length (u32 BE) || canonical CBOR`. A child ends when the socket
//! closes, so none outlives its node, however that ends. Children get no secrets: neither keys
//! nor the environment.

mod child;
mod frame;
mod process;
mod serve_fetch;
mod serve_refine;

pub use child::{WorkerKind, run_child};
pub use frame::{FrameError, read_frame, write_frame};
pub use process::{CallError, Program, Worker};

//! The devnet's processes end with it, however it ends.

mod guard;
mod killed;
mod procs;

//! The control API: how the command line, and later the console, talk to a running node.
//!
//! HTTP on 127.0.0.1 behind a token. Address and token stand in `control.json`, which only the
//! owner can read.

mod client;
mod models;
mod per_network;
mod routes;
mod server;

pub use client::{Client, ClientError};
pub use models::{Fetching, ModelsView};
pub use per_network::PerNetwork;
pub use routes::{ModeOf, TaskView, newest, task_view};
pub use server::{Control, ControlError};

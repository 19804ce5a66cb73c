//! The edge node: supervisor, workers, control API and command line.
//!
//! [`node::run`] is a node; [`cli::main`] is the program around it. Simulations call either with
//! another [`conduct::Conduct`] to run a real node that cheats. What decides about trust and money
//! is elsewhere: `openledger-outbox` keeps the node's promises, `openledger-rules` judges.

pub mod api;
pub mod audit;
pub mod chain;
pub mod cli;
pub mod conduct;
pub mod config;
pub mod control;
pub mod data_dir;
pub mod doctor;
pub mod gossip;
pub mod identity;
pub mod limits;
pub mod logs;
pub mod network;
pub mod node;
pub mod routing;
pub mod serving;
pub mod tasks;
pub mod time;
pub mod warc;
pub mod worker;

pub use conduct::{Conduct, Honest, Occasion, Shortcut};
pub use node::{RunError, RunOptions, run};

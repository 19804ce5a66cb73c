//! The coordinator: assigns, verifies, audits, closes and settles.
//!
//! [`Coordinator`] runs the parts: [`core`] owns the rules' machine and makes what it says durable
//! before anybody hears of it; [`link`] answers nodes; [`settle`] publishes bundles and posts
//! roots; [`documents`] collects what campaigns paid for; [`inference`] turns what is asked of models
//! into tasks; [`http`] shows it all. The parts move bytes and time: what is decided is decided in
//! `openledger-rules`. Deliberately absent: anything that a node does, and TLS for HTTP.

pub mod beacon;
pub mod bundles;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod documents;
pub mod figures;
pub mod gossip;
pub mod http;
pub mod inference;
pub mod judge;
pub mod keys;
pub mod limits;
pub mod link;
pub mod parts;
mod running;
pub mod service;
pub mod settle;
pub mod signer;
mod token;

pub use crate::config::{Config, ConfigError};
pub use crate::core::{Accepted, Answer, Core, CoreConfig, CoreError, Durable};
pub use crate::documents::{Collector, CollectorParts, Documents};
pub use crate::judge::FingerprintJudge;
pub use crate::keys::Keys;
pub use crate::parts::{Parts, StartError};
pub use crate::service::Coordinator;

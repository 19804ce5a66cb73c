//! A whole real network on one machine: chain, contracts, web sites, coordinator, nodes, cheaters.
//!
//! Every part but the web sites is the production binary in a process of its own, found beside
//! this one; nothing is reached into. What the network did is counted from the coordinator's
//! public log, and compared with what the cheaters wrote down about themselves.
//!
//! Deliberately absent: any rule of the swarm. This crate looks, counts and pays gas.

pub mod api;
pub mod chain;
pub mod chaos;
pub mod chats;
pub mod child;
pub mod corpus;
pub mod devnet;
pub mod disk;
pub mod guard;
pub mod launch;
pub mod limits;
pub mod models;
pub mod money;
pub mod nodes;
pub mod profile;
pub mod programs;
pub mod progress;
pub mod report;
pub mod seeds;
pub mod sites;
pub mod tally;
pub mod traps;

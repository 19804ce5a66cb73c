//! `openledger doctor`: what keeps a node from starting or working, why, and what mends it.
//!
//! A [`Doctor`] looks at everything at the same time, each question within three seconds: the
//! machine (ports, disk, memory, open files), the data folder (rights, configuration, identity,
//! models) and, for each network joined, what is outside (coordinator, UDP, clock, chain,
//! bootstrap peers). Servers are asked under a key made for the occasion, so that a running node
//! keeps its link.
//!
//! It changes nothing. What it says has the frame of `openledger_web::doctor`; codes are stable:
//!
//! | code | what it is about |
//! |---|---|
//! | `running` | whether a node runs with this folder, and answers |
//! | `config` | `config.toml` and variables |
//! | `permissions` | rights and owner of the data folder and its secrets |
//! | `disk` | free space and files against what the node may need |
//! | `memory` | free memory, and a control group's limit |
//! | `open-files` | the limit of open files |
//! | `port` | each configured port, and who holds it |
//! | `identity` | the vault and what unlocks it |
//! | `model` | each model file in the folder |
//! | `engine` | what computes answers, and kernels that fail their test |
//! | `network` | the profiles of networks joined |
//! | `delegation` | whether the node key may act for the account |
//! | `coordinator-link` | the QUIC link and its key |
//! | `coordinator-api` | the HTTP API |
//! | `udp` | whether UDP comes through at all |
//! | `clock` | this machine's clock against others' |
//! | `chain` | each RPC URL: answers, chain id, contract |
//! | `bootstrap` | peers to start from, and remembered ones |

mod bootstrap;
mod chain;
mod clock;
mod coordinator;
mod disk;
mod engine;
mod examine;
mod holder;
mod identity;
mod machine;
mod memory;
mod models;
mod networks;
mod outside;
mod permissions;
mod ports;
mod running;
mod settings;
mod udp;

pub use examine::Doctor;
pub use machine::Machine;

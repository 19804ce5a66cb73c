//! The simulator: the production rules in a world made of a seed.
//!
//! A world is a queue of events ordered by virtual time; messages are delayed, doubled and lost by
//! a generator that the seed determines; the coordinator crashes and comes back from what was
//! durable. The code that decides is `openledger-rules` itself. One seed gives one history: its
//! hash is printed, and the same seed gives the same hash.
//!
//! Deliberately absent: sockets, threads, clocks.

pub mod bench;
pub mod figures;
pub mod peers;
pub mod random;
pub mod scenario;
pub mod world;

pub use figures::{Figure, Figures};
pub use scenario::{Report, Scenario};

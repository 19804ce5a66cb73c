//! Fetching from real sockets: one hostile or honest server per test.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like a test")]

mod bodies;
mod hops;
mod robots;
mod server;
mod transport;

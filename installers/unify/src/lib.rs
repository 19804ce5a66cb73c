//! Nothing but a manifest. Cargo resolves the features of foreign crates for what it is asked to
//! build: `cargo test -p openledger-wire` alone would ask for fewer of them than the workspace does,
//! and compile those crates a second time. This crate asks for the union, every crate of ours
//! depends on it, and so all builds share what is foreign.
//!
//! `openledger-release unify --write` writes the manifest; `openledger-release rebuilds` proves that
//! it does its work.

//! Keeps `installers/unify`, the manifest that asks for the union of features, and proves that it
//! works: [`plan`] reads what Cargo would build, [`manifest`] writes the union, [`rebuilds`] builds
//! each crate of ours alone and counts what foreign is built again.

pub mod manifest;
pub mod plan;
pub mod rebuilds;

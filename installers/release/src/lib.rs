//! What keeps the house in order: which crate may depend on which, and how the tree reads.
//!
//! [`arrows`] reads the workspace from `cargo metadata` and compares it with the table of
//! [`layers`]; [`tidy`] reads the files themselves. Both only look: they change nothing, build
//! nothing and ask no network. [`unify`] keeps builds of one crate from building foreign ones again.

pub mod arrows;
pub mod layers;
pub mod tidy;
pub mod unify;

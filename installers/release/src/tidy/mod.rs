//! How the tree reads: rules that no compiler checks.

mod files;
mod links;
mod manifests;
mod rules;
mod text;

pub use files::Tree;
pub use rules::{Finding, check};

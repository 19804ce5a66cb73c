//! Fuzz targets for every decoder that a stranger's bytes can reach.
//!
//! [`TARGETS`] names them; each takes any bytes and must neither panic nor accept two encodings of
//! one value. [`engine`] runs them over a committed corpus and over inputs that [`mutate`] derives
//! from it: the same seed gives the same inputs, so every finding can be repeated. There is no
//! instrumentation and no sanitiser: this runs on every machine, with the ordinary build.

pub mod corpus;
pub mod engine;
pub mod limits;
pub mod mutate;
pub mod seeds;
pub mod targets;

pub use targets::{TARGETS, Target};

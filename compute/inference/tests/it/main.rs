//! The engine as its callers see it: on a tiny random model that is checked against a plain
//! implementation in `f64`, on scripted backends, and on a real model.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod adapters;
mod batching;
mod claims;
mod constraints;
mod cpu;
mod echo;
mod fairness;
mod families;
mod gpu;
mod lifecycle;
mod merging;
mod onnx;
mod onnx_export;
mod parity;
mod plain;
mod prefix;
mod real;
mod scripted;
mod soak;
mod support;
mod tiers;
mod tiny;

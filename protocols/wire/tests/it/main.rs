//! Conformance of the wire: golden vectors, properties of every message type, and what must be
//! refused.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod draw;
mod envelopes;
mod golden;
mod hostile;
mod identity;
mod kinds;
mod profile;
mod properties;
mod samples;

//! The rules of the swarm as pure state machines and functions.
//!
//! Everything that decides about trust, points or money is here: assignment, leases, commitments,
//! checks, verdicts, points, vesting, epoch close and the settlement tree. The coordinator feeds
//! [`machine::Machine`] with events and time and makes durable what it says; a stranger feeds the
//! published lines to [`bundle::audit`] and must come to the same sums.
//!
//! Deliberately absent: clocks, sockets, disks, randomness and floating point. Time and randomness
//! arrive as arguments.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

pub mod assign;
pub mod beacon;
pub mod bundle;
pub mod fingerprint;
pub mod fixed;
pub mod infer;
pub mod machine;
pub mod nodeset;
pub mod params;
pub mod shares;
pub mod state;
pub mod sumtree;
pub mod tolerance;
pub mod vesting;

pub use bundle::{AuditError, AuditReport, Bundle, audit};
pub use machine::{Event, Keep, Logged, Machine, Outcome, Refusal};
pub use params::{InferRules, RuleSet, Setup};
pub use state::{ApplyError, Judge, State};
pub use tolerance::{JudgedClass, Tolerance};

//! The running node: one machine with its workers and blobs, and an enrolment in each network.
//!
//! Nothing here decides about trust or money. Leases come in, are checked, worked on, promised
//! through the network's outbox and sent; what its coordinator says goes through the outbox too.

mod account;
mod cleaning;
mod enrol;
mod enrolment;
mod introduction;
mod jobs;
mod links;
mod machine;
mod mending;
mod peers;
mod sending;
mod start;
mod state;
mod through;
mod whole;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use enrol::Enrol;
pub use enrolment::Enrolment;
pub use peers::{Peers, Place};
pub use start::{OnReady, RunError, RunOptions, run};
pub use state::{BlobCounts, Earnings, LinkState, Mode, Status, WorkCounts};
pub use through::run_through;
pub use whole::{Node, NotEnrolled};

pub(crate) use enrol::outbox_path;
pub(crate) use through::wait_for_room;
pub(crate) use whole::statuses;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

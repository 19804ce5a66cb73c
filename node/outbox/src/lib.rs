//! Proofs until they are receipted, and everything a node did until it is paid.
//!
//! [`Work`] is one lease's record and a pure state machine: [`Event`]s go in, [`Effect`]s come
//! out. [`Outbox`] keeps the records in durable tables, signs, checks what the coordinator says
//! and hands out [`Action`]s only after what they rest on has been synced. Nothing here opens a
//! socket, reads a clock or knows what a task's body means.

pub mod limits;

mod batch;
mod check;
mod event;
mod history;
mod machine;
mod outbox;
mod owner;
mod record;
mod rows;

pub use check::{CheckError, Judge};
pub use event::{Action, Effect, Event, Handled, Key, Refusal, Refused};
pub use history::{Entry, Query, Totals};
pub use outbox::{Finished, Outbox, OutboxError, Setup};
pub use record::{Milestone, Stage, Work};

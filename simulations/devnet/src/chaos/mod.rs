//! Faults on purpose: processes are killed with `kill -9` at moments that a seed draws, the
//! coordinator is away, the chain falls silent or takes blocks back, a disk is full, model files are
//! cut short, servers die in the middle of an answer; meanwhile what nodes were promised is written
//! down, and compared with the coordinator's log at the end.
//!
//! A seed repeats what is done to whom and after which pause, not what the processes were doing.
//!
//! Deliberately absent: power cuts, whose lost writes the ledger's and the outbox's own tests show.

pub mod driver;
pub mod files;
pub mod injected;
pub mod plan;
pub mod processes;
pub mod promises;
pub mod serving;
pub mod streams;

pub use driver::inject;
pub use injected::Injected;
pub use plan::{Chaos, Fault, Step, Target};
pub use promises::{Kept, Promises};

//! The adapters of an engine: registered, wanted, loaded, mixed, replaced and dropped while
//! sequences run.
//!
//! An adapter lives in up to three tiers. *Registered* ids are on a disk or in the swarm; they cost
//! the engine nothing but the id. *Memory* holds prepared adapters within a budget of bytes; what
//! no sequence uses may be put out to make room, the longest unused first, or after idleness.
//! *Active* are those that running sequences use; they stay. A request that names a registered
//! adapter which is not in memory waits, and [`Engine::wanted`](crate::Engine::wanted) says what
//! it waits for; it goes on when that is delivered. A full memory makes requests wait, oldest
//! first, and never fails one.
//!
//! A loaded adapter never changes. Putting another under the same id makes a new [`Generation`];
//! sequences keep the one that they were given until they end, and its bytes count until then.
//!
//! Deliberately absent: files, sockets and clocks. Adapters come from callers as bytes or parsed
//! files ([`PreparedAdapter`] is made on any thread), and time as numbers that callers count.

mod ask;
mod desk;
mod errors;
mod loaded;
mod memory;
mod merge;
mod numbers;
mod prepare;
mod product;
mod source;
mod store;
mod waiting;

pub use ask::Combination;
pub use errors::{AdapterSetError, AdapterStoreError, PrepareError};
pub use loaded::{AdapterSet, Generation, LoadedAdapter};
pub use merge::{MajoritySign, Merge, MergeStrategy, UnknownMerge};
pub use numbers::{AdapterStorage, LowRank};
pub use prepare::PreparedAdapter;
pub use product::{MergeJob, MergeOutcome};
pub use source::{AdapterSource, SourceError};
pub use store::AdapterMemory;

pub(crate) use store::AdapterStore;

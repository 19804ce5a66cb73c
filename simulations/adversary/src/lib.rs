//! Real nodes that cheat, for the devnet and for tests of attacks; never shipped.
//!
//! A cheater is the production node with another [`openledger_app::conduct::Conduct`]: what it
//! sends goes through the same outbox, link and gossip as honest work, and it gets no help from
//! the coordinator. Each conduct writes the ids of its dishonest proofs to a file, so that a test
//! can compare them with the verdicts.
//!
//! Deliberately absent: floods and broken protocols, which the crates that decode and limit are
//! tested for on their own.

mod cheats;
mod copier;
mod fabricator;
mod invent;
mod limits;
mod pick;

pub use cheats::{Cheat, Cheats};
pub use copier::Copier;
pub use fabricator::{Fabricator, Habit};
pub use invent::{InventError, Inventor};
pub use pick::{UnknownConduct, named};

//! Durable tables: the only direct user of redb.
//!
//! A [`Store`] is one file of typed, ordered tables. What [`Store::write`] returns has been
//! synced; what [`GroupCommit`] acknowledges has been synced too, many callers to one sync. A file
//! carries its schema's name and number and its writer's version, so that a newer one is refused
//! by name and an older one is migrated with a readable copy kept. The storage below is a
//! parameter ([`Backend`]), and [`faults`] has one that fails and loses power on purpose.
//!
//! Values are bytes: callers encode. Nothing here knows what the tables hold.

mod backend;
mod backup;
mod error;
pub mod faults;
mod group;
mod keys;
pub mod limits;
mod open;
mod options;
mod queue;
mod schema;
mod store;
mod table;

pub use backend::Backend;
pub use error::{BackupError, OpenError, StoreError};
pub use group::{Commit, GroupCommit, GroupOptions, SubmitError};
pub use keys::{FixedKey, Key, Value};
pub use options::{Migration, StoreOptions, Verify};
pub use schema::SchemaInfo;
pub use store::{ReadTxn, Store, WriteTxn};
pub use table::{Table, TableMut, TableRef};

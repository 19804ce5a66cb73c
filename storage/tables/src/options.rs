//! How a store is opened.

use crate::error::StoreError;
use crate::limits;
use crate::store::WriteTxn;

/// One step from a schema number to the next.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The number this step starts from; it leads to `from + 1`.
    pub from: u32,
    /// Rewrites the tables. All steps of an opening run in one transaction.
    ///
    /// Errors: whatever the tables return; the file then stays as it was.
    pub run: fn(&mut WriteTxn) -> Result<(), StoreError>,
}

/// Whether opening reads the whole file to check every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Files up to [`limits::VERIFY_FILE_BYTES_MAX`] always, larger ones after a crash only.
    #[default]
    Auto,
    /// Always.
    Always,
    /// After a crash only, which redb does by itself.
    AfterCrash,
}

/// What a store is to be, and how it is kept.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The name of what the tables hold, such as "outbox". Another name is refused.
    pub schema: &'static str,
    /// The number of the tables' layout, from 1 up. A higher one is refused, a lower one migrated.
    pub version: u32,
    /// Who writes, for the messages of older programs that meet the file.
    pub writer: &'static str,
    /// Steps from older numbers.
    pub migrations: &'static [Migration],
    /// Page cache, in bytes.
    pub cache_bytes: usize,
    /// Whether opening checks every page.
    pub verify: Verify,
    /// Two syncs per commit instead of one: even somebody who chooses what is written and when
    /// power fails then cannot make a torn commit look whole. About twice the time per commit.
    pub two_phase: bool,
    /// Stores with each commit what a restart needs, so that opening a large file after a crash
    /// takes no walk through it. Implies `two_phase`.
    pub quick_repair: bool,
}

impl StoreOptions {
    /// Options for a schema, everything else at its default.
    #[must_use]
    pub const fn new(schema: &'static str, version: u32) -> Self {
        Self {
            schema,
            version,
            writer: concat!("openledger ", env!("CARGO_PKG_VERSION")),
            migrations: &[],
            cache_bytes: limits::CACHE_BYTES,
            verify: Verify::Auto,
            two_phase: false,
            quick_repair: false,
        }
    }

    /// The same with migrations from older numbers.
    #[must_use]
    pub const fn with_migrations(mut self, migrations: &'static [Migration]) -> Self {
        self.migrations = migrations;
        self
    }
}

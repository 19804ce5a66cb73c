//! What a file says of itself: schema name, schema number, writer. And the steps between numbers.

use std::sync::Arc;

use redb::{ReadableDatabase, TableHandle};

use crate::error::{OpenError, StoreError, from_redb};
use crate::limits;
use crate::options::StoreOptions;
use crate::store::WriteTxn;
use crate::table::{Table, TableRef};

const SCHEMA: Table<String, String> = Table::internal("_schema");

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaInfo {
    /// What the tables hold.
    pub schema: String,
    /// The number of their layout.
    pub number: u32,
    /// The version that last opened the file for writing.
    pub writer: String,
}

impl SchemaInfo {
    pub(crate) fn of(options: &StoreOptions) -> Self {
        let (schema, writer) = (options.schema.to_owned(), options.writer.to_owned());
        Self { schema, number: options.version, writer }
    }

    /// Reads the facts; `None` for a file without any table.
    pub(crate) fn read(db: &redb::Database, store: &Arc<str>) -> Result<Option<Self>, OpenError> {
        let txn = db.begin_read().map_err(|error| from_redb(store, error))?;
        let mut tables = txn.list_tables().map_err(|error| from_redb(store, error))?;
        let has_facts = tables.any(|table| table.name() == SCHEMA.name());
        if !has_facts {
            let mut tables = txn.list_tables().map_err(|error| from_redb(store, error))?;
            return match tables.next() {
                None => Ok(None),
                Some(table) => Err(corrupted(
                    store,
                    format!("it has a table {:?} but names no schema", table.name()),
                )),
            };
        }
        let facts = TableRef::open(&txn, store, SCHEMA)?;
        let text = |name: &str| -> Result<String, OpenError> {
            let text = facts.get(&name.to_owned())?;
            text.filter(|text| text.len() <= limits::SCHEMA_TEXT_BYTES_MAX)
                .ok_or_else(|| corrupted(store, format!("its {name} is missing or too long")))
        };
        let number = text("number")?;
        let number = number
            .parse()
            .map_err(|_| corrupted(store, format!("its schema number {number:?} is no number")))?;
        Ok(Some(Self { schema: text("schema")?, number, writer: text("writer")? }))
    }

    pub(crate) fn write(&self, txn: &mut WriteTxn) -> Result<(), StoreError> {
        let mut facts = txn.table(SCHEMA)?;
        facts.insert(&"schema".to_owned(), &self.schema)?;
        facts.insert(&"number".to_owned(), &self.number.to_string())?;
        facts.insert(&"writer".to_owned(), &self.writer)?;
        Ok(())
    }

    /// Whether this program may use a file that says `self`; true when it needs a migration.
    pub(crate) fn check(
        &self,
        options: &StoreOptions,
        store: &Arc<str>,
    ) -> Result<bool, OpenError> {
        let store = Arc::clone(store);
        let (schema, found, supported) = (options.schema, self.number, options.version);
        if self.schema != schema {
            let found = self.schema.clone();
            return Err(OpenError::OtherSchema { store, found, expected: schema });
        }
        if found > supported {
            let writer = self.writer.clone();
            return Err(OpenError::Newer { store, schema, found, supported, writer });
        }
        let has_step = |from| options.migrations.iter().any(|step| step.from == from);
        if !(found..supported).all(has_step) {
            return Err(OpenError::TooOld { store, schema, found, supported });
        }
        Ok(found < supported)
    }

    /// Runs the steps from `self.number` to the options' and records the new number, within `txn`.
    pub(crate) fn migrate(
        &self,
        options: &StoreOptions,
        txn: &mut WriteTxn,
    ) -> Result<Self, StoreError> {
        for from in self.number..options.version {
            for step in options.migrations.iter().filter(|step| step.from == from) {
                (step.run)(txn)?;
            }
        }
        let now = Self::of(options);
        now.write(txn)?;
        Ok(now)
    }
}

pub(crate) fn corrupted(store: &Arc<str>, detail: String) -> OpenError {
    OpenError::Corrupted { store: Arc::clone(store), detail }
}

//! Conducts by name.

use std::io;
use std::path::Path;
use std::sync::Arc;

use openledger_app::conduct::{Conduct, Honest};
use thiserror::Error;

use crate::cheats::Cheats;
use crate::copier::Copier;
use crate::fabricator::{Fabricator, Habit};
use crate::invent::Inventor;

/// No conduct of that name, or its record cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnknownConduct {
    /// No such name.
    #[error("choose conduct {0:?}: there are copier, fabricator, sometimes, honest")]
    Name(String),
    /// The record of dishonest proofs.
    #[error("keep the record of dishonest proofs: {0}; check the folder's permissions")]
    Record(#[source] io::Error),
}

/// The conduct of a name; its dishonest proofs are noted in `record`.
///
/// # Errors
/// [`UnknownConduct`].
pub fn named(name: &str, record: &Path) -> Result<Arc<dyn Conduct>, UnknownConduct> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|error| UnknownConduct::Record(io::Error::other(error)))?;
    let inventor = Inventor::new(salt);
    let cheats = || Cheats::open(record).map_err(UnknownConduct::Record);
    Ok(match name {
        "copier" => Arc::new(Copier::new(inventor, cheats()?)),
        "fabricator" => Arc::new(Fabricator::new(Habit::Always, inventor, cheats()?)),
        "sometimes" => Arc::new(Fabricator::new(Habit::Sometimes, inventor, cheats()?)),
        "honest" => Arc::new(Honest),
        other => return Err(UnknownConduct::Name(other.to_owned())),
    })
}

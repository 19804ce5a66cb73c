//! Why a constraint was refused, or could not be followed.

use thiserror::Error;

use crate::limits::{CHOICES_MAX, CONSTRAINT_BYTES_MAX, ONE_OF_MAX, TOOLS_MAX};

/// Why a constraint was refused, before anything was drawn.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConstraintError {
    /// Too much text.
    #[error(
        "compile the constraint: it has {bytes} bytes, {CONSTRAINT_BYTES_MAX} at most are possible; leave out descriptions and examples"
    )]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// A schema that is no JSON.
    #[error(
        "compile the constraint: its schema is not JSON: see line {line}, column {column}; send it again"
    )]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Alternatives that exclude each other, too many to tell apart.
    #[error(
        "compile the constraint: {asked} alternatives of oneOf in its schema are more than {ONE_OF_MAX}; use anyOf or enum"
    )]
    OneOf {
        /// How many.
        asked: usize,
    },
    /// A list of texts that cannot be used.
    #[error(
        "compile the constraint: it lists {asked} texts; 1 to {CHOICES_MAX} that are not empty are possible"
    )]
    Choices {
        /// How many.
        asked: usize,
    },
    /// A list of tools that cannot be used.
    #[error(
        "compile the constraint: it has {asked} tools; 1 to {TOOLS_MAX} with names of letters, digits, _, . and - are possible"
    )]
    Tools {
        /// How many.
        asked: usize,
    },
    /// What the library does not do, or refuses.
    #[error("compile the constraint: {reason}; write it otherwise, or leave that part out")]
    Unsupported {
        /// What is not supported, in the library's words.
        reason: String,
    },
    /// The parameters of one tool.
    #[error("compile the constraint: parameters of the tool {name}: {source}")]
    Tool {
        /// Its name.
        name: String,
        /// What is wrong.
        source: Box<Self>,
    },
    /// The model's tokens cannot be constrained.
    #[error(
        "compile the constraint: this model's tokens cannot be constrained ({reason}); ask without one, or another model"
    )]
    Vocabulary {
        /// Why not.
        reason: &'static str,
    },
    /// Going on after the end.
    #[error(
        "compile the constraint: an answer with a constraint ends at its end; leave ignore_end out"
    )]
    IgnoresEnd,
    /// The beginning of the answer does not fit.
    #[error(
        "compile the constraint: token {index} of the answer that was begun does not fit it; begin the answer anew"
    )]
    Begun {
        /// Which, from 0.
        index: usize,
    },
}

/// Why no set of allowed tokens could be had. It says nothing about the answer so far.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaskError {
    /// The library gave up: the grammar is too ambiguous or too large at this point.
    #[error("follow the constraint: {reason}; ask for something simpler")]
    TooComplex {
        /// In its words.
        reason: String,
    },
    /// No token of the model goes on.
    #[error(
        "follow the constraint: no token of the model can come next; ask for something simpler"
    )]
    DeadEnd,
}

/// A stranger's words in a message: one line, not long, nothing unprintable.
pub(super) fn shortened(reason: &str) -> String {
    let words = reason.split_whitespace().filter(|word| {
        !word.starts_with("<non-verbose") && !word.chars().all(|c| matches!(c, '^' | '~'))
    });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

//! The frame of `doctor`: what a check is, what it found, how bad that is, how it is shown.
//!
//! A [`Check`] is bounded in time and gives [`Finding`]s: a stable code for programs, and for
//! people what was found, why it is so and what mends it. [`examine`] makes all checks at the same
//! time and gives a [`Report`], which shows itself as text, as JSON and as an exit code.
//!
//! Deliberately absent: any check. What can be wrong with a node or a coordinator is known there.
//! Nothing here changes anything either: a mend is a sentence, done by its reader.

mod check;
mod finding;
mod report;

pub use check::{Check, examine};
pub use finding::{Finding, Severity};
pub use report::Report;

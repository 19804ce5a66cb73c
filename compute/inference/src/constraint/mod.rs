//! What an answer must look like: a JSON schema, a regular expression, a list of texts, a grammar,
//! or calls of tools.
//!
//! A [`Constraint`] is compiled once, within bounds and off the step path ([`Constraints`]), and kept
//! for whoever asks for the same. While an answer is drawn it gives, before each token, the set of
//! tokens that may come next ([`TokenMask`]): a pure function of the constraint and the answer so
//! far, so that a verifier gets the same set. End tokens are allowed exactly where the answer is
//! whole.
//!
//! The grammars themselves are llguidance's. Deliberately absent: forcing several tokens at once where
//! only one continuation is possible. It would save steps, and make the answer depend on more than
//! logits, seed, position and constraint.

mod compile;
mod error;
mod schema;
mod source;
mod state;
mod tools;
mod vocabulary;

pub use compile::Constraints;
pub use error::{ConstraintError, MaskError};
pub use source::Constraint;
pub use state::TokenMask;
pub use tools::{CallForm, CallRule, Tool, ToolCalls};

pub(crate) use compile::Grammar;
pub(crate) use state::{Constrained, Walk};

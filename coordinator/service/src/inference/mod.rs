//! Inference work of campaigns: from what an operator asks for to tasks, and to the prompts that
//! nodes fetch.
//!
//! Prompts of campaigns are test prompts: they are public by definition, and everybody who is given
//! a task fetches its prompt. The log names them by id; their text is in no log and no bundle.
//! Deliberately absent: models. What a node answers is compared by the rules.

mod names;
mod plan;
mod prompts;
mod request;

pub use names::{Named, Names, NamesError};
pub use plan::{Plan, PlanError, plan};
pub use prompts::{KeepError, Prompts};
pub use request::{AdapterRequest, InferRequest, MessageRequest, PromptRequest};

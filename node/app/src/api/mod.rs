//! The node's HTTP API for applications, as OpenAI's clients speak it: models, chat, completions,
//! embeddings; streamed or not.
//!
//! On 127.0.0.1 behind a bearer token, for programs of this machine; pages of other sites are
//! refused. A call that this machine cannot answer goes to peers ([`crate::routing`]). Fields that
//! change the meaning of a request and are not supported are refused by name; others that are not
//! known are ignored, as OpenAI does. Calls earn nothing, and nothing of what is said is logged.

mod answer;
mod base64;
mod chat;
mod completions;
pub mod config;
mod embeddings;
mod error;
mod fields;
mod logprobs;
mod models;
mod names;
mod sampling;
mod server;
mod stream;

pub use config::ApiConfig;
pub use error::ApiFailure;
pub use server::{Api, ApiError, ApiSetup};

//! The node's HTTP API for applications, as OpenAI's clients speak it: models, chat, completions,
//! embeddings; streamed or not.
//!
//! On 127.0.0.1 behind a bearer token, for programs of this machine; pages of other sites are
//! refused. A call that this machine cannot answer goes to peers ([`crate::routing`]). Fields that
//! change the meaning of a request and are not supported are refused by name; others that are not
//! known are ignored, as OpenAI does. `min_p`, `repetition_penalty` and `logit_bias` are done by this
//! machine's own engine only; `adapters`, `adapter_id` and LoRAX's `merged_adapters` name adapters of the
//! base that `model` names, `timeout` the seconds in which an answer must have begun; `user` names the caller whose fair share a request counts against,
//! `priority` says how much it matters among that caller's. Calls earn nothing, and nothing of what is said is logged.
//!
//! Answers take a form by `response_format` (`json_object`, `json_schema`) or by vLLM's
//! `structured_outputs` (`json`, `regex`, `choice`, `grammar`) and its older `guided_...` fields. `tools`
//! are shown to the model, and its calls come as `tool_calls`; `tool_choice` leaves it to the model, asks
//! for a call, or for one of a function. Both are kept to while the answer is drawn
//! ([`openledger_inference::constraint`]), so a call that is asked for is one that the schema allows.
//!
//! Errors are `{"error":{"message","type","param","code"}}`; those worth a second try have
//! `Retry-After` and `retry-after-ms`. A stream that breaks off ends with such an object as its last
//! event, without `[DONE]`.
//!
//! | status | code | when |
//! |---|---|---|
//! | 401 | `invalid_api_key` | no key, or a wrong one |
//! | 404 | `model_not_found` | nobody known has the model or adapter |
//! | 404, 405 | `unknown_url`, `method_not_allowed` | the path or its method |
//! | 400 | `invalid_value`, `invalid_body` | `param` names the field |
//! | 400 | `unsupported_parameter` | `functions`, `n` above 1, images, ... |
//! | 400 | `invalid_constraint` | a schema or grammar that is not supported, or too complex; `param` names the field |
//! | 400 | `context_length_exceeded` | the prompt does not fit model, memory or wire |
//! | 400 | `ambiguous_model` | several files have the name: the message lists their ids |
//! | 400 | `chat_template`, `wrong_base`, `quarantined` | the model refuses the chat; the adapter is another base's; the input killed its worker twice |
//! | 413, 408 | `request_too_large`, `request_timeout` | more than 4 MiB; slower than 30 s |
//! | 429 | `rate_limit_exceeded` | too much at a time, here or at all peers |
//! | 502 | `upstream_failed` | the server that `[[upstream]]` names failed, or said something odd |
//! | 504 | `deadline_exceeded` | the answer did not begin within `timeout` |
//! | 500 | `bad_file`, `engine_failed` | a model's file is damaged; the engine failed |
//! | 503 | `worker_died`, `worker_start`, `peer_lost`, `not_serving`, `not_fetched`, `stopping` | whoever should answer is gone |

mod adapters;
mod answer;
mod base64;
mod calls;
mod chat;
mod completions;
pub mod config;
mod embeddings;
mod error;
mod fields;
mod format;
mod logprobs;
mod models;
mod names;
mod sampling;
mod server;
mod stream;
mod tools;

pub use config::ApiConfig;
pub use error::ApiFailure;
pub use server::{Api, ApiError, ApiSetup, Problem};

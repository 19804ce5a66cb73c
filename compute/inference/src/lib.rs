//! The inference engine: one base model, many adapters, many sequences, one step at a time.
//!
//! [`Engine`] queues sequences, plans each step (continuous batching, chunked prefill, KV in
//! pages), has a [`Backend`] run the plan, and draws tokens from its logits. Sampling is a pure
//! function of logits, seed and position, so that [`Engine::verify`] can say of an answer
//! whether the model, with these adapters and this seed, could have written it.
//!
//! What holds, and is tested: a sequence gets the same bits alone or in any company, in chunks
//! of any size, after preemption, on any number of threads; keys and values never serve
//! sequences with other adapters; a request without an adapter gets the bare base; pages
//! come back whatever ends a sequence.
//!
//! Deliberately absent: sockets, clocks, templates and names of models (callers hand in token
//! ids and blob ids), and any randomness but the seeds in requests.

pub mod adapters;
pub mod backend;
pub mod engine;
pub mod event;
pub mod limits;
pub mod options;
pub mod plan;
pub mod request;
pub mod sampling;
pub mod score;
pub mod verify;

mod pages;
mod prune;
mod reference;
mod scheduler;
mod sequence;
mod text;
mod weights;

pub use adapters::{AdapterSet, AdapterSetError, AdapterStoreError, Generation, LoadedAdapter};
pub use backend::{Backend, BackendError, RowOutput};
pub use engine::{Engine, EngineError, StepError};
pub use event::{Event, FinishReason, SequenceError, Usage};
pub use options::EngineOptions;
pub use plan::{Row, StepPlan, Wants};
pub use reference::ReferenceBackend;
pub use request::{Request, SequenceId, SubmitError};
pub use sampling::{Drawn, SampleError, Sampling, SamplingError, draw, sample};
pub use score::ScoreError;
pub use verify::{Tolerance, Verification, VerifyError};

//! The inference engine: one base model, many adapters, many sequences, one step at a time.
//!
//! [`Engine`] queues sequences, gives each caller and adapter set its share, plans each step
//! (continuous batching, chunked prefill, KV in pages that are found again by what they hold), has
//! a [`Backend`] run the plan, and draws tokens from its logits. Sampling is a pure
//! function of logits, seed and position, and of the constraint where there is one, so that [`Engine::verify`] can say of an answer
//! whether the model, with these adapters and this seed, could have written it.
//!
//! What holds, and is tested: a sequence gets the same bits alone or in any company, in chunks
//! of any size, with found pages or without, after preemption, on any number of threads; keys and
//! values never serve sequences with other adapters; a request without an adapter gets the bare
//! base; pages come back whatever ends a sequence.
//!
//! [`CpuBackend`] is what nodes serve with, [`ReferenceBackend`] what every other is measured
//! against; [`mod@class`] says whose results have the same bits.
//!
//! Deliberately absent: sockets, clocks, templates and names of models (callers hand in token
//! ids and blob ids), and any randomness but the seeds in requests.

pub mod adapters;
pub mod backend;
pub mod claim;
pub mod class;
pub mod constraint;
pub mod engine;
pub mod event;
pub mod examine;
pub mod figures;
pub mod fingerprint;
pub mod limits;
pub mod options;
pub mod plan;
pub mod request;
pub mod sampling;
pub mod score;
pub mod verify;

mod cpu;
pub mod gpu;
mod onnx;
mod pace;
mod pages;
mod prefix;
mod prune;
mod queue;
mod reference;
mod scheduler;
mod sequence;
mod shares;
mod text;
mod weights;

pub use adapters::{
    AdapterMemory, AdapterSet, AdapterSetError, AdapterSource, AdapterStorage, AdapterStoreError,
    Combination, Generation, LoadedAdapter, LowRank, MajoritySign, Merge, MergeJob, MergeOutcome,
    MergeStrategy, PrepareError, PreparedAdapter, SourceError, UnknownMerge,
};
pub use backend::{Backend, BackendError, RowOutput};
pub use claim::{Claim, ClaimCheck};
pub use class::{BackendKind, class_of, of_class};
pub use constraint::{
    CallForm, CallRule, Constraint, ConstraintError, Constraints, MaskError, TokenMask, Tool,
    ToolCalls,
};
pub use cpu::{CpuBackend, Progress, cpu_tier, cpu_tiers_failed};
pub use engine::{Engine, EngineError, StepError};
pub use event::{Event, FinishReason, SequenceError, Usage};
pub use examine::{Findings, SLACK_MAX};
pub use figures::Figures;
pub use fingerprint::compare::{AdapterShare, Comparison, FingerprintTolerance};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use gpu::{GpuBackend, GpuOptions, usable_gpu};
pub use onnx::{
    OnnxBackend, OnnxError, OnnxExport, OnnxExportBackend, OnnxLibrary, OnnxOptions, Provider,
    UnknownProvider, onnx_library,
};
pub use openledger_kernels::fused::{KvFormat, LoraFormat};
pub use options::EngineOptions;
pub use plan::{Row, StepPlan, Wants};
pub use reference::ReferenceBackend;
pub use request::{CallerId, Priority, Request, SequenceId, SubmitError};
pub use sampling::{
    Drawn, History, SampleError, Sampling, SamplingError, draw, sample, sample_allowed,
};
pub use score::ScoreError;
pub use verify::{Tolerance, Verification, VerifyError};

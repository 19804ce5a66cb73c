//! Serving models: what is here, what peers offer, and answering calls.
//!
//! [`Library`] knows the model files of this machine, [`Offers`] what peers of a network say that
//! they hold, and [`LocalServe`] answers calls by a worker process that holds the engine. Which
//! server a call goes to is decided elsewhere. Calls earn nothing and leave no trace but counters.

mod add;
mod backends;
mod combinations;
pub mod config;
mod folder;
pub mod host;
pub mod hub;
mod in_hand;
pub mod inference;
pub mod library;
pub mod local;
pub mod models;
pub mod offers;
pub mod serve;
mod suspects;
pub mod transfer;
pub mod upstream;
pub mod wishes;

pub use add::{AddError, AddOptions, add};
pub use combinations::{CombineError, Combined, combinations, combine, forget_combination};
pub use config::ModelsConfig;
pub use host::{Host, ModelInfo, probe};
pub use inference::{BackendChoice, EngineView, InferenceConfig, LoadingView};
pub use library::{Entry, EntryKind, Library, LibraryError};
pub use local::{LocalServe, Served};
pub use models::{ModelCounts, Models, ObtainError};
pub use offers::{Offered, Offers};
pub use serve::{CallPiece, CallStream, Serve, codes, failure, whole};
pub use transfer::{Progress, Transfer};
pub use upstream::{UpstreamConfig, UpstreamView, Upstreams, WithUpstreams};
pub use wishes::Wishes;

pub(crate) use add::shape_of;
pub(crate) use folder::length;

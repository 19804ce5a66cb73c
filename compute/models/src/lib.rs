//! Model files, read with every bound checked: GGUF models with their tokenizer and chat template,
//! and PEFT adapters.
//!
//! All of it comes from strangers, so all of it is hostile: no input may panic, allocate beyond
//! the bounds of [`limits`], or be misread silently; each is refused with one clear error that
//! names the place and the mend. Nothing is computed here: weights are handed out packed, as they
//! lie in the memory map, and the kernels do the rest.
//!
//! * [`map`] and [`gguf`]: a file as bytes, and its header;
//! * [`config`] and [`model`]: the shape of a model and its weights;
//! * [`tokenizer`]: text to token ids and back, id for id as llama.cpp does it;
//! * [`chat`]: conversations to prompts, by the template in the file;
//! * [`safetensors`], [`peft`] and [`bundle`]: adapters.

pub mod bundle;
pub mod chat;
pub mod config;
pub mod gguf;
pub mod limits;
pub mod map;
pub mod model;
pub mod peft;
pub mod safetensors;
pub mod tokenizer;

pub use bundle::{AdapterBundle, BundleError};
pub use chat::{ChatTemplate, Message, TemplateError};
pub use config::{ConfigError, LlamaConfig, RopeLayout};
pub use gguf::{Gguf, GgufError, GgufWriter, TensorInfo, TensorKind};
pub use map::{MapError, Mapped};
pub use model::{Model, ModelError, NormSite, Site, Tensor, Weight};
pub use peft::{Adapter, AdapterError, AdapterSpec, Delta};
pub use tokenizer::{SpecialTokens, Tokenizer, TokenizerError, Utf8Stream};

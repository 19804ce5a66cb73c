//! Model files, read with every bound checked: models in GGUF or as folders of the transformers
//! library, with their tokenizer and chat template, and LoRA adapters.
//!
//! All of it comes from strangers, so all of it is hostile: no input may panic, allocate beyond
//! the bounds of [`limits`], or be misread silently; each is refused with one clear error that
//! names the place and the mend. Nothing is computed here: weights are handed out packed, as they
//! lie in the memory map or were packed at load, and the kernels do the rest.
//!
//! * [`map`] and [`gguf`]: a file as bytes, and its header;
//! * [`config`] and [`model`]: the shape of a model and its weights;
//! * [`hf`]: models as folders, packed at load;
//! * [`onnx`]: what exported decoders want, give and refer to;
//! * [`tokenizer`]: text to token ids and back, id for id as llama.cpp does it;
//! * [`chat`]: conversations to prompts, by the template in the file;
//! * [`safetensors`], [`peft`] and [`bundle`]: adapters.

pub mod bundle;
pub mod chat;
pub mod config;
pub mod gguf;
pub mod hf;
pub mod limits;
pub mod map;
pub mod model;
pub mod onnx;
pub mod peft;
pub mod safetensors;
pub mod tokenizer;

mod floats;

pub use bundle::{AdapterBundle, BundleError};
pub use chat::{ChatTemplate, Message, TemplateError, ToolForm};
pub use config::{Activation, ConfigError, ModelConfig, Rope, RopeLayout};
pub use gguf::{Gguf, GgufError, GgufWriter, TensorInfo, TensorKind};
pub use hf::{FolderError, Precision};
pub use map::{MapError, Mapped};
pub use model::{Model, ModelError, NormSite, Site, Tensor, Weight};
pub use onnx::{OnnxElement, OnnxFile, OnnxFileError, OnnxValue};
pub use peft::{Adapter, AdapterError, AdapterSpec, Delta};
pub use tokenizer::{SpecialTokens, Tokenizer, TokenizerError, Utf8Stream};

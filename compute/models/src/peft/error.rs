//! Why an adapter was refused.

use thiserror::Error;

use crate::bundle::BundleError;
use crate::gguf::GgufError;
use crate::limits::{ADAPTER_FLOATS_MAX, ADAPTER_RANK_MAX, ADAPTER_SCALE_MAX};
use crate::safetensors::SafetensorsError;

/// Why an adapter was refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The safetensors file is damaged.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The one-file form is damaged.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The GGUF file is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file of the adapter could not be read.
    #[error("open the adapter {path}: {reason}")]
    Open {
        /// The file or folder.
        path: String,
        /// What the system says, and what to do.
        reason: String,
    },
    /// The configuration is no JSON of the right form.
    #[error(
        "read the adapter: adapter_config.json cannot be read ({reason}); save the adapter again"
    )]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// An option that needs more than plain LoRA.
    #[error(
        "use the adapter: {option} is {value}, which is not supported; train a plain LoRA adapter"
    )]
    Option {
        /// The option.
        option: String,
        /// Its value.
        value: String,
    },
    /// No rank, or one out of bounds.
    #[error("use the adapter: its rank is {rank}, 1 to {max} is accepted", max = ADAPTER_RANK_MAX)]
    Rank {
        /// The rank.
        rank: u64,
    },
    /// A scale that cannot be meant.
    #[error("use the adapter: its scale is {scale}, more than 0 and at most {max} is accepted; check lora_alpha", max = ADAPTER_SCALE_MAX)]
    Scale {
        /// The scale.
        scale: f64,
    },
    /// A tensor that is none of a LoRA adapter for this family.
    #[error(
        "use the adapter: tensor {tensor:?} is not known; adapters of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj are supported"
    )]
    UnknownTensor {
        /// Its name.
        tensor: String,
    },
    /// A layer that the model does not have.
    #[error(
        "use the adapter: tensor {tensor:?} is for a layer past the model's {layers}; it was made for another base"
    )]
    Layer {
        /// The tensor.
        tensor: String,
        /// Layers of the model.
        layers: usize,
    },
    /// A shape that does not fit.
    #[error(
        "use the adapter: tensor {tensor:?} is {found:?} where {wanted:?} is needed; it was made for another base"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<u64>,
        /// The shape needed.
        wanted: [u64; 2],
    },
    /// Two names of one matrix.
    #[error("use the adapter: tensors {first:?} and {second:?} are the same; save it again")]
    TwoNames {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A key of a GGUF file that says something else than a LoRA adapter's.
    #[error("use the adapter: {key} is {found:?} where {wanted:?} is needed; use another file")]
    NotLora {
        /// The key.
        key: String,
        /// What it is.
        found: String,
        /// What is needed.
        wanted: String,
    },
    /// A matrix of a GGUF file in a packing that adapters do not have.
    #[error(
        "use the adapter: tensor {tensor:?} is {kind} where F32, F16, BF16 or Q8_0 is needed; convert the adapter again with --outtype f16"
    )]
    TensorType {
        /// The tensor.
        tensor: String,
        /// Its kind.
        kind: &'static str,
    },
    /// One matrix without the other.
    #[error("use the adapter: {module} has no lora_{missing}; download it again")]
    HalfPair {
        /// The module.
        module: String,
        /// Which is missing.
        missing: &'static str,
    },
    /// Numbers that are infinite or none.
    #[error("use the adapter: {module} has numbers that are not finite; its training has failed")]
    NotFinite {
        /// The module.
        module: String,
    },
    /// No tensors.
    #[error("use the adapter: it has no tensors; download it again")]
    Empty,
    /// More numbers than an adapter may have.
    #[error("use the adapter: it has {floats} numbers, {max} at most are accepted", max = ADAPTER_FLOATS_MAX)]
    TooLarge {
        /// How many.
        floats: usize,
    },
}

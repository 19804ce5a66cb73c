//! The shape of a model, from the metadata of its file.
//!
//! Everything that a kernel will use as a length, a divisor or an exponent is checked here once.
//! Nothing here says how a model is computed: what sets families apart is told by the fields, so
//! that a backend asks for none of them by name.

mod error;
mod gguf;
mod rope;

pub use error::ConfigError;
pub use rope::{Rope, RopeLayout};

pub(crate) use rope::{Stretch, Turns, Yarn};

/// What the gate of the feed-forward layer goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + exp(-x))`: Llama, Mistral, Qwen.
    Silu,
    /// The Gaussian error unit by its approximation with a hyperbolic tangent: Gemma.
    GeluTanh,
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `llama`, `qwen2`, `qwen3` or `gemma3`: for people, and for what adapters say of their base.
    pub architecture: String,
    /// The model's name as the file has it; may be empty.
    pub name: String,
    /// Layers.
    pub layers: usize,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Query heads of a layer.
    pub heads: usize,
    /// Key and value heads of a layer; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Width of a head; `heads * head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Longest context in tokens that the model was made for.
    pub context: usize,
    /// How many positions each layer sees, its own among them; `None` is all of them. May be
    /// shorter than the layers: the rest see everything. Ask [`Self::window_of`].
    pub windows: Vec<Option<usize>>,
    /// Numbers of a head that are turned; even, at most `head_dim`.
    pub rope_dim: usize,
    /// Which of them are turned together.
    pub rope_layout: RopeLayout,
    /// How far they are turned.
    pub rope: Rope,
    /// The same of layers with a window, where it is another. Ask [`Self::rope_of`].
    pub local_rope: Option<Rope>,
    /// Added to the mean square before its root is taken.
    pub rms_epsilon: f32,
    /// What the products of queries and keys are multiplied with.
    pub attention_scale: f32,
    /// What embeddings are multiplied with on their way in (not where they are the head).
    pub embedding_scale: f32,
    /// What the gate goes through.
    pub activation: Activation,
    /// Whether query, key and value have a bias.
    pub attention_bias: bool,
    /// Whether each head of query and key is normalised before it is turned.
    pub head_norms: bool,
    /// Whether what attention and the feed-forward layer give is normalised before it is added.
    pub post_norms: bool,
}

impl ModelConfig {
    /// Width of all query heads together.
    #[must_use]
    pub const fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    #[must_use]
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// How many positions a layer sees, its own among them; `None` is all.
    #[must_use]
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }

    /// How far a layer turns its queries and keys.
    #[must_use]
    pub fn rope_of(&self, layer: usize) -> &Rope {
        match &self.local_rope {
            Some(rope) if self.window_of(layer).is_some() => rope,
            _ => &self.rope,
        }
    }
}

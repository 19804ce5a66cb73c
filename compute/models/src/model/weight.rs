//! The weights of a model: what there is, what shape each has, and what files call it.

use crate::config::ModelConfig;

/// A place of a layer where a matrix is applied; what an adapter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Attention queries, `[query_width, hidden]`.
    Query,
    /// Attention keys, `[kv_width, hidden]`.
    Key,
    /// Attention values, `[kv_width, hidden]`.
    Value,
    /// Attention output, `[hidden, query_width]`.
    Output,
    /// Gate of the feed-forward layer, `[feed_forward, hidden]`.
    Gate,
    /// Up projection, `[feed_forward, hidden]`.
    Up,
    /// Down projection, `[hidden, feed_forward]`.
    Down,
}

impl Site {
    /// Every site, in the order of their use.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Those that may have a bias.
    const BIASED: [Self; 3] = [Self::Query, Self::Key, Self::Value];

    /// Rows (outputs) and columns (inputs) of the matrix at this site.
    #[must_use]
    pub const fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let hidden = config.hidden;
        match self {
            Self::Query => (config.query_width(), hidden),
            Self::Key | Self::Value => (config.kv_width(), hidden),
            Self::Output => (hidden, config.query_width()),
            Self::Gate | Self::Up => (config.feed_forward, hidden),
            Self::Down => (hidden, config.feed_forward),
        }
    }

    /// The name in GGUF files.
    #[must_use]
    pub const fn gguf_name(self) -> &'static str {
        match self {
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::Output => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// The name of the module in the transformers library, as PEFT files have it.
    #[must_use]
    pub const fn peft_name(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}

/// Which of a layer's normalisations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NormSite {
    /// Before attention, `[1, hidden]`.
    Attention,
    /// Of each head of the queries, `[1, head_dim]`; only where [`ModelConfig::head_norms`] says
    /// so.
    Query,
    /// Of each head of the keys, `[1, head_dim]`; likewise.
    Key,
    /// Of what attention gives, `[1, hidden]`; only where [`ModelConfig::post_norms`] says so.
    AttentionOutput,
    /// Before the feed-forward layer, `[1, hidden]`.
    FeedForward,
    /// Of what the feed-forward layer gives, `[1, hidden]`; only where
    /// [`ModelConfig::post_norms`] says so.
    FeedForwardOutput,
}

impl NormSite {
    /// Every normalisation of a layer, in the order of their use.
    pub const ALL: [Self; 6] = [
        Self::Attention,
        Self::Query,
        Self::Key,
        Self::AttentionOutput,
        Self::FeedForward,
        Self::FeedForwardOutput,
    ];

    /// Whether a model of this shape has it.
    #[must_use]
    pub const fn is_in(self, config: &ModelConfig) -> bool {
        match self {
            Self::Attention | Self::FeedForward => true,
            Self::Query | Self::Key => config.head_norms,
            Self::AttentionOutput | Self::FeedForwardOutput => config.post_norms,
        }
    }

    const fn gguf_name(self) -> &'static str {
        match self {
            Self::Attention => "attn_norm",
            Self::Query => "attn_q_norm",
            Self::Key => "attn_k_norm",
            Self::AttentionOutput => "post_attention_norm",
            Self::FeedForward => "ffn_norm",
            Self::FeedForwardOutput => "post_ffw_norm",
        }
    }

    const fn hf_name(self, config: &ModelConfig) -> &'static str {
        match self {
            Self::Attention => "input_layernorm",
            Self::Query => "self_attn.q_norm",
            Self::Key => "self_attn.k_norm",
            Self::AttentionOutput => "post_attention_layernorm",
            // Named after what it follows, where nothing else follows attention.
            Self::FeedForward if !config.post_norms => "post_attention_layernorm",
            Self::FeedForward => "pre_feedforward_layernorm",
            Self::FeedForwardOutput => "post_feedforward_layernorm",
        }
    }
}

/// A weight of a model. Layers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Token embeddings, `[vocab, hidden]`.
    Embedding,
    /// A normalisation of a layer, F32.
    Norm(usize, NormSite),
    /// A matrix of a layer.
    Site(usize, Site),
    /// A bias of a layer, `[1, rows of the site]`, F32; only query, key and value, and only where
    /// [`ModelConfig::attention_bias`] says so.
    Bias(usize, Site),
    /// The last normalisation, `[1, hidden]`, F32.
    OutputNorm,
    /// From hidden state to logits, `[vocab, hidden]`; the embeddings where the file ties them.
    Head,
}

impl Weight {
    /// Every weight that a model of this shape has; the head last, which may be the embedding.
    pub(crate) fn all(config: &ModelConfig) -> Vec<Self> {
        let mut all = vec![Self::Embedding];
        for layer in 0..config.layers {
            let norms = NormSite::ALL.into_iter().filter(|norm| norm.is_in(config));
            all.extend(norms.map(|norm| Self::Norm(layer, norm)));
            all.extend(Site::ALL.map(|site| Self::Site(layer, site)));
            if config.attention_bias {
                all.extend(Site::BIASED.map(|site| Self::Bias(layer, site)));
            }
        }
        all.extend([Self::OutputNorm, Self::Head]);
        all
    }

    /// Rows and columns.
    pub(crate) const fn shape(self, config: &ModelConfig) -> (usize, usize) {
        match self {
            Self::Embedding | Self::Head => (config.vocab, config.hidden),
            Self::Norm(_, NormSite::Query | NormSite::Key) => (1, config.head_dim),
            Self::Norm(..) | Self::OutputNorm => (1, config.hidden),
            Self::Site(_, site) => site.shape(config),
            Self::Bias(_, site) => (1, site.shape(config).0),
        }
    }

    /// Whether it is one row of 32-bit floats, which files store as a list.
    pub(crate) const fn is_vector(self) -> bool {
        matches!(self, Self::Norm(..) | Self::OutputNorm | Self::Bias(..))
    }

    /// The name in GGUF files.
    pub(crate) fn gguf_name(self) -> String {
        match self {
            Self::Embedding => "token_embd.weight".to_owned(),
            Self::Norm(layer, norm) => format!("blk.{layer}.{}.weight", norm.gguf_name()),
            Self::Site(layer, site) => format!("blk.{layer}.{}.weight", site.gguf_name()),
            Self::Bias(layer, site) => format!("blk.{layer}.{}.bias", site.gguf_name()),
            Self::OutputNorm => "output_norm.weight".to_owned(),
            Self::Head => "output.weight".to_owned(),
        }
    }

    /// The name in the transformers library.
    pub(crate) fn hf_name(self, config: &ModelConfig) -> String {
        match self {
            Self::Embedding => "model.embed_tokens.weight".to_owned(),
            Self::Norm(layer, norm) => {
                format!("model.layers.{layer}.{}.weight", norm.hf_name(config))
            }
            Self::Site(layer, site) => format!("model.layers.{layer}.{}.weight", site.peft_name()),
            Self::Bias(layer, site) => format!("model.layers.{layer}.{}.bias", site.peft_name()),
            Self::OutputNorm => "model.norm.weight".to_owned(),
            Self::Head => "lm_head.weight".to_owned(),
        }
    }
}

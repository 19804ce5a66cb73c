//! A model in its file: where each weight lies, checked once.
//!
//! Weights are handed out as packed bytes of the memory map; unpacking them is the kernels' work.

use std::ops::Range;
use std::path::Path;

use thiserror::Error;

use crate::chat::ChatTemplate;
use crate::config::{ConfigError, LlamaConfig};
use crate::gguf::{Gguf, GgufError, TensorKind};
use crate::map::{MapError, Mapped};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Why a model could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// It is no sound GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Its shape is not supported.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its tokenizer is not supported.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A weight is not there.
    #[error("use the model: tensor {name:?} is missing; the file is incomplete, download it again")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A weight has another shape than the architecture needs.
    #[error(
        "use the model: tensor {name:?} is {found:?} where {wanted:?} is needed; the file is damaged or for another program"
    )]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its shape, fastest dimension first.
        found: Vec<u64>,
        /// The shape needed.
        wanted: Vec<u64>,
    },
    /// A vector of weights is packed in blocks.
    #[error("use the model: tensor {name:?} is {kind} where F32 is needed; convert the file with a current llama.cpp", kind = kind.name())]
    TensorType {
        /// The tensor.
        name: String,
        /// Its kind.
        kind: TensorKind,
    },
    /// The tokenizer has another number of tokens than the model.
    #[error(
        "use the model: it has {rows} rows of embeddings and {tokens} tokens; the file is damaged"
    )]
    Vocabulary {
        /// Rows.
        rows: usize,
        /// Tokens.
        tokens: usize,
    },
    /// A tensor that the architecture does not have.
    #[error(
        "use the model: tensor {name:?} is not known for this architecture; use a plain model of the Llama family"
    )]
    UnknownTensor {
        /// The tensor.
        name: String,
    },
}

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

    /// Rows (outputs) and columns (inputs) of the matrix at this site.
    #[must_use]
    pub const fn shape(self, config: &LlamaConfig) -> (usize, usize) {
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
    const fn gguf_name(self) -> &'static str {
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

/// Which of a layer's two normalisations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NormSite {
    /// Before attention.
    Attention,
    /// Before the feed-forward layer.
    FeedForward,
}

/// A weight of a model. Layers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Token embeddings, `[vocab, hidden]`.
    Embedding,
    /// A normalisation of a layer, `[1, hidden]`, F32.
    Norm(usize, NormSite),
    /// A matrix of a layer.
    Site(usize, Site),
    /// A bias of a layer, `[1, rows of the site]`, F32; only query, key and value, and only where
    /// [`LlamaConfig::attention_bias`] says so.
    Bias(usize, Site),
    /// The last normalisation, `[1, hidden]`, F32.
    OutputNorm,
    /// From hidden state to logits, `[vocab, hidden]`; the embeddings where the file ties them.
    Head,
}

/// A weight's packed numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor<'a> {
    /// How they are packed.
    pub kind: TensorKind,
    /// Rows: outputs of a matrix, 1 for a vector.
    pub rows: usize,
    /// Columns: inputs of a matrix, fastest in memory.
    pub cols: usize,
    /// `rows * cols` numbers, row by row.
    pub bytes: &'a [u8],
}

#[derive(Clone, Debug)]
struct Slot {
    kind: TensorKind,
    rows: usize,
    cols: usize,
    range: Range<usize>,
}

#[derive(Debug)]
struct Layer {
    norms: [Slot; 2],
    sites: [Slot; 7],
    biases: Option<[Slot; 3]>,
}

/// A model: its weights in a mapped file, its shape, its tokenizer and its chat template.
#[derive(Debug)]
pub struct Model {
    map: Mapped,
    config: LlamaConfig,
    tokenizer: Tokenizer,
    chat_template: ChatTemplate,
    embedding: Slot,
    layers: Vec<Layer>,
    output_norm: Slot,
    head: Option<Slot>,
}

impl Model {
    /// Opens a GGUF file: maps it, reads its header, and checks that all weights of the
    /// architecture are there with the right shapes. The weights themselves are not read.
    ///
    /// # Errors
    /// [`ModelError`], which says what is wrong and what to do.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_mapped(Mapped::open(path)?)
    }

    /// The same from bytes that are mapped or in memory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_mapped(map: Mapped) -> Result<Self, ModelError> {
        let gguf = Gguf::parse(&map)?;
        let config = LlamaConfig::from_gguf(&gguf, &map)?;
        let tensors = Tensors { gguf: &gguf, config: &config };
        let embedding = tensors.matrix("token_embd.weight", config.vocab, config.hidden)?;
        let layers: Result<Vec<Layer>, ModelError> =
            (0..config.layers).map(|layer| tensors.layer(layer)).collect();
        let layers = layers?;
        let output_norm = tensors.vector("output_norm.weight", config.hidden)?;
        let head = match gguf.tensor("output.weight") {
            Some(_) => Some(tensors.matrix("output.weight", config.vocab, config.hidden)?),
            None => None,
        };
        tensors.refuse_others()?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        if tokenizer.vocab_len() != config.vocab {
            let (rows, tokens) = (config.vocab, tokenizer.vocab_len());
            return Err(ModelError::Vocabulary { rows, tokens });
        }
        let chat_template = ChatTemplate::from_gguf(&gguf);
        Ok(Self { map, config, tokenizer, chat_template, embedding, layers, output_norm, head })
    }

    /// The shape.
    #[must_use]
    pub const fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The tokenizer.
    #[must_use]
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template; a model without one says so when it is to render.
    #[must_use]
    pub const fn chat_template(&self) -> &ChatTemplate {
        &self.chat_template
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.map.len()
    }

    /// Whether the head is the embedding.
    #[must_use]
    pub const fn is_tied(&self) -> bool {
        self.head.is_none()
    }

    /// A weight. What the model does not have (a layer past the last, a bias where there is none)
    /// has no rows and no bytes.
    #[must_use]
    pub fn tensor(&self, weight: Weight) -> Tensor<'_> {
        let absent = Tensor { kind: TensorKind::F32, rows: 0, cols: 0, bytes: &[] };
        let Some(Slot { kind, rows, cols, range }) = self.slot(weight) else { return absent };
        match self.map.get(range.clone()) {
            Some(bytes) => Tensor { kind: *kind, rows: *rows, cols: *cols, bytes },
            None => absent,
        }
    }

    fn slot(&self, weight: Weight) -> Option<&Slot> {
        match weight {
            Weight::Embedding => Some(&self.embedding),
            Weight::OutputNorm => Some(&self.output_norm),
            Weight::Head => Some(self.head.as_ref().unwrap_or(&self.embedding)),
            Weight::Norm(layer, site) => self.layers.get(layer)?.norms.get(site as usize),
            Weight::Site(layer, site) => self.layers.get(layer)?.sites.get(site as usize),
            Weight::Bias(layer, site) => {
                self.layers.get(layer)?.biases.as_ref()?.get(site as usize)
            }
        }
    }
}

/// Finds weights in a file's header.
struct Tensors<'a> {
    gguf: &'a Gguf,
    config: &'a LlamaConfig,
}

impl Tensors<'_> {
    fn slot(&self, name: &str, wanted: &[usize]) -> Result<Slot, ModelError> {
        let Some(info) = self.gguf.tensor(name) else {
            return Err(ModelError::MissingTensor { name: name.to_owned() });
        };
        let wanted: Vec<u64> = wanted.iter().map(|n| *n as u64).collect();
        if info.shape != wanted {
            let (name, found) = (name.to_owned(), info.shape.clone());
            return Err(ModelError::TensorShape { name, found, wanted });
        }
        let size = |index: usize| info.shape.get(index).map_or(1, |n| *n as usize);
        Ok(Slot { kind: info.kind, rows: size(1), cols: size(0), range: info.range.clone() })
    }

    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Slot, ModelError> {
        self.slot(name, &[cols, rows])
    }

    fn vector(&self, name: &str, length: usize) -> Result<Slot, ModelError> {
        let slot = self.slot(name, &[length])?;
        if slot.kind != TensorKind::F32 {
            return Err(ModelError::TensorType { name: name.to_owned(), kind: slot.kind });
        }
        Ok(slot)
    }

    fn layer(&self, layer: usize) -> Result<Layer, ModelError> {
        let hidden = self.config.hidden;
        let norm = |name: &str| self.vector(&format!("blk.{layer}.{name}.weight"), hidden);
        let site = |site: Site| {
            let (rows, cols) = site.shape(self.config);
            self.matrix(&format!("blk.{layer}.{}.weight", site.gguf_name()), rows, cols)
        };
        let bias = |site: Site| {
            let (rows, _) = site.shape(self.config);
            self.vector(&format!("blk.{layer}.{}.bias", site.gguf_name()), rows)
        };
        let biases = match self.config.attention_bias {
            true => Some([bias(Site::Query)?, bias(Site::Key)?, bias(Site::Value)?]),
            false => None,
        };
        Ok(Layer {
            norms: [norm("attn_norm")?, norm("ffn_norm")?],
            sites: [
                site(Site::Query)?,
                site(Site::Key)?,
                site(Site::Value)?,
                site(Site::Output)?,
                site(Site::Gate)?,
                site(Site::Up)?,
                site(Site::Down)?,
            ],
            biases,
        })
    }

    /// A tensor that would be left out of the computation means that the result would be wrong.
    fn refuse_others(&self) -> Result<(), ModelError> {
        for (name, _) in self.gguf.tensors() {
            if !self.knows(name) {
                let name = name.chars().take(128).collect();
                return Err(ModelError::UnknownTensor { name });
            }
        }
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        if matches!(
            name,
            "token_embd.weight" | "output_norm.weight" | "output.weight" | "rope_freqs.weight"
        ) {
            return true;
        }
        let Some((layer, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'))
        else {
            return false;
        };
        if !layer.parse::<usize>().is_ok_and(|layer| layer < self.config.layers) {
            return false;
        }
        match rest.rsplit_once('.') {
            // Written by converters of old, computed from the base and not needed.
            Some(("attn_rot_embd", "weight")) => true,
            Some(("attn_norm" | "ffn_norm", kind)) => kind == "weight",
            Some((site, "weight")) => Site::ALL.iter().any(|known| known.gguf_name() == site),
            Some(("attn_q" | "attn_k" | "attn_v", "bias")) => self.config.attention_bias,
            _ => false,
        }
    }
}

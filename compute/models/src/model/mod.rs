//! A model on disk: where each weight lies, checked once.
//!
//! Weights are handed out as packed bytes of the memory map (or of what was packed at load);
//! unpacking them is the kernels' work.

mod error;
mod gguf;
mod weight;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::gguf::TensorKind;
use crate::hf::{self, Precision};
use crate::map::Mapped;
use crate::tokenizer::Tokenizer;

pub use error::ModelError;
pub use weight::{NormSite, Site, Weight};

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

/// Where a weight lies.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) kind: TensorKind,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Which of [`Model`]'s sources.
    pub(crate) source: usize,
    /// Its bytes there.
    pub(crate) range: Range<usize>,
}

/// A model: its weights in mapped files, its shape, its tokenizer and its chat template.
#[derive(Debug)]
pub struct Model {
    pub(crate) sources: Vec<Mapped>,
    pub(crate) slots: BTreeMap<Weight, Slot>,
    pub(crate) config: ModelConfig,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) chat_template: ChatTemplate,
}

impl Model {
    /// Opens a GGUF file, or a folder in the form of the transformers library (with its weights
    /// packed to 8 bits; see [`Self::open_as`]): maps it, reads its header, and checks that all
    /// weights of the architecture are there with the right shapes. The weights of a GGUF file are
    /// not read.
    ///
    /// # Errors
    /// [`ModelError`], which says what is wrong and what to do.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::open_as(path, Precision::Q8_0)
    }

    /// The same, with the weights of a folder packed as `precision` says; a GGUF file keeps its
    /// own.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open_as(path: &Path, precision: Precision) -> Result<Self, ModelError> {
        if path.is_dir() {
            return hf::open(path, precision);
        }
        Self::from_mapped(Mapped::open(path)?)
    }

    /// Opens a folder in the form of the transformers library without its weights: the shape, the
    /// tokenizer and the chat template of a model whose weights are held elsewhere, as those of an
    /// exported graph are. It has no tensors.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open_without_weights(folder: &Path) -> Result<Self, ModelError> {
        hf::open_bare(folder)
    }

    /// Opens a GGUF file from bytes that are mapped or in memory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_mapped(map: Mapped) -> Result<Self, ModelError> {
        gguf::model(map)
    }

    /// The shape.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
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

    /// Bytes of its files, and of what was packed at load.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.sources.iter().map(|source| source.len()).sum()
    }

    /// Lets go of the pages of the mapped files that were read so far, for backends that keep a
    /// copy in another form; what is used again comes from the files again.
    pub fn release_pages(&self) {
        for source in &self.sources {
            source.release();
        }
    }

    /// Whether the head is the embedding.
    #[must_use]
    pub fn is_tied(&self) -> bool {
        !self.slots.contains_key(&Weight::Head)
    }

    /// A weight. What the model does not have (a layer past the last, a bias where there is none)
    /// has no rows and no bytes.
    #[must_use]
    pub fn tensor(&self, weight: Weight) -> Tensor<'_> {
        let absent = Tensor { kind: TensorKind::F32, rows: 0, cols: 0, bytes: &[] };
        let slot = self.slots.get(&weight).or_else(|| match weight {
            Weight::Head => self.slots.get(&Weight::Embedding),
            _ => None,
        });
        let Some(Slot { kind, rows, cols, source, range }) = slot else { return absent };
        match self.sources.get(*source).and_then(|source| source.get(range.clone())) {
            Some(bytes) => Tensor { kind: *kind, rows: *rows, cols: *cols, bytes },
            None => absent,
        }
    }
}

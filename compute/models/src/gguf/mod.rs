//! GGUF, the container of llama.cpp's models: metadata and tensors in one file.
//!
//! The format is described in `docs/gguf.md` of the ggml project. Every count, length, offset and
//! type is checked against the file's length before anything is allocated for it. The tensors'
//! bytes are located, not read: a truncated file is noticed without touching its data.

mod cursor;
mod error;
mod kind;
mod read;
mod value;
mod writer;

use std::collections::BTreeMap;
use std::ops::Range;

pub use error::GgufError;
pub use kind::TensorKind;
pub use value::{Texts, Value};
pub use writer::GgufWriter;

/// A tensor's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Dimensions in ggml's order: fastest first, so a matrix is `[cols, rows]`.
    pub shape: Vec<u64>,
    /// How its numbers are packed.
    pub kind: TensorKind,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

/// What a GGUF file says of itself. The tensors' bytes stay in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    version: u32,
    entries: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    /// Reads the header of a whole file (versions 2 and 3, little endian), and checks that every
    /// tensor lies within it.
    ///
    /// # Errors
    /// [`GgufError`], which names the key or tensor and what to do.
    pub fn parse(bytes: &[u8]) -> Result<Self, GgufError> {
        read::parse(bytes)
    }

    /// The version of the container: 2 or 3.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// All metadata, by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// A tensor by name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// A value by key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        let wrong =
            || GgufError::WrongType { key: key.to_owned(), found: value.type_name(), wanted };
        read(value).map(Some).ok_or_else(wrong)
    }

    /// A text.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] if the key has another value.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer that is not negative.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] if the key has another value.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "a whole number", |value| match value {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A float, rounded to the nearest of 32 bits.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] if the key has another value.
    pub fn float(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.typed(key, "a float", |value| match value {
            Value::Float(number) => Some(*number as f32),
            _ => None,
        })
    }

    /// A flag.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] if the key has another value.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a flag", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] if the key has another value.
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>, GgufError> {
        self.typed(key, "a list of texts", |value| match value {
            Value::Texts(texts) => Some(texts),
            _ => None,
        })
    }

    /// A list of integers.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] if the key has another value.
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>, GgufError> {
        self.typed(key, "a list of integers", |value| match value {
            Value::Integers(numbers) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// A list of floats.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] if the key has another value.
    pub fn floats(&self, key: &str) -> Result<Option<&[f64]>, GgufError> {
        self.typed(key, "a list of floats", |value| match value {
            Value::Floats(numbers) => Some(numbers.as_slice()),
            _ => None,
        })
    }
}

/// What a key must have.
///
/// # Errors
/// [`GgufError::MissingKey`].
pub(crate) fn required<T>(key: &str, found: Option<T>) -> Result<T, GgufError> {
    found.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
}

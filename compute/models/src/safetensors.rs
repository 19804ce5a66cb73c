//! safetensors, the container of adapters: a JSON header and the tensors' bytes.
//!
//! The format is described in the README of huggingface/safetensors: eight bytes with the header's
//! length, the header, the data without gaps. Read here by hand, because every doubt must end in
//! an error that names the tensor: names that appear twice, gaps, overlaps, sizes that do not fit.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::limits::{SAFETENSORS_HEADER_BYTES_MAX, SAFETENSORS_TENSORS_MAX};

/// The key of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// Why a safetensors file was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file ends before its header or its data does.
    #[error(
        "read the adapter: the file is truncated, {missing} bytes are missing; download it again"
    )]
    Truncated {
        /// Bytes missing.
        missing: u64,
    },
    /// The header is longer than any adapter needs, or this is another format.
    #[error("read the adapter: its header says to have {found} bytes, {max} at most are accepted; this may be no safetensors file", max = SAFETENSORS_HEADER_BYTES_MAX)]
    HeaderLength {
        /// Its length.
        found: u64,
    },
    /// The header is no JSON of the right form.
    #[error("read the adapter: its header cannot be read ({reason}); download it again")]
    Header {
        /// What is wrong.
        reason: String,
    },
    /// A tensor of a type that adapters do not have.
    #[error(
        "read the adapter: tensor {tensor:?} is {kind:?} where F32, F16 or BF16 is needed; save the adapter in one of these"
    )]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        kind: String,
    },
    /// A tensor whose shape and bytes differ, or that lies outside of the file.
    #[error(
        "read the adapter: tensor {tensor:?} of shape {shape:?} lies at {start}..{end}, which does not fit; download it again"
    )]
    Layout {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Where its bytes begin.
        start: u64,
        /// Where they end.
        end: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("read the adapter: {bytes} bytes at {at} belong to no tensor; download it again")]
    Unclaimed {
        /// How many, or 0 where tensors overlap.
        bytes: u64,
        /// Where.
        at: u64,
    },
}

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatKind {
    /// 32-bit floats.
    F32,
    /// 16-bit floats (IEEE 754 half precision).
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
}

impl FloatKind {
    const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::Bf16].into_iter().find(|kind| kind.name() == name)
    }
}

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor<'a> {
    /// How its numbers are stored.
    pub kind: FloatKind,
    /// Its dimensions, slowest first (the order of PyTorch).
    pub shape: Vec<u64>,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl StoredTensor<'_> {
    /// Its numbers.
    #[must_use]
    pub fn floats(&self) -> Vec<f32> {
        match self.kind {
            FloatKind::F32 => {
                self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            FloatKind::F16 => {
                let halves = self.bytes.as_chunks().0.iter();
                halves.map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect()
            }
            FloatKind::Bf16 => {
                let halves = self.bytes.as_chunks().0.iter();
                halves.map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32()).collect()
            }
        }
    }
}

/// A file's tensors and its notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Safetensors<'a> {
    /// The tensors by name.
    pub tensors: BTreeMap<String, StoredTensor<'a>>,
    /// `__metadata__`: texts by key.
    pub metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header as it stands, with an error instead of a silent choice where a name appears twice.
struct Header(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if entries.len() > SAFETENSORS_TENSORS_MAX {
                        let most = SAFETENSORS_TENSORS_MAX;
                        return Err(serde::de::Error::custom(format!("over {most} tensors")));
                    }
                    if entries.contains_key(&name) {
                        let wrong = format!("the name {name:?} appears twice");
                        return Err(serde::de::Error::custom(wrong));
                    }
                    entries.insert(name, value);
                }
                Ok(Header(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

impl<'a> Safetensors<'a> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`SafetensorsError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SafetensorsError> {
        let (header, data) = split(bytes)?;
        let wrong = |e: serde_json::Error| SafetensorsError::Header { reason: e.to_string() };
        let Header(mut entries) = serde_json::from_slice(header).map_err(wrong)?;
        let metadata = match entries.remove(METADATA) {
            Some(notes) => serde_json::from_value(notes).map_err(wrong)?,
            None => BTreeMap::new(),
        };
        let mut tensors = BTreeMap::new();
        let mut ranges = Vec::new();
        for (name, entry) in entries {
            let description: Description = serde_json::from_value(entry).map_err(|e| {
                SafetensorsError::Header { reason: format!("tensor {name:?}: {e}") }
            })?;
            let tensor = stored(&name, description, data, &mut ranges)?;
            tensors.insert(name, tensor);
        }
        ranges.sort_unstable();
        let mut at = 0;
        for (start, end) in ranges {
            if start != at {
                return Err(SafetensorsError::Unclaimed { bytes: start.saturating_sub(at), at });
            }
            at = end;
        }
        match (data.len() as u64).checked_sub(at) {
            Some(0) => Ok(Self { tensors, metadata }),
            left => Err(SafetensorsError::Unclaimed { bytes: left.unwrap_or(0), at }),
        }
    }

    /// Writes a file; tensors and notes in the order of their names.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        if !self.metadata.is_empty() {
            header.insert(METADATA.to_owned(), json!(self.metadata));
        }
        let mut at = 0;
        for (name, tensor) in &self.tensors {
            let end = at + tensor.bytes.len();
            let description = json!({
                "dtype": tensor.kind.name(), "shape": tensor.shape, "data_offsets": [at, end],
            });
            header.insert(name.clone(), description);
            at = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // The data begins at a multiple of eight, as the format's own writer does it.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + header.len() + at);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        for tensor in self.tensors.values() {
            bytes.extend(tensor.bytes);
        }
        bytes
    }
}

fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), SafetensorsError> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(SafetensorsError::Truncated { missing: 8 - bytes.len() as u64 });
    };
    let found = u64::from_le_bytes(*length);
    if found > SAFETENSORS_HEADER_BYTES_MAX as u64 {
        return Err(SafetensorsError::HeaderLength { found });
    }
    let missing =
        || SafetensorsError::Truncated { missing: found.saturating_sub(rest.len() as u64) };
    rest.split_at_checked(found as usize).ok_or_else(missing)
}

fn stored<'a>(
    name: &str,
    description: Description,
    data: &'a [u8],
    ranges: &mut Vec<(u64, u64)>,
) -> Result<StoredTensor<'a>, SafetensorsError> {
    let Description { dtype, shape, data_offsets: [start, end] } = description;
    let Some(kind) = FloatKind::named(&dtype) else {
        let kind = dtype.chars().take(32).collect();
        return Err(SafetensorsError::Type { tensor: name.to_owned(), kind });
    };
    let wanted = shape.iter().try_fold(kind.bytes(), |bytes, n| bytes.checked_mul(*n));
    let is_whole = wanted.is_some() && wanted == end.checked_sub(start) && start < end;
    if !is_whole || shape.len() > 8 {
        return Err(SafetensorsError::Layout { tensor: name.to_owned(), shape, start, end });
    }
    if end > data.len() as u64 {
        return Err(SafetensorsError::Truncated { missing: end - data.len() as u64 });
    }
    ranges.push((start, end));
    // Within the data, so within the address space.
    let bytes = data.get(start as usize..end as usize).unwrap_or_default();
    Ok(StoredTensor { kind, shape, bytes })
}

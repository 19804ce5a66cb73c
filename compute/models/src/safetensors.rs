//! safetensors, the container of adapters and of models of the transformers library: a JSON header
//! and the tensors' bytes.
//!
//! The format is described in the README of huggingface/safetensors: eight bytes with the header's
//! length, the header, the data without gaps. Read here by hand, because every doubt must end in
//! an error that names the tensor: names that appear twice, gaps, overlaps, sizes that do not fit.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::floats::widened;
use crate::limits::{SAFETENSORS_HEADER_BYTES_MAX, SAFETENSORS_TENSORS_MAX};

/// The key of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// Why a safetensors file was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file ends before its header or its data does.
    #[error(
        "read the safetensors file: it is truncated, {missing} bytes are missing; download it again"
    )]
    Truncated {
        /// Bytes missing.
        missing: u64,
    },
    /// The header is longer than any model needs, or this is another format.
    #[error("read the safetensors file: its header says to have {found} bytes, {max} at most are accepted; this may be no safetensors file", max = SAFETENSORS_HEADER_BYTES_MAX)]
    HeaderLength {
        /// Its length.
        found: u64,
    },
    /// The header is no JSON of the right form.
    #[error("read the safetensors file: its header cannot be read ({reason}); download it again")]
    Header {
        /// What is wrong.
        reason: String,
    },
    /// A tensor of a type that is not supported.
    #[error(
        "read the safetensors file: tensor {tensor:?} is {kind:?} where {wanted} is needed; save it in one of these"
    )]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        kind: String,
        /// Those that are supported there.
        wanted: &'static str,
    },
    /// A tensor whose shape and bytes differ, or that lies outside of the file.
    #[error(
        "read the safetensors file: tensor {tensor:?} of shape {shape:?} lies at {start}..{end}, which does not fit; download it again"
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
    #[error(
        "read the safetensors file: {bytes} bytes at {at} belong to no tensor; download it again"
    )]
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
    /// 8-bit floats with 4 bits of exponent; only in models, never in adapters.
    F8E4m3,
}

impl FloatKind {
    /// Bytes of one number.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F8E4m3 => 1,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4m3 => "F8_E4M3",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let all = [Self::F32, Self::F16, Self::Bf16, Self::F8E4m3];
        all.into_iter().find(|kind| kind.name() == name)
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
        widened(self.kind, self.bytes)
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
#[derive(Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Description>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let wrong = |what: String| serde::de::Error::custom(what);
                let (mut header, mut has_notes) = (Header::default(), false);
                while let Some(name) = map.next_key::<String>()? {
                    let most = SAFETENSORS_TENSORS_MAX;
                    if header.tensors.len() > most {
                        return Err(wrong(format!("over {most} tensors")));
                    }
                    let is_new = if name == METADATA {
                        header.metadata = map.next_value()?;
                        !std::mem::replace(&mut has_notes, true)
                    } else {
                        let described = map.next_value();
                        let described =
                            described.map_err(|e| wrong(format!("tensor {name:?}: {e}")))?;
                        header.tensors.insert(name.clone(), described).is_none()
                    };
                    if !is_new {
                        return Err(wrong(format!("the name {name:?} appears twice")));
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) kind: FloatKind,
    /// Slowest dimension first.
    pub(crate) shape: Vec<u64>,
    /// Its bytes, counted from the start of the file.
    pub(crate) range: Range<usize>,
}

/// Where all tensors of a file lie, and its notes.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) tensors: BTreeMap<String, Place>,
    metadata: BTreeMap<String, String>,
}

impl Places {
    /// Finds the tensors of a whole file; `allows` says which types may be there, in `wanted`'s
    /// words. Types that it does not allow are refused only where `refuses` says so of the
    /// tensor's name, and passed over elsewhere.
    pub(crate) fn find(
        bytes: &[u8],
        allows: fn(FloatKind) -> bool,
        wanted: &'static str,
        refuses: impl Fn(&str) -> bool,
    ) -> Result<Self, SafetensorsError> {
        let (header, data) = split(bytes)?;
        let start = bytes.len() - data.len();
        let Header { metadata, tensors: described } = serde_json::from_slice(header)
            .map_err(|e| SafetensorsError::Header { reason: e.to_string() })?;
        let mut tensors = BTreeMap::new();
        let mut ranges = Vec::with_capacity(described.len());
        for (name, description) in described {
            let kind = FloatKind::named(&description.dtype).filter(|kind| allows(*kind));
            let [from, to] = description.data_offsets;
            let Some(kind) = kind else {
                if refuses(&name) {
                    let kind = description.dtype.chars().take(32).collect();
                    return Err(SafetensorsError::Type { tensor: name, kind, wanted });
                }
                ranges.push((from, to));
                continue;
            };
            check(&name, kind, &description, data.len() as u64)?;
            ranges.push((from, to));
            // Within the data, so within the address space.
            let range = start + from as usize..start + to as usize;
            tensors.insert(name, Place { kind, shape: description.shape, range });
        }
        ranges.sort_unstable();
        let mut at = 0;
        for (from, to) in ranges {
            if from != at || to < from {
                return Err(SafetensorsError::Unclaimed { bytes: from.saturating_sub(at), at });
            }
            at = to;
        }
        match (data.len() as u64).checked_sub(at) {
            Some(0) => Ok(Self { tensors, metadata }),
            left => Err(SafetensorsError::Unclaimed { bytes: left.unwrap_or(0), at }),
        }
    }
}

impl<'a> Safetensors<'a> {
    /// Reads a whole file of tensors with 16 or 32 bits.
    ///
    /// # Errors
    /// [`SafetensorsError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SafetensorsError> {
        let allows = |kind| kind != FloatKind::F8E4m3;
        let Places { tensors, metadata } =
            Places::find(bytes, allows, "F32, F16 or BF16", |_| true)?;
        let stored = |(name, Place { kind, shape, range }): (String, Place)| {
            let bytes = bytes.get(range).unwrap_or_default();
            (name, StoredTensor { kind, shape, bytes })
        };
        Ok(Self { tensors: tensors.into_iter().map(stored).collect(), metadata })
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

fn check(
    name: &str,
    kind: FloatKind,
    description: &Description,
    data: u64,
) -> Result<(), SafetensorsError> {
    let Description { shape, data_offsets: [start, end], .. } = description;
    let wanted = shape.iter().try_fold(kind.bytes() as u64, |bytes, n| bytes.checked_mul(*n));
    let is_whole = wanted.is_some() && wanted == end.checked_sub(*start) && start < end;
    if !is_whole || shape.len() > 8 {
        let (tensor, shape) = (name.to_owned(), shape.clone());
        return Err(SafetensorsError::Layout { tensor, shape, start: *start, end: *end });
    }
    match end.checked_sub(data) {
        Some(missing) if missing > 0 => Err(SafetensorsError::Truncated { missing }),
        _ => Ok(()),
    }
}

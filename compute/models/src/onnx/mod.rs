//! Files of the Open Neural Network Exchange (`.onnx`): what they want, give and refer to.
//!
//! A decoder that somebody exported is run by ONNX Runtime, which parses the file itself. What is
//! read here, with every bound checked, is what must be known before: the inputs and outputs, and
//! whether weights that lie in other files stay within the model's folder and within those files.
//! Nothing is computed, and no weight is copied.

mod error;
mod read;
mod wire;

use std::collections::BTreeMap;
use std::path::Path;

use crate::limits::ONNX_BYTES_MAX;
use crate::map::Mapped;

pub use error::OnnxFileError;

/// The kind of a tensor's elements, as the format numbers it (`TensorProto.DataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnnxElement(pub u64);

impl OnnxElement {
    /// 32-bit floats.
    pub const F32: Self = Self(1);
    /// 32-bit integers.
    pub const I32: Self = Self(6);
    /// 64-bit integers.
    pub const I64: Self = Self(7);
    /// Truths.
    pub const BOOL: Self = Self(9);
    /// 16-bit floats.
    pub const F16: Self = Self(10);

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::BOOL => "bool",
            Self::F16 => "float16",
            Self(16) => "bfloat16",
            _ => "another type",
        }
    }
}

/// An input or an output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxValue {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub element: OnnxElement,
    /// Its dimensions; those that are open have no number.
    pub dims: Vec<Option<u64>>,
}

/// What a file wants, gives and refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnnxFile {
    /// What must be given, in order: inputs that the file has no value for.
    pub inputs: Vec<OnnxValue>,
    /// What it gives, in order.
    pub outputs: Vec<OnnxValue>,
    /// Domains of operators with their versions; the standard's own is the empty text.
    pub domains: BTreeMap<String, u64>,
    /// Files beside it that hold weights, with the bytes that each must have at least.
    pub external: BTreeMap<String, u64>,
}

impl OnnxFile {
    /// Reads a file, and checks that the files beside it that it refers to are there and long
    /// enough.
    ///
    /// # Errors
    /// [`OnnxFileError`], which says what is wrong and what to do.
    pub fn open(path: &Path) -> Result<Self, OnnxFileError> {
        let map = Mapped::open(path).map_err(|error| OnnxFileError::Open {
            file: path.display().to_string(),
            reason: error.to_string(),
        })?;
        let own = Self::read(&map)?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for (file, bytes) in &own.external {
            let found = std::fs::metadata(folder.join(file)).map_err(|error| {
                OnnxFileError::Open { file: file.clone(), reason: error.to_string() }
            })?;
            if !found.is_file() || found.len() < *bytes {
                let (file, found, wanted) = (file.clone(), found.len(), *bytes);
                return Err(OnnxFileError::Outside { file, found, wanted });
            }
        }
        Ok(own)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// [`OnnxFileError`].
    pub fn read(bytes: &[u8]) -> Result<Self, OnnxFileError> {
        if bytes.len() > ONNX_BYTES_MAX {
            return Err(OnnxFileError::TooLong { bytes: bytes.len(), max: ONNX_BYTES_MAX });
        }
        read::file(bytes)
    }
}

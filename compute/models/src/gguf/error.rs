//! Why a GGUF file was refused.

use thiserror::Error;

/// Why a GGUF file was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The first four bytes are not `GGUF`.
    #[error(
        "read the model: the file does not begin with GGUF, so it is no GGUF file (or an error page of a server); download it again"
    )]
    Magic,
    /// Another version, or the other byte order.
    #[error(
        "read the model: GGUF version {0} is not supported, versions 2 and 3 in little-endian order are; convert the file with a current llama.cpp"
    )]
    Version(u32),
    /// The file ends before something that it announces.
    #[error("read the model: the file is truncated in {place}: {missing} bytes are missing{}; download it again", if *.at_least { " at least" } else { "" })]
    Truncated {
        /// In which key, tensor or part.
        place: String,
        /// Bytes missing for what is known to follow.
        missing: u64,
        /// Whether more may be missing, because the rest of the header was not seen.
        at_least: bool,
    },
    /// A count or length above its bound.
    #[error("read the model: {place} says {found}, at most {max} are accepted; download it again")]
    TooMany {
        /// What is counted.
        place: String,
        /// The count.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// Text that is not UTF-8.
    #[error("read the model: {place} is not UTF-8; download it again")]
    NotUtf8 {
        /// Where.
        place: String,
    },
    /// The same key or tensor name twice.
    #[error("read the model: {place} appears twice; download it again")]
    Duplicate {
        /// The key or name.
        place: String,
    },
    /// A type of value that the format does not have, or nested lists.
    #[error(
        "read the model: key {key:?} has a value of type {code}, which is not supported; download it again"
    )]
    ValueType {
        /// The key.
        key: String,
        /// The type's number.
        code: u32,
    },
    /// A value that its type does not allow.
    #[error(
        "read the model: key {key:?} has the value {found}, which its type does not allow; download it again"
    )]
    BadValue {
        /// The key.
        key: String,
        /// The value.
        found: u64,
    },
    /// A tensor in a format that this engine does not compute with.
    #[error(
        "read the model: tensor {tensor:?} is of type {code} ({name}), which is not supported; use a file with F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K"
    )]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The type's number.
        code: u32,
        /// The type's name in ggml.
        name: &'static str,
    },
    /// Dimensions that cannot be.
    #[error(
        "read the model: tensor {tensor:?} has the impossible shape {shape:?}; download it again"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its dimensions, fastest first.
        shape: Vec<u64>,
    },
    /// An alignment that is no power of two.
    #[error(
        "read the model: the alignment {0} is no power of two between 8 and 65,536; download it again"
    )]
    Alignment(u64),
    /// Tensor data that does not begin at a multiple of the alignment.
    #[error(
        "read the model: tensor {tensor:?} begins at {offset}, which is no multiple of the alignment; download it again"
    )]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its offset within the tensor data.
        offset: u64,
    },
    /// Two tensors share bytes.
    #[error("read the model: tensors {first:?} and {second:?} share bytes; download it again")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other.
        second: String,
    },
    /// A key that must be there is not.
    #[error(
        "read the model: key {key:?} is missing; this is no complete language model, use another file"
    )]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key has a value of another type than it must have.
    #[error("read the model: key {key:?} is {found} where {wanted} is needed; use another file")]
    WrongType {
        /// The key.
        key: String,
        /// What it is.
        found: &'static str,
        /// What is needed.
        wanted: &'static str,
    },
}

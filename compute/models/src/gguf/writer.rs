//! Writes GGUF files: for tests, for the seeds of the fuzzer, and for exports.

use super::TensorKind;
use super::read::{ALIGNMENT_DEFAULT, ALIGNMENT_KEY};

/// Builds a GGUF file (version 3) in the order of its calls. What it is told is not judged: a test
/// may write nonsense on purpose.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    entries: Vec<u8>,
    entry_count: u64,
    descriptions: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
    alignment: u64,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufWriter {
    /// An empty file with the usual alignment of 32 bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            entry_count: 0,
            descriptions: Vec::new(),
            tensor_count: 0,
            data: Vec::new(),
            alignment: ALIGNMENT_DEFAULT,
        }
    }

    /// Another alignment of the tensors; call it before the first of them.
    #[must_use]
    pub fn alignment(mut self, bytes: u32) -> Self {
        self.alignment = u64::from(bytes).max(1);
        self.u32(ALIGNMENT_KEY, bytes)
    }

    /// A key with a value of any type: its code and its bytes as they are to stand in the file.
    #[must_use]
    pub fn raw(mut self, key: &str, code: u32, value: &[u8]) -> Self {
        put_text(&mut self.entries, key);
        self.entries.extend(code.to_le_bytes());
        self.entries.extend(value);
        self.entry_count += 1;
        self
    }

    /// A key with an integer.
    #[must_use]
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    /// A key with a float.
    #[must_use]
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    /// A key with a flag.
    #[must_use]
    pub fn flag(self, key: &str, value: bool) -> Self {
        self.raw(key, 7, &[value.into()])
    }

    /// A key with a text.
    #[must_use]
    pub fn text(self, key: &str, value: &str) -> Self {
        let mut bytes = Vec::new();
        put_text(&mut bytes, value);
        self.raw(key, 8, &bytes)
    }

    /// A key with a list of texts.
    #[must_use]
    pub fn texts<'a>(self, key: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut bytes, mut count) = (Vec::new(), 0u64);
        for value in values {
            put_text(&mut bytes, value);
            count += 1;
        }
        self.list(key, 8, count, &bytes)
    }

    /// A key with a list of integers of 32 bits.
    #[must_use]
    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.list(key, 5, values.len() as u64, &bytes)
    }

    /// A key with a list of floats of 32 bits.
    #[must_use]
    pub fn f32s(self, key: &str, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.list(key, 6, values.len() as u64, &bytes)
    }

    fn list(self, key: &str, code: u32, count: u64, items: &[u8]) -> Self {
        let head = [&code.to_le_bytes()[..], &count.to_le_bytes()].concat();
        self.raw(key, 9, &[&head, items].concat())
    }

    /// A tensor; `shape` has the fastest dimension first.
    #[must_use]
    pub fn tensor(mut self, name: &str, shape: &[u64], kind: TensorKind, bytes: &[u8]) -> Self {
        put_text(&mut self.descriptions, name);
        self.descriptions.extend((shape.len() as u32).to_le_bytes());
        self.descriptions.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
        self.descriptions.extend(kind.code().to_le_bytes());
        self.descriptions.extend((self.data.len() as u64).to_le_bytes());
        self.tensor_count += 1;
        self.data.extend(bytes);
        pad(&mut self.data, self.alignment);
        self
    }

    /// A tensor of 32-bit floats.
    #[must_use]
    pub fn floats(self, name: &str, shape: &[u64], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, shape, TensorKind::F32, &bytes)
    }

    /// The file.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.entry_count.to_le_bytes());
        file.extend(self.entries);
        file.extend(self.descriptions);
        pad(&mut file, self.alignment);
        file.extend(self.data);
        file
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn pad(bytes: &mut Vec<u8>, alignment: u64) {
    let length = (bytes.len() as u64).next_multiple_of(alignment);
    bytes.resize(usize::try_from(length).unwrap_or(bytes.len()), 0);
}

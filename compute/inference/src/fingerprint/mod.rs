//! A compact record of what a model computed while it wrote an answer.
//!
//! Tokens alone say little about the numbers behind them: most of an answer would be the same
//! without a weak adapter, or from weights of fewer bits. A fingerprint holds, for each drawn
//! token, [`SKETCH`] signed sums of the hidden state that the token was drawn from; a verifier who
//! runs prompt and answer through the model in one prefill takes the same sums and compares.
//!
//! The idea of such a record, and its cost per token, are TOPLOC's (Ong et al. 2025, "TOPLOC: A
//! Locality Sensitive Hashing Scheme for Trustless Verifiable Inference"). TOPLOC keeps the largest
//! activations; this keeps random sums of all (a count sketch, Charikar, Chen and Farach-Colton
//! 2002), because they are linear: what an adapter adds to the hidden state has a sketch of its
//! own, so that *how much* of it is in a claimed answer can be estimated (see [`compare`]), far below
//! the noise that lies between two kinds of hardware. And no choice of indices can differ.
//!
//! A fingerprint shows which model read the text, not who wrote it: that is what checking each
//! token against the sampler is for ([`crate::verify`]).

pub mod compare;
mod sketch;

use thiserror::Error;

pub(crate) use sketch::{Sketch, sketch};

/// Numbers kept of each token.
pub const SKETCH: usize = 4;

/// Tokens of a chunk: they share a scale.
pub const CHUNK_TOKENS: usize = 32;

/// Largest magnitude of a code.
const CODE_MAX: f32 = 32_767.0;

/// Why bytes are no fingerprint.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FingerprintError {
    /// Another length than its tokens need.
    #[error("read a fingerprint: {found} bytes, {tokens} tokens need {needed}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Tokens that it should be of.
        tokens: usize,
        /// Bytes that they need.
        needed: usize,
    },
    /// A scale that no honest writer makes.
    #[error("read a fingerprint: the scale of chunk {chunk} is not a finite number from 0")]
    Scale {
        /// Which chunk, from 0.
        chunk: usize,
    },
}

/// The sketches of up to [`CHUNK_TOKENS`] tokens in a row, in 16 bits.
#[derive(Clone, Debug, PartialEq)]
struct Chunk {
    /// What a code of 1 stands for.
    scale: f32,
    /// [`SKETCH`] per token.
    codes: Vec<i16>,
}

/// The record of an answer's tokens: 8 bytes a token and 4 a chunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fingerprint {
    tokens: usize,
    chunks: Vec<Chunk>,
}

impl Fingerprint {
    /// Of sketches in the order of their tokens.
    pub(crate) fn new(sketches: &[Sketch]) -> Self {
        let chunks = sketches.chunks(CHUNK_TOKENS).map(Chunk::new).collect();
        Self { tokens: sketches.len(), chunks }
    }

    /// Tokens that it is of.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Bytes of a fingerprint of so many tokens.
    #[must_use]
    pub const fn bytes_of(tokens: usize) -> usize {
        tokens.div_ceil(CHUNK_TOKENS) * size_of::<f32>() + tokens * SKETCH * size_of::<i16>()
    }

    /// For each chunk its scale (`f32`), then its codes (`i16`), all little endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::bytes_of(self.tokens));
        for chunk in &self.chunks {
            bytes.extend(chunk.scale.to_le_bytes());
            bytes.extend(chunk.codes.iter().flat_map(|code| code.to_le_bytes()));
        }
        bytes
    }

    /// Reads what [`Fingerprint::to_bytes`] wrote of so many tokens.
    ///
    /// # Errors
    /// Another length, or a scale that is no size.
    pub fn from_bytes(bytes: &[u8], tokens: usize) -> Result<Self, FingerprintError> {
        let needed = Self::bytes_of(tokens);
        if bytes.len() != needed {
            return Err(FingerprintError::Length { found: bytes.len(), tokens, needed });
        }
        let whole = size_of::<f32>() + CHUNK_TOKENS * SKETCH * size_of::<i16>();
        let chunks = bytes
            .chunks(whole)
            .enumerate()
            .map(|(chunk, bytes)| Chunk::read(bytes).ok_or(FingerprintError::Scale { chunk }));
        Ok(Self { tokens, chunks: chunks.collect::<Result<_, _>>()? })
    }

    /// The numbers, [`SKETCH`] per token, chunk after chunk.
    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.chunks.iter().flat_map(|chunk| {
            chunk.codes.iter().map(|&code| f64::from(code) * f64::from(chunk.scale))
        })
    }
}

impl Chunk {
    fn new(sketches: &[Sketch]) -> Self {
        let largest = sketches.iter().flatten().fold(0.0f32, |top, value| top.max(value.abs()));
        // What is not finite has no place in an answer: its logits could not be drawn from.
        let scale = if largest.is_finite() { largest / CODE_MAX } else { 0.0 };
        let code = |value: &f32| if scale > 0.0 { (value / scale).round() as i16 } else { 0 };
        Self { scale, codes: sketches.iter().flatten().map(code).collect() }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (scale, codes) = bytes.split_first_chunk()?;
        let scale = f32::from_le_bytes(*scale);
        let good = scale.is_finite() && scale >= 0.0;
        let codes = codes.as_chunks().0.iter().map(|code| i16::from_le_bytes(*code)).collect();
        good.then_some(Self { scale, codes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketches(tokens: usize) -> Vec<Sketch> {
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) * 0.3;
        (0..tokens).map(|t| core::array::from_fn(|i| value(t * SKETCH + i))).collect()
    }

    #[test]
    fn bytes_come_back_as_they_were_and_values_within_their_precision() {
        for tokens in [0, 1, 31, 32, 33, 100] {
            let sketches = sketches(tokens);
            let fingerprint = Fingerprint::new(&sketches);
            let bytes = fingerprint.to_bytes();
            assert_eq!(bytes.len(), Fingerprint::bytes_of(tokens));
            assert_eq!(Fingerprint::from_bytes(&bytes, tokens), Ok(fingerprint.clone()));
            for (value, exact) in fingerprint.values().zip(sketches.iter().flatten()) {
                assert!((value - f64::from(*exact)).abs() < 15.0 / 30_000.0);
            }
        }
        assert_eq!(Fingerprint::bytes_of(32), 260);
    }

    #[test]
    fn other_bytes_are_refused_by_name() {
        let bytes = Fingerprint::new(&sketches(40)).to_bytes();
        let wrong = Fingerprint::from_bytes(&bytes, 41).unwrap_err();
        assert_eq!(wrong.to_string(), "read a fingerprint: 328 bytes, 41 tokens need 336");
        for scale in [f32::NAN, f32::INFINITY, -1.0] {
            let mut bytes = bytes.clone();
            bytes[260..264].copy_from_slice(&scale.to_le_bytes());
            let found = Fingerprint::from_bytes(&bytes, 40);
            assert_eq!(found, Err(FingerprintError::Scale { chunk: 1 }));
        }
    }

    #[test]
    fn states_that_are_no_numbers_make_an_empty_record() {
        let fingerprint = Fingerprint::new(&[[f32::NAN, 1.0, f32::INFINITY, 0.0]]);
        assert!(fingerprint.values().all(|value| value == 0.0));
        let nothing = Fingerprint::new(&[[0.0; SKETCH]; 3]);
        assert!(nothing.values().all(|value| value == 0.0));
    }
}

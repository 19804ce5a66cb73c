//! The tokens that both engines are given.
//!
//! Where the model is that of the committed vectors, their sequences: prose, code, tables, chats,
//! eleven languages, continued by llama.cpp. For another model the beginnings alone, which are text
//! and fit any tokenizer.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use flate2::read::ZlibDecoder;
use openledger_models::{SpecialTokens, Tokenizer};
use sha2::{Digest as _, Sha256};

use crate::limits::{SEQUENCE_TOKENS_MAX, SEQUENCE_TOKENS_QUICK_MAX, SEQUENCES_QUICK_STEP};
use crate::varint::varint;

const VECTORS: &[u8] = include_bytes!("../../../compute/inference/vectors/logits.bin");
const PROMPTS: &str = include_str!("../../sim/parity/prompts.txt");

/// Sequences for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Token ids.
    pub tokens: Vec<Vec<u32>>,
    /// Whether they are those of the committed vectors.
    pub committed: bool,
}

impl Sequences {
    /// Those for the model in `file`.
    ///
    /// # Errors
    /// Vectors that are damaged.
    pub fn of(file: &[u8], tokenizer: &Tokenizer) -> Result<Self> {
        let mut inflated = Vec::new();
        ZlibDecoder::new(VECTORS).read_to_end(&mut inflated).context("inflate the vectors")?;
        let (model, tokens) = read(&inflated).context("read the vectors: they are damaged")?;
        if Sha256::digest(file).as_slice() == model {
            return Ok(Self { tokens, committed: true });
        }
        Ok(Self { tokens: prompts(tokenizer), committed: false })
    }

    /// A few short ones, of different kinds.
    #[must_use]
    pub fn quick(self) -> Self {
        let short = self.tokens.into_iter().step_by(SEQUENCES_QUICK_STEP);
        let short = short.filter(|tokens| tokens.len() <= SEQUENCE_TOKENS_QUICK_MAX);
        Self { tokens: short.collect(), ..self }
    }

    /// Tokens of all.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.tokens.iter().map(Vec::len).sum()
    }
}

/// The hash of the model, and the tokens; what llama.cpp said of them back then is passed over.
fn read(mut left: &[u8]) -> Option<(&[u8], Vec<Vec<u32>>)> {
    if varint(&mut left)? != 1 {
        return None;
    }
    let (model, rest) = left.split_at_checked(32)?;
    left = rest;
    let mut sequences = Vec::new();
    for _ in 0..varint(&mut left)? {
        let length = varint(&mut left)?;
        let mut list = || (0..length).map(|_| varint(&mut left)).collect::<Option<Vec<u32>>>();
        sequences.push(list()?);
        list()?;
        list()?;
    }
    left.is_empty().then_some((model, sequences))
}

fn prompts(tokenizer: &Tokenizer) -> Vec<Vec<u32>> {
    let all = PROMPTS.trim_end().split("\n----\n").map(|prompt| {
        let mut tokens = tokenizer.encode_with_bos(prompt, SpecialTokens::Parse);
        tokens.truncate(SEQUENCE_TOKENS_MAX);
        tokens
    });
    all.filter(|tokens| !tokens.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_sequences_are_enough_and_a_quick_run_takes_five() {
        let mut inflated = Vec::new();
        ZlibDecoder::new(VECTORS).read_to_end(&mut inflated).unwrap();
        let (_, tokens) = read(&inflated).unwrap();
        let all = Sequences { tokens, committed: true };
        assert!(all.positions() as u64 >= crate::limits::POSITIONS_MIN);
        let quick = all.quick();
        assert_eq!((quick.tokens.len(), quick.positions()), (5, 480));
        assert_eq!(read(&inflated[..inflated.len() - 1]), None);
    }
}

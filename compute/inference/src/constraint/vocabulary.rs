//! The model's tokens as the library wants them.

use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use openledger_models::Tokenizer;

use super::error::ConstraintError;

/// What the library's trie holds: 22 bits of nodes, one for each byte at most.
const TRIE_BYTES_MAX: usize = (1 << 22) - 1;
/// The longest token that it holds; longer ones are never allowed.
const TOKEN_BYTES_MAX: usize = 1_000;

/// The trie of a tokenizer's tokens. Control tokens are in it under their names, where a grammar can
/// ask for them and no text reaches them.
///
/// # Errors
/// A vocabulary that is too large, or that has no token to end with.
pub(super) fn environment(tokenizer: &Tokenizer) -> Result<TokEnv, ConstraintError> {
    let ends: Vec<u32> = tokenizer.end_tokens().collect();
    let Some(&first) = ends.first() else {
        return Err(ConstraintError::Vocabulary { reason: "it has no token to end with" });
    };
    let tokens = u32::try_from(tokenizer.vocab_len()).unwrap_or(0);
    let words: Vec<Vec<u8>> = (0..tokens).map(|token| word(tokenizer, token)).collect();
    if words.iter().map(Vec::len).sum::<usize>() > TRIE_BYTES_MAX {
        return Err(ConstraintError::Vocabulary { reason: "there are too many of them" });
    }
    let trie = TokTrie::from(&TokRxInfo::new(tokens, first), &words).with_eos_tokens(&ends);
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}

fn word(tokenizer: &Tokenizer, token: u32) -> Vec<u8> {
    let marker = TokTrie::SPECIAL_TOKEN_MARKER;
    let mut word = Vec::new();
    if tokenizer.is_control(token) {
        word.push(marker);
        word.extend(tokenizer.token_text(token).unwrap_or_default().as_bytes());
    } else {
        // The marker begins no character, so nothing is lost without tokens that begin with it.
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        word.extend(if bytes.first() == Some(&marker) { &[] } else { bytes });
    }
    if word.len() > TOKEN_BYTES_MAX { Vec::new() } else { word }
}

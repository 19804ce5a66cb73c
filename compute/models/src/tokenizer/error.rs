//! Why a tokenizer was refused.

use thiserror::Error;

use crate::gguf::GgufError;

/// Why a tokenizer was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file's metadata could not be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Another kind of tokenizer.
    #[error(
        "use the tokenizer: its kind {0:?} is not supported, gpt2 and llama (in tokenizer.json: BPE) are"
    )]
    Model(String),
    /// Rules for cutting text that this program does not have.
    #[error(
        "use the tokenizer: its rules {0:?} for cutting text are not supported; gpt-2, smollm, llama-bpe, qwen2 and others like them are"
    )]
    Rules(String),
    /// A part of `tokenizer.json` that this program does not have.
    #[error(
        "use the tokenizer: its {part} {found} is not supported; use a GGUF file of the model, or another model"
    )]
    Unsupported {
        /// The part.
        part: &'static str,
        /// What it is.
        found: String,
    },
    /// `tokenizer.json` is no JSON of the right form.
    #[error("use the tokenizer: tokenizer.json cannot be read ({reason}); download it again")]
    Json {
        /// What is wrong.
        reason: String,
    },
    /// A token whose number the model does not have.
    #[error(
        "use the tokenizer: token {text:?} has the number {id}, the model has {rows} tokens; the files do not belong together"
    )]
    TokenId {
        /// The token.
        text: String,
        /// Its number.
        id: u64,
        /// Tokens of the model.
        rows: usize,
    },
    /// No tokens, or too many.
    #[error("use the tokenizer: it has {tokens} tokens, 1 to {max} are accepted", max = crate::limits::VOCABULARY_MAX)]
    TokenCount {
        /// How many.
        tokens: usize,
    },
    /// A token's text is too long.
    #[error("use the tokenizer: token {id} has {bytes} bytes, {max} at most are accepted", max = crate::limits::TOKEN_BYTES_MAX)]
    TokenTooLong {
        /// The token.
        id: usize,
        /// Its length.
        bytes: usize,
    },
    /// Two tokens with one text.
    #[error(
        "use the tokenizer: tokens {first} and {second} have the same text; the file is damaged"
    )]
    DuplicateToken {
        /// One.
        first: u32,
        /// The other.
        second: u32,
    },
    /// A list that is shorter than the tokens.
    #[error("use the tokenizer: {key} has {found} items for {wanted} tokens; the file is damaged")]
    ListLength {
        /// The list.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The tokens.
        wanted: usize,
    },
    /// A score that is no number.
    #[error("use the tokenizer: the score of token {id} is no finite number; the file is damaged")]
    BadScore {
        /// The token.
        id: usize,
    },
    /// Too many tokens that are looked for in raw text.
    #[error("use the tokenizer: {found} of its tokens are special, {max} at most are accepted", max = crate::limits::SPECIAL_TOKENS_MAX)]
    SpecialTokens {
        /// How many.
        found: usize,
    },
}

//! Text to token ids and back, id for id as llama.cpp does it, from what a GGUF file or a
//! `tokenizer.json` says.
//!
//! Two kinds of vocabulary are supported: `gpt2` (byte-pair merges by rank, on pieces cut by rules
//! that the file names) and `llama` (SentencePiece's merges by score, with bytes as a fallback;
//! `tokenizer.json` has ranks in place of the scores).

mod bytes;
mod classes;
mod ends;
mod error;
mod json;
mod merges;
mod scores;
mod special;
mod split;
mod stream;
mod vocabulary;

use std::collections::BTreeSet;
use std::iter;

use crate::gguf::{Gguf, required};

pub use error::TokenizerError;
pub use json::JsonOptions;
pub use stream::Utf8Stream;

use merges::Merges;
use scores::{SPACE_MARK, Scores};
use special::{Fragment, Special};
use split::Rules;
use vocabulary::{Kind, Vocabulary};

/// What the texts of control tokens are where they stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// The tokens: for prompts that a template has made.
    Parse,
    /// Ordinary text: for what people send, so that nobody can end a turn by writing it.
    AsText,
}

#[derive(Clone, Debug)]
enum Algorithm {
    Ranks {
        rules: Rules,
        merges: Merges,
    },
    Scores {
        scores: Scores,
        prefixes_space: bool,
    },
    /// Ranks on characters, with spaces marked and bytes as a fallback.
    Marked {
        merges: Merges,
        bytes: Scores,
        prefix: Prefix,
    },
}

/// Where a space is put in front of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    Never,
    /// At the start of the whole text.
    First,
    /// Also after each special token.
    Always,
}

/// What a file says, before it is put together.
struct Parts {
    vocabulary: Vocabulary,
    algorithm: Algorithm,
    /// The model's name: some families have ways of their own.
    model: String,
    bos: Option<u32>,
    eos: Option<u32>,
    /// Other tokens that end a generation.
    ends: Vec<Option<u32>>,
    fill: [Option<u32>; 3],
    adds_bos: bool,
    adds_eos: bool,
}

/// A vocabulary with its way of encoding.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    algorithm: Algorithm,
    special: Special,
    /// The bytes of all tokens in one piece of memory, and where each ends.
    joined: Vec<u8>,
    joined_ends: Vec<usize>,
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
    adds_eos: bool,
    ends: BTreeSet<u32>,
}

impl Tokenizer {
    /// Builds the tokenizer of a file.
    ///
    /// # Errors
    /// [`TokenizerError`] if the kind of vocabulary is not supported, or is damaged.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let key = "tokenizer.ggml.model";
        let model = required(key, gguf.text(key)?)?;
        let is_ranked = match model {
            "gpt2" => true,
            "llama" => false,
            other => return Err(TokenizerError::Model(other.chars().take(64).collect())),
        };
        let vocabulary = Vocabulary::from_gguf(gguf)?;
        let id = |name: &str, default: Option<u32>| -> Result<Option<u32>, TokenizerError> {
            let known = |id: &u32| (*id as usize) < vocabulary.len();
            let found = gguf.unsigned(&format!("tokenizer.ggml.{name}_token_id"))?;
            let found = found.and_then(|id| u32::try_from(id).ok()).filter(known);
            Ok(found.or(default.filter(known)))
        };
        // What llama.cpp assumes where the file is silent.
        let (bos, eos, unknown) = if is_ranked { (11, 11, None) } else { (1, 2, Some(0)) };
        let (bos, eos) = (id("bos", Some(bos))?, id("eos", Some(eos))?);
        let unknown = id("unknown", unknown)?;
        let ends = vec![id("eot", None)?, id("eom", None)?];
        let fill = [id("fim_pad", None)?, id("fim_rep", None)?, id("fim_sep", None)?];
        let model = gguf.text("general.name")?.unwrap_or_default().to_owned();
        let rules = gguf.text("tokenizer.ggml.pre")?.unwrap_or_default();
        let algorithm = if is_ranked {
            let found = Rules::named(rules);
            let unknown = || TokenizerError::Rules(rules.chars().take(64).collect());
            let (rules, takes_whole_words) = found.ok_or_else(unknown)?;
            let merges = Merges::from_gguf(gguf, &vocabulary, takes_whole_words)?;
            Algorithm::Ranks { rules, merges }
        } else {
            let prefixes_space = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
            Algorithm::Scores { scores: Scores::new(&vocabulary, unknown), prefixes_space }
        };
        let adds_bos = gguf.flag("tokenizer.ggml.add_bos_token")?;
        let adds_eos = gguf.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        let by_default = if is_ranked { Rules::begins_with_bos(rules) } else { true };
        let adds_bos = adds_bos.unwrap_or(by_default);
        let parts =
            Parts { vocabulary, algorithm, model, bos, eos, ends, fill, adds_bos, adds_eos };
        Self::assemble(parts)
    }

    fn assemble(parts: Parts) -> Result<Self, TokenizerError> {
        let Parts { mut vocabulary, algorithm, model, bos, eos, .. } = parts;
        let listed: Vec<Option<u32>> = iter::once(eos).chain(parts.ends).collect();
        let ends = ends::find(&mut vocabulary, &listed, parts.fill);
        let special = Special::new(&vocabulary, &model)?;
        let is_ranked = matches!(algorithm, Algorithm::Ranks { .. });
        let (joined, joined_ends) = join(&vocabulary, is_ranked);
        let (adds_bos, adds_eos) = (parts.adds_bos, parts.adds_eos);
        Ok(Self {
            vocabulary,
            algorithm,
            special,
            joined,
            joined_ends,
            bos,
            eos,
            adds_bos,
            adds_eos,
            ends,
        })
    }

    /// The tokens of a text, without any that mark its start or end.
    #[must_use]
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Vec<u32> {
        let mut tokens = Vec::new();
        self.append(text, special, &mut tokens);
        tokens
    }

    /// The tokens of a text with those that mark its start and end, where the file asks for them.
    #[must_use]
    pub fn encode_with_bos(&self, text: &str, special: SpecialTokens) -> Vec<u32> {
        let mut tokens = Vec::new();
        tokens.extend(self.bos.filter(|_| self.adds_bos));
        self.append(text, special, &mut tokens);
        tokens.extend(self.eos.filter(|_| self.adds_eos));
        tokens
    }

    fn append(&self, text: &str, special: SpecialTokens, tokens: &mut Vec<u32>) {
        let parses_control = special == SpecialTokens::Parse;
        let vocabulary = &self.vocabulary;
        let (mut is_first, mut is_after_special) = (true, true);
        for fragment in self.special.fragments(vocabulary, text, parses_control) {
            match (fragment, &self.algorithm) {
                (Fragment::Token(id), _) => {
                    tokens.push(id);
                    (is_first, is_after_special) = (false, true);
                    continue;
                }
                (Fragment::Text(text), Algorithm::Ranks { rules, merges }) => {
                    split::split(*rules, text, |piece| merges.encode(vocabulary, piece, tokens));
                }
                (Fragment::Text(text), Algorithm::Scores { scores, prefixes_space }) => {
                    let prefix = if *prefixes_space && is_after_special { SPACE_MARK } else { "" };
                    let marked = [prefix, &text.replace(' ', SPACE_MARK)].concat();
                    scores.encode(vocabulary, &marked, tokens);
                }
                (Fragment::Text(text), Algorithm::Marked { merges, bytes, prefix }) => {
                    let is_prefixed = match prefix {
                        Prefix::Never => false,
                        Prefix::First => is_first,
                        Prefix::Always => is_after_special,
                    };
                    let prefix = if is_prefixed { SPACE_MARK } else { "" };
                    let marked = [prefix, &text.replace(' ', SPACE_MARK)].concat();
                    merges.merge(symbols(vocabulary, bytes, &marked).into_iter(), tokens);
                }
            }
            (is_first, is_after_special) = (false, false);
        }
    }

    /// The text of tokens; control tokens have none, and bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut bytes: Vec<u8> = Vec::new();
        for token in tokens {
            bytes.extend(self.token_bytes(*token).unwrap_or_default());
        }
        let is_prefixed = match &self.algorithm {
            Algorithm::Ranks { .. } => false,
            Algorithm::Scores { prefixes_space, .. } => *prefixes_space,
            Algorithm::Marked { prefix, .. } => *prefix != Prefix::Never,
        };
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_prefix(' ') {
            // The space that encoding put there.
            Some(rest) if is_prefixed => rest.to_owned(),
            _ => text.into_owned(),
        }
    }

    /// The bytes that a token stands for in a text: none for control tokens, `None` for ids that
    /// are no tokens. They need not be whole characters.
    #[must_use]
    pub fn token_bytes(&self, token: u32) -> Option<&[u8]> {
        let end = *self.joined_ends.get(token as usize)?;
        let before = (token as usize).checked_sub(1).and_then(|at| self.joined_ends.get(at));
        self.joined.get(before.copied().unwrap_or(0)..end)
    }

    /// A token's text as the vocabulary has it.
    #[must_use]
    pub fn token_text(&self, token: u32) -> Option<&str> {
        self.vocabulary.text(token)
    }

    /// Whether a token controls the model instead of standing for text.
    #[must_use]
    pub fn is_control(&self, token: u32) -> bool {
        self.vocabulary.kind(token).has(Kind::CONTROL.with(Kind::UNKNOWN))
    }

    /// Whether generation ends with this token: end of text, of turn, or of message.
    #[must_use]
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// All tokens that end a generation, lowest first.
    pub fn end_tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.ends.iter().copied()
    }

    /// The token whose text in the vocabulary is this one.
    #[must_use]
    pub fn token_of_text(&self, text: &str) -> Option<u32> {
        self.vocabulary.find(text)
    }

    /// The token that starts a text.
    #[must_use]
    pub const fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    #[must_use]
    pub const fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether [`Self::encode_with_bos`] adds the token that starts a text.
    #[must_use]
    pub const fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// How many tokens there are; ids are below it.
    #[must_use]
    pub const fn vocab_len(&self) -> usize {
        self.vocabulary.len()
    }
}

/// The symbols of a text's characters; those of its bytes where a character is no token.
fn symbols(vocabulary: &Vocabulary, bytes: &Scores, text: &str) -> Vec<Option<merges::Symbol>> {
    let mut symbols = Vec::with_capacity(text.len());
    for character in text.chars() {
        let mut buffer = [0; 4];
        let character = character.encode_utf8(&mut buffer);
        match vocabulary.find(character) {
            Some(id) => symbols.push(Some(id)),
            None => {
                let known = character.bytes().filter_map(|byte| bytes.of_byte(byte));
                symbols.extend(known.map(Some));
            }
        }
    }
    symbols
}

/// The bytes of every token.
fn join(vocabulary: &Vocabulary, is_ranked: bool) -> (Vec<u8>, Vec<usize>) {
    let mut joined = Vec::new();
    let mut ends = Vec::with_capacity(vocabulary.len());
    for (id, text) in vocabulary.iter() {
        let kind = vocabulary.kind(id);
        if kind.has(Kind::CONTROL.with(Kind::UNKNOWN)) {
            // No text.
        } else if kind.has(Kind::USER_DEFINED) {
            joined.extend(text.as_bytes());
        } else if kind.has(Kind::BYTE) {
            let digits = text.get(3..5).unwrap_or_default();
            joined.extend(u8::from_str_radix(digits, 16).ok());
        } else if kind.has(Kind::NORMAL) && is_ranked {
            for character in text.chars() {
                match bytes::byte_of(character) {
                    Some(byte) => joined.push(byte),
                    None => joined.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
        } else if kind.has(Kind::NORMAL) {
            joined.extend(text.replace(SPACE_MARK, " ").as_bytes());
        }
        ends.push(joined.len());
    }
    (joined, ends)
}

//! Tokenizers of the transformers library: `tokenizer.json`.
//!
//! What its parts would do is compared with what this program has, by their names and patterns; a
//! part that it does not have is refused, because passing over it would give other tokens without
//! a word. One exception is llama.cpp's: the normal form NFC, which it leaves out as well.

mod file;
mod parts;

use super::merges::Merges;
use super::scores::{SPACE_MARK, Scores};
use super::vocabulary::{Kind, Vocabulary};
use super::{Algorithm, Parts, Tokenizer, TokenizerError};
use crate::limits::VOCABULARY_MAX;

use file::{Added, File};
use parts::Way;

/// What other files beside `tokenizer.json` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Tokens of the model; what the file lacks is filled up. 0 is as many as the file has.
    pub rows: usize,
    /// The text of the token that starts a text.
    pub bos: Option<String>,
    /// The text of the token that ends a text.
    pub eos: Option<String>,
    /// Other tokens that end a generation.
    pub ends: Vec<u32>,
    /// Whether texts begin with the first; as the file says without.
    pub adds_bos: Option<bool>,
    /// Whether texts end with the second; likewise.
    pub adds_eos: Option<bool>,
}

impl Tokenizer {
    /// Builds the tokenizer of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError`], which names the part that is not supported or damaged.
    pub fn from_json(json: &[u8], options: &JsonOptions) -> Result<Self, TokenizerError> {
        let file: File = serde_json::from_slice(json)
            .map_err(|e| TokenizerError::Json { reason: e.to_string() })?;
        let way = parts::way(&file)?;
        let (vocabulary, unknown) = vocabulary(&file, options.rows, way)?;
        let pairs = file.model.merges.0.iter().map(|(left, right)| Some((&**left, &**right)));
        let merges = Merges::new(pairs, &vocabulary, file.model.ignore_merges);
        let algorithm = match way {
            Way::Bytes(rules) => Algorithm::Ranks { rules, merges },
            Way::Marked(prefix) => {
                Algorithm::Marked { merges, bytes: Scores::new(&vocabulary, unknown), prefix }
            }
        };
        let find = |text: &Option<String>| text.as_ref().and_then(|text| vocabulary.find(text));
        let (bos, eos) = (find(&options.bos), find(&options.eos));
        let (starts, finishes) = parts::edges(&file);
        let is_there = |text: Option<&str>, id| text.and_then(|text| vocabulary.find(text)) == id;
        let adds_bos = bos.is_some() && is_there(starts, bos);
        let adds_eos = eos.is_some() && is_there(finishes, eos);
        let known = |id: &u32| (*id as usize) < vocabulary.len();
        let ends = options.ends.iter().copied().filter(known).map(Some).collect();
        Self::assemble(Parts {
            algorithm,
            model: String::new(),
            bos,
            eos,
            ends,
            fill: [None; 3],
            adds_bos: options.adds_bos.unwrap_or(adds_bos),
            adds_eos: options.adds_eos.unwrap_or(adds_eos),
            vocabulary,
        })
    }
}

/// The tokens of a file, and the one that stands for what is none.
fn vocabulary(
    file: &File,
    rows: usize,
    way: Way,
) -> Result<(Vocabulary, Option<u32>), TokenizerError> {
    let added = file.added_tokens.iter().map(|added| (added.id, &*added.content));
    let listed = file.model.vocab.0.iter().map(|(text, id)| (*id, &**text));
    let last = added.clone().chain(listed.clone()).map(|(id, _)| id).max().unwrap_or(0);
    let needed = usize::try_from(last.saturating_add(1)).unwrap_or(usize::MAX);
    let tokens = if rows == 0 { needed } else { rows };
    if tokens > VOCABULARY_MAX {
        return Err(TokenizerError::TokenCount { tokens });
    }
    let is_marked = matches!(way, Way::Marked(_));
    let mut texts: Vec<Option<String>> = vec![None; tokens];
    let mut kinds = vec![Kind::NORMAL; tokens];
    for (id, text) in listed {
        let (slot, kind) = slots(&mut texts, &mut kinds, id, text)?;
        *slot = Some(text.to_owned());
        if file.model.byte_fallback && is_byte(text) {
            *kind = Kind::BYTE;
        }
    }
    for Added { id, content, special, .. } in &file.added_tokens {
        let (slot, kind) = slots(&mut texts, &mut kinds, *id, content)?;
        *kind = if *special || looks_special(content) { Kind::CONTROL } else { Kind::USER_DEFINED };
        // Texts are searched for these before spaces are marked.
        *slot = Some(match is_marked && !*special {
            true => content.replace(SPACE_MARK, " "),
            false => content.clone(),
        });
    }
    for (id, (text, kind)) in texts.iter_mut().zip(&mut kinds).enumerate() {
        if text.is_none() {
            // The model has rows for them, which nothing leads to.
            (*text, *kind) = (Some(format!("[PAD{id}]")), Kind::OTHER);
        }
    }
    let listed = texts.iter().map(|text| text.as_deref().unwrap_or_default());
    let mut vocabulary = Vocabulary::new(tokens, listed)?;
    let unknown = file.model.unk_token.as_deref().and_then(|text| vocabulary.find(text));
    for (id, kind) in (0u32..).zip(kinds) {
        let is_unknown = is_marked && Some(id) == unknown;
        vocabulary.set_kind(id, if is_unknown { Kind::UNKNOWN } else { kind });
    }
    Ok((vocabulary, unknown))
}

fn slots<'a>(
    texts: &'a mut [Option<String>],
    kinds: &'a mut [Kind],
    id: u64,
    text: &str,
) -> Result<(&'a mut Option<String>, &'a mut Kind), TokenizerError> {
    let rows = texts.len();
    let outside = || TokenizerError::TokenId { text: text.chars().take(64).collect(), id, rows };
    let at = usize::try_from(id).map_err(|_| outside())?;
    texts.get_mut(at).zip(kinds.get_mut(at)).ok_or_else(outside)
}

/// Whether a token is a byte: `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Whether a token controls the model although its file does not say so, as llama.cpp's converter
/// sees it.
fn looks_special(text: &str) -> bool {
    let within = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    within("<|", "|>")
        || within("<\u{ff5c}", "\u{ff5c}>")
        || text.starts_with("<unused")
        || matches!(text, "<pad>" | "<mask>")
}

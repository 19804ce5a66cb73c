//! What of `tokenizer.json` is read, as it stands there.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::limits::{GGUF_ITEMS_MAX, VOCABULARY_MAX};
use crate::tokenizer::merges::sides;

/// The file.
#[derive(Deserialize)]
pub(super) struct File {
    pub(super) model: Model,
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) post_processor: Value,
}

/// The vocabulary with its merges.
#[derive(Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type", default)]
    pub(super) kind: Option<String>,
    pub(super) vocab: Vocab,
    #[serde(default)]
    pub(super) merges: MergeList,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
}

/// A token that is found in raw text before anything else.
#[derive(Deserialize)]
pub(super) struct Added {
    pub(super) id: u64,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
}

/// Tokens with their numbers; empty where they are a list, which belongs to another kind of model.
pub(super) struct Vocab(pub(super) Vec<(String, u64)>);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;

        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with their numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = map.next_entry()? {
                    if tokens.len() == VOCABULARY_MAX {
                        return Err(Error::custom(format!("over {VOCABULARY_MAX} tokens")));
                    }
                    tokens.push(token);
                }
                Ok(Vocab(tokens))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocab(Vec::new()))
            }
        }

        deserializer.deserialize_any(Tokens)
    }
}

/// Merges in the order of their ranks.
#[derive(Default)]
pub(super) struct MergeList(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Merges;

        impl<'de> Visitor<'de> for Merges {
            type Value = MergeList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_unit<E>(self) -> Result<MergeList, E> {
                Ok(MergeList::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MergeList, A::Error> {
                let mut merges = Vec::new();
                while let Some(Merge(left, right)) = list.next_element()? {
                    if merges.len() as u64 == GGUF_ITEMS_MAX {
                        return Err(Error::custom(format!("over {GGUF_ITEMS_MAX} merges")));
                    }
                    merges.push((left, right));
                }
                Ok(MergeList(merges))
            }
        }

        deserializer.deserialize_any(Merges)
    }
}

/// A merge: `"a b"` in older files, `["a", "b"]` in newer ones.
struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;

        impl<'de> Visitor<'de> for Sides {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the two sides of a merge")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Merge, E> {
                let wrong = || E::custom(format!("{:?} is no merge", shortened(text)));
                let (left, right) = sides(text).ok_or_else(wrong)?;
                Ok(Merge(left.to_owned(), right.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
                let sides = (list.next_element()?, list.next_element()?);
                match (sides, list.next_element::<IgnoredAny>()?) {
                    ((Some(left), Some(right)), None) => Ok(Merge(left, right)),
                    _ => Err(Error::custom("a merge has two sides")),
                }
            }
        }

        deserializer.deserialize_any(Sides)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

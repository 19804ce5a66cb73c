//! The tokenizer and the chat template of a folder, from the four files that tell of them.

use std::path::Path;

use serde_json::{Map, Value};

use super::files;
use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::limits::TOKENIZER_JSON_BYTES_MAX;
use crate::model::ModelError;
use crate::tokenizer::{JsonOptions, Tokenizer};

type Json = Map<String, Value>;

/// Reads both; `all` is `config.json`.
pub(super) fn read(
    folder: &Path,
    all: &Json,
    config: &ModelConfig,
) -> Result<(Tokenizer, ChatTemplate), ModelError> {
    let told: Json = files::optional(folder, "tokenizer_config.json")?.unwrap_or_default();
    let generation: Json = files::optional(folder, "generation_config.json")?.unwrap_or_default();
    let json = files::bytes(folder, "tokenizer.json", TOKENIZER_JSON_BYTES_MAX)?;
    let flag = |name: &str| told.get(name).and_then(Value::as_bool);
    let ends = [all, &generation].into_iter().flat_map(|file| numbers(file.get("eos_token_id")));
    let options = JsonOptions {
        rows: config.vocab,
        bos: token(&told, "bos_token"),
        eos: token(&told, "eos_token"),
        ends: ends.collect(),
        adds_bos: flag("add_bos_token"),
        adds_eos: flag("add_eos_token"),
    };
    let tokenizer = Tokenizer::from_json(&json, &options)?;
    let beside = files::text(folder, "chat_template.jinja")?;
    let source = beside.or_else(|| template(told.get("chat_template")));
    let [bos, eos] = [options.bos, options.eos].map(Option::unwrap_or_default);
    Ok((tokenizer, ChatTemplate::of(source.as_deref(), &bos, &eos)))
}

/// The text of a token: as it is, or with what else is known of it.
fn token(told: &Json, name: &str) -> Option<String> {
    let value = told.get(name)?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// One number, or a list of them.
fn numbers(value: Option<&Value>) -> Vec<u32> {
    let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(number).collect(),
        Some(value) => number(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A template, or the one called `default` of several.
fn template(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(source) => Some(source.clone()),
        Value::Array(items) => {
            let named = |item: &&Value| item.get("name").and_then(Value::as_str) == Some("default");
            let found = items.iter().find(named).or_else(|| items.first())?;
            found.get("template")?.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

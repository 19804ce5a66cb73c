//! What the parts of `tokenizer.json` do, by their names: which of our own ways of encoding they
//! ask for.

use serde_json::Value;

use super::file::File;
use crate::tokenizer::scores::SPACE_MARK;
use crate::tokenizer::split::Rules;
use crate::tokenizer::{Prefix, TokenizerError};

/// How text becomes what is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Cut by rules, then bytes as characters.
    Bytes(Rules),
    /// Characters, with spaces marked.
    Marked(Prefix),
}

type Error = TokenizerError;

fn unsupported(part: &'static str, found: &Value) -> Error {
    // A name is enough where there is one.
    let name = found.get("type").filter(|_| found.get("pattern").is_none()).unwrap_or(found);
    Error::Unsupported { part, found: name.to_string().chars().take(200).collect() }
}

/// The steps of a part: those of a sequence, or the part itself.
fn steps<'a>(part: &'a Value, list: &str) -> Vec<&'a Value> {
    match part {
        Value::Null => Vec::new(),
        _ if kind(part) == "Sequence" => {
            part.get(list).and_then(Value::as_array).into_iter().flatten().collect()
        }
        _ => vec![part],
    }
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn flag(step: &Value, name: &str, default: bool) -> bool {
    step.get(name).and_then(Value::as_bool).unwrap_or(default)
}

fn text<'a>(step: &'a Value, name: &str) -> &'a str {
    step.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Which way a file asks for.
pub(super) fn way(file: &File) -> Result<Way, Error> {
    let model = &file.model;
    match model.kind.as_deref() {
        Some("BPE") | None => {}
        Some(other) => return Err(Error::Model(other.chars().take(64).collect())),
    }
    for (part, affix) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(found) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            let found = found.chars().take(64).collect();
            return Err(Error::Unsupported { part, found });
        }
    }
    // What belongs to a special token is white space beside it; ours stand alone. Models in use
    // strip only around tokens for masks, which never come up.
    let strange = |added: &&super::Added| added.single_word && !added.special;
    if let Some(added) = file.added_tokens.iter().find(strange) {
        let found = added.content.chars().take(64).collect();
        return Err(Error::Unsupported { part: "token for single words", found });
    }
    let strips = |added: &&super::Added| (added.lstrip || added.rstrip) && !added.special;
    if let Some(added) = file.added_tokens.iter().find(strips) {
        let found = added.content.chars().take(64).collect();
        return Err(Error::Unsupported { part: "token that takes spaces", found });
    }
    let steps = steps(&file.pre_tokenizer, "pretokenizers");
    match steps.iter().any(|step| kind(step) == "ByteLevel") {
        true => bytes(&file.normalizer, &steps).map(Way::Bytes),
        false if model.byte_fallback => marked(&file.normalizer, &steps).map(Way::Marked),
        false => Err(unsupported("pre_tokenizer", &file.pre_tokenizer)),
    }
}

/// The rules of a file whose tokens are bytes.
fn bytes(normalizer: &Value, all: &[&Value]) -> Result<Rules, Error> {
    for step in steps(normalizer, "normalizers") {
        if kind(step) != "NFC" {
            return Err(unsupported("normalizer", step));
        }
    }
    let Some((last, before)) = all.split_last() else { return Ok(Rules::Gpt2) };
    if kind(last) != "ByteLevel" {
        return Err(unsupported("pre_tokenizer", last));
    }
    if flag(last, "add_prefix_space", true) {
        return Err(unsupported("pre_tokenizer with add_prefix_space", last));
    }
    let cuts = flag(last, "use_regex", true);
    match (before, cuts) {
        ([], true) => Ok(Rules::Gpt2),
        ([step], true) if kind(step) == "Digits" && flag(step, "individual_digits", false) => {
            Ok(Rules::SingleNumbers)
        }
        ([step], false) if kind(step) == "Split" && isolates(step) => {
            let pattern = step.get("pattern").map(|pattern| text(pattern, "Regex"));
            pattern.and_then(Rules::of_pattern).ok_or_else(|| unsupported("pre_tokenizer", step))
        }
        ([step, ..], _) => Err(unsupported("pre_tokenizer", step)),
        ([], false) => Err(unsupported("pre_tokenizer", last)),
    }
}

fn isolates(step: &Value) -> bool {
    text(step, "behavior") == "Isolated" && !flag(step, "invert", false)
}

/// Where a file whose spaces are marked puts one in front.
fn marked(normalizer: &Value, all: &[&Value]) -> Result<Prefix, Error> {
    let (mut prefix, mut is_marked) = (Prefix::Never, false);
    for step in steps(normalizer, "normalizers") {
        match kind(step) {
            "Prepend" if text(step, "prepend") == SPACE_MARK => prefix = Prefix::Always,
            "Replace" if replaces_space(step) => is_marked = true,
            _ => return Err(unsupported("normalizer", step)),
        }
    }
    for step in all {
        match kind(step) {
            "Metaspace" if text(step, "replacement") == SPACE_MARK => {
                let by_flag = if flag(step, "add_prefix_space", true) { "always" } else { "never" };
                let scheme = step.get("prepend_scheme").and_then(Value::as_str);
                prefix = match scheme.unwrap_or(by_flag) {
                    "always" => Prefix::Always,
                    "first" => Prefix::First,
                    "never" => Prefix::Never,
                    _ => return Err(unsupported("pre_tokenizer", step)),
                };
                // Pieces that begin with a marked space merge as the whole text does only where
                // no token has such a space within it; files that are in use do not cut.
                if flag(step, "split", true) {
                    return Err(unsupported("pre_tokenizer with split", step));
                }
                is_marked = true;
            }
            // No spaces are left that this could cut at.
            "Split" if is_marked && splits_at_space(step) => {}
            _ => return Err(unsupported("pre_tokenizer", step)),
        }
    }
    match is_marked {
        true => Ok(prefix),
        false => Err(unsupported("normalizer", normalizer)),
    }
}

fn pattern_is_space(step: &Value) -> bool {
    step.get("pattern").is_some_and(|pattern| text(pattern, "String") == " ")
}

fn replaces_space(step: &Value) -> bool {
    pattern_is_space(step) && text(step, "content") == SPACE_MARK
}

fn splits_at_space(step: &Value) -> bool {
    pattern_is_space(step) && !flag(step, "invert", false)
}

/// The tokens that a file puts around a text: at its start, and at its end.
pub(super) fn edges(file: &File) -> (Option<&str>, Option<&str>) {
    let steps = steps(&file.post_processor, "processors");
    let template = steps.into_iter().find(|step| kind(step) == "TemplateProcessing");
    let single = template.and_then(|step| step.get("single")).and_then(Value::as_array);
    let Some(items) = single else { return (None, None) };
    (items.first().and_then(special_token), items.last().and_then(special_token))
}

fn special_token(item: &Value) -> Option<&str> {
    item.get("SpecialToken")?.get("id")?.as_str()
}

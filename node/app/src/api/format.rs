//! The fields that say what an answer must look like: OpenAI's `response_format`, vLLM's
//! `structured_outputs`, and the `guided_...` fields that came before it.

use openledger_wire::call::CallConstraint;
use openledger_wire::{List, Prose, limits as wire_limits};
use serde_json::Value;

use super::ApiFailure;
use super::fields::Fields;

/// What an answer must look like, and the field that says so.
pub(super) type Format = Option<(CallConstraint, &'static str)>;

const RESPONSE_FORMAT: &str = "response_format";
const STRUCTURED: &str = "structured_outputs";

/// The older names of what [`STRUCTURED`] holds.
const GUIDED: [(&str, &str); 4] = [
    ("guided_json", "json"),
    ("guided_regex", "regex"),
    ("guided_choice", "choice"),
    ("guided_grammar", "grammar"),
];

/// Reads them all; one may be there.
///
/// # Errors
/// The field that is wrong, or the second of two.
pub(super) fn format(fields: &Fields) -> Result<Format, ApiFailure> {
    let mut found: Format = response_format(fields)?;
    let mut take = |constraint, field: &'static str| {
        if let Some((_, first)) = &found {
            let message =
                format!("{field} is not possible together with {first}; send one of them");
            return Err(ApiFailure::invalid(field, message));
        }
        found = Some((constraint, field));
        Ok(())
    };
    if let Some(value) = fields.get(STRUCTURED) {
        take(structured(value)?, STRUCTURED)?;
    }
    for (field, kind) in GUIDED {
        if let Some(value) = fields.get(field) {
            take(of_kind(kind, value, field)?, field)?;
        }
    }
    Ok(found)
}

fn response_format(fields: &Fields) -> Result<Format, ApiFailure> {
    let Some(value) = fields.get(RESPONSE_FORMAT) else { return Ok(None) };
    let constraint = match value.get("type").and_then(Value::as_str) {
        Some("text") => return Ok(None),
        Some("json_object") => CallConstraint::JsonObject,
        Some("json_schema") => {
            let param = "response_format.json_schema.schema";
            let schema = value.get("json_schema").and_then(|named| named.get("schema"));
            let schema = schema.filter(|schema| schema.is_object() || schema.is_boolean());
            let message = "response_format.json_schema must hold a name and a schema";
            let schema = schema.ok_or_else(|| ApiFailure::invalid(param, message))?;
            CallConstraint::JsonSchema(bounded(schema.to_string(), param)?)
        }
        _ => {
            let message = "type must be text, json_object or json_schema";
            return Err(ApiFailure::invalid("response_format.type", message));
        }
    };
    Ok(Some((constraint, RESPONSE_FORMAT)))
}

fn structured(value: &Value) -> Result<CallConstraint, ApiFailure> {
    let wrong = || {
        let message =
            "structured_outputs must hold one of json, regex, choice, grammar or json_object";
        ApiFailure::invalid(STRUCTURED, message)
    };
    let given = value.as_object().ok_or_else(wrong)?;
    let mut given = given.iter().filter(|(_, value)| !value.is_null());
    let (Some((kind, value)), None) = (given.next(), given.next()) else { return Err(wrong()) };
    of_kind(kind, value, &format!("{STRUCTURED}.{kind}"))
}

fn of_kind(kind: &str, value: &Value, param: &str) -> Result<CallConstraint, ApiFailure> {
    let text = || {
        let message = format!("{param} must be a text");
        let text = value.as_str().ok_or_else(|| ApiFailure::invalid(param, message))?;
        bounded(text.to_owned(), param)
    };
    match kind {
        "json" => match value {
            Value::String(_) => Ok(CallConstraint::JsonSchema(text()?)),
            Value::Object(_) | Value::Bool(_) => {
                Ok(CallConstraint::JsonSchema(bounded(value.to_string(), param)?))
            }
            _ => Err(ApiFailure::invalid(param, format!("{param} must be a JSON schema"))),
        },
        "json_object" if value.as_bool() == Some(true) => Ok(CallConstraint::JsonObject),
        "regex" => Ok(CallConstraint::Regex(text()?)),
        "grammar" => Ok(CallConstraint::Grammar(text()?)),
        "choice" => {
            let most = wire_limits::CHOICES_MAX;
            let wrong = || {
                let message = format!("{param} must list 1 to {most} texts of 1 to 1024 bytes");
                ApiFailure::invalid(param, message)
            };
            let one = |value: &Value| {
                let text = value.as_str().filter(|text| !text.is_empty())?;
                Prose::new(text).ok()
            };
            let texts = value.as_array().filter(|texts| !texts.is_empty()).ok_or_else(wrong)?;
            let texts: Option<Vec<_>> = texts.iter().map(one).collect();
            let texts = texts.and_then(|texts| List::new(texts).ok()).ok_or_else(wrong)?;
            Ok(CallConstraint::Choice(texts))
        }
        _ => {
            let message = format!("{param} is not supported; use json, regex, choice or grammar");
            Err(ApiFailure::unsupported(param, message))
        }
    }
}

fn bounded<const MAX: usize>(text: String, param: &str) -> Result<Prose<MAX>, ApiFailure> {
    let bytes = text.len();
    Prose::new(text).map_err(|_| {
        ApiFailure::invalid(param, format!("{param} has {bytes} bytes, more than {MAX}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Format, ApiFailure> {
        format(&Fields::parse(value.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn every_spelling_is_read() {
        assert_eq!(read(json!({})).unwrap(), None);
        assert_eq!(read(json!({"response_format": {"type": "text"}})).unwrap(), None);
        let object = read(json!({"response_format": {"type": "json_object"}})).unwrap();
        assert_eq!(object, Some((CallConstraint::JsonObject, RESPONSE_FORMAT)));
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let wanted = CallConstraint::JsonSchema(Prose::clipped(&schema.to_string()));
        for (body, field) in [
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}}}),
                RESPONSE_FORMAT,
            ),
            (json!({"structured_outputs": {"json": schema}}), STRUCTURED),
            (
                json!({"structured_outputs": {"json": schema.to_string(), "regex": null}}),
                STRUCTURED,
            ),
            (json!({"guided_json": schema}), "guided_json"),
        ] {
            assert_eq!(read(body).unwrap(), Some((wanted.clone(), field)));
        }
        let choice = read(json!({"structured_outputs": {"choice": ["a", "b"]}})).unwrap().unwrap();
        assert!(matches!(choice.0, CallConstraint::Choice(texts) if texts.len() == 2));
        let regex = read(json!({"guided_regex": "a+"})).unwrap().unwrap();
        assert_eq!(regex, (CallConstraint::Regex(Prose::clipped("a+")), "guided_regex"));
        let grammar = read(json!({"structured_outputs": {"grammar": "start: /a/"}})).unwrap();
        assert!(matches!(grammar, Some((CallConstraint::Grammar(_), STRUCTURED))));
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, param) in [
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"structured_outputs": {}}), STRUCTURED),
            (json!({"structured_outputs": {"json": {}, "regex": "a"}}), STRUCTURED),
            (json!({"structured_outputs": {"regex": 5}}), "structured_outputs.regex"),
            (
                json!({"structured_outputs": {"structural_tag": "x"}}),
                "structured_outputs.structural_tag",
            ),
            (json!({"guided_choice": []}), "guided_choice"),
            (json!({"guided_choice": ["a", ""]}), "guided_choice"),
            (json!({"guided_json": 7}), "guided_json"),
            (json!({"guided_regex": "x".repeat(70_000)}), "guided_regex"),
            (
                json!({"guided_regex": "x", "response_format": {"type": "json_object"}}),
                "guided_regex",
            ),
        ] {
            assert_eq!(read(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }
}

//! JSON schemas on their way to the library.

use serde_json::{Value, json};

use super::error::ConstraintError;
use crate::limits::{ONE_OF_MAX, WHITESPACE_MAX};

/// Where the library's own options stand in a schema.
const OPTIONS: &str = "x-guidance";

/// The schema of a text, with bounded white space: a model that has lost its way would else draw
/// nothing but blanks to its last token.
///
/// # Errors
/// No JSON, or more alternatives than can be told apart in time.
pub(super) fn prepared(text: &str) -> Result<Value, ConstraintError> {
    let mut schema: Value = serde_json::from_str(text)
        .map_err(|error| ConstraintError::NotJson { line: error.line(), column: error.column() })?;
    check(&schema)?;
    if schema.as_bool() == Some(true) {
        schema = json!({});
    }
    if let Some(fields) = schema.as_object_mut() {
        let blanks = format!("[ \\t\\n\\r]{{1,{WHITESPACE_MAX}}}");
        let options = json!({ "whitespace_flexible": true, "whitespace_pattern": blanks });
        fields.insert(OPTIONS.to_owned(), options);
    }
    Ok(schema)
}

/// The library compares each alternative of a `oneOf` with each other.
fn check(value: &Value) -> Result<(), ConstraintError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(fields) => {
            let asked = fields.get("oneOf").and_then(Value::as_array).map_or(0, Vec::len);
            if asked > ONE_OF_MAX {
                return Err(ConstraintError::OneOf { asked });
            }
            fields.values().try_for_each(check)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        let error = prepared("{\n \"type\": }").unwrap_err();
        assert_eq!(error, ConstraintError::NotJson { line: 2, column: 10 });
        let many = json!({ "properties": { "a": { "oneOf": vec![json!({}); ONE_OF_MAX + 1] } } });
        let error = prepared(&many.to_string()).unwrap_err();
        assert_eq!(error, ConstraintError::OneOf { asked: ONE_OF_MAX + 1 });
        // JSON itself is read to a depth of 128.
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        assert!(matches!(prepared(&deep), Err(ConstraintError::NotJson { .. })));
    }

    #[test]
    fn the_options_of_a_stranger_are_replaced() {
        let own = prepared(r#"{"x-guidance": {"lenient": true}, "type": "object"}"#).unwrap();
        assert!(own[OPTIONS].get("lenient").is_none());
        assert_eq!(prepared("true").unwrap()[OPTIONS], own[OPTIONS]);
    }
}

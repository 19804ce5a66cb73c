//! What a page says of itself in JSON-LD (schema.org).
//!
//! Only the few properties that a document records; everything is a claim of the page
//! and is checked for form where it is used. No context is resolved, nothing is fetched.

use serde_json::Value;

use crate::limits::{JSONLD_BYTES_MAX, JSONLD_OBJECTS_MAX};

/// Claims found in one script.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Name of the first author.
    pub(crate) author: Option<String>,
    /// `datePublished`, as written.
    pub(crate) published: Option<String>,
    /// URL of the licence, as written.
    pub(crate) licence: Option<String>,
}

/// Reads one script; rubbish gives no claims.
pub(crate) fn read(script: &str) -> Claims {
    let mut claims = Claims::default();
    if script.len() > JSONLD_BYTES_MAX {
        return claims;
    }
    // The parser refuses nesting deeper than 128.
    let Ok(value) = serde_json::from_str::<Value>(script.trim()) else { return claims };
    let mut queue = vec![&value];
    let mut visited = 0;
    while let Some(value) = queue.pop() {
        visited += 1;
        if visited > JSONLD_OBJECTS_MAX {
            break;
        }
        match value {
            // Last in, first out: reversed, so that the first object is read first.
            Value::Array(items) => {
                queue.extend(items.iter().take(JSONLD_OBJECTS_MAX).rev());
            }
            Value::Object(object) => {
                let text = |key| object.get(key).and_then(name_of);
                claims.author = claims.author.or_else(|| text("author"));
                claims.published = claims.published.or_else(|| text("datePublished"));
                claims.licence = claims.licence.or_else(|| text("license"));
                queue.extend(object.get("mainEntity"));
                queue.extend(object.get("@graph"));
            }
            _ => {}
        }
    }
    claims
}

/// A string, the `name`, `url` or `@id` of an object, or the first of a list of those.
fn name_of(value: &Value) -> Option<String> {
    let first = match value {
        Value::Array(items) => items.first()?,
        other => other,
    };
    let text = match first {
        Value::String(text) => text,
        Value::Object(object) => {
            ["name", "url", "@id"].iter().find_map(|key| object.get(*key)?.as_str())?
        }
        _ => return None,
    };
    (!text.trim().is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_lists_and_objects() {
        let claims = read(
            r#"{"@graph":[{"@type":"WebSite","name":"x"},
                {"@type":"Article","author":[{"name":"Ada"},{"name":"Bob"}],
                 "datePublished":"2026-01-02T03:04:05Z","license":{"@id":"https://l.example/"}}]}"#,
        );
        assert_eq!(claims.author.as_deref(), Some("Ada"));
        assert_eq!(claims.published.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(claims.licence.as_deref(), Some("https://l.example/"));
        assert_eq!(read(r#"[{"author":"A"},{"author":"B"}]"#).author.as_deref(), Some("A"));
    }

    #[test]
    fn rubbish_claims_nothing() {
        for script in
            ["", "{", "[1,null]", "{\"author\":7}", "{\"author\":[]}", "{\"author\":\" \"}"]
        {
            assert_eq!(read(script), Claims::default(), "{script}");
        }
        assert_eq!(read(&"[".repeat(200_000)), Claims::default());
        assert_eq!(read(&format!("[{}1]", "1,".repeat(100_000))), Claims::default());
    }
}

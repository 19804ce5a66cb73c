//! Reading a request field by field, so that an error names the one to blame.

use core::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::ApiFailure;

/// The fields of a request. `null` is the same as absence.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// A body that is no JSON object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiFailure> {
        // Only the place is told: the parser's words could repeat what was said.
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let message =
                format!("the body is not JSON: see line {line}, column {column}; send it again");
            ApiFailure::body(message)
        })?;
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(ApiFailure::body("the body is not a JSON object")),
        }
    }

    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The value of a field that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn need(&self, name: &str) -> Result<&Value, ApiFailure> {
        self.get(name).ok_or_else(|| ApiFailure::invalid(name, format!("{name} is missing")))
    }

    /// A text.
    ///
    /// # Errors
    /// Anything else.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ApiFailure> {
        let wrong = || ApiFailure::invalid(name, format!("{name} must be a text"));
        self.get(name).map(|value| value.as_str().ok_or_else(wrong)).transpose()
    }

    /// Yes or no.
    ///
    /// # Errors
    /// Anything else.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiFailure> {
        let wrong = || ApiFailure::invalid(name, format!("{name} must be true or false"));
        self.get(name).map_or(Ok(false), |value| value.as_bool().ok_or_else(wrong))
    }

    /// A whole number within a range.
    ///
    /// # Errors
    /// Anything else.
    pub(super) fn whole(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiFailure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = || {
            let (least, most) = (range.start(), range.end());
            let message = format!("{name} must be a whole number from {least} to {most}");
            ApiFailure::invalid(name, message)
        };
        let number = value.as_u64().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(wrong)
    }

    /// A number within a range, in thousandths, rounded.
    ///
    /// # Errors
    /// Anything else.
    pub(super) fn permille(
        &self,
        name: &str,
        range: RangeInclusive<i32>,
        absent: i32,
    ) -> Result<i32, ApiFailure> {
        let Some(value) = self.get(name) else { return Ok(absent) };
        let (least, most) = (f64::from(*range.start()) / 1e3, f64::from(*range.end()) / 1e3);
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        let number = number.ok_or_else(|| {
            let message = format!("{name} must be a number from {least} to {most}");
            ApiFailure::invalid(name, message)
        })?;
        // Within the range, so it fits.
        Ok((number * 1e3).round() as i32)
    }

    /// Refuses a field that asks for what is not done here; `harmless` says which values do not.
    ///
    /// # Errors
    /// Any other value.
    pub(super) fn refuse(
        &self,
        name: &str,
        harmless: impl Fn(&Value) -> bool,
        instead: &str,
    ) -> Result<(), ApiFailure> {
        match self.get(name) {
            Some(value) if !harmless(value) => {
                let message = format!("{name} is not supported with this value: {instead}");
                Err(ApiFailure::unsupported(name, message))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a value says nothing: false, zero, empty.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: &Value) -> Fields {
        Fields::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn values_are_checked_and_their_field_is_named() {
        let some = fields(&json!({
            "n": 1, "half": 0.5, "flag": true, "text": "x", "nothing": null, "big": 99, "minus": -1,
        }));
        assert_eq!(some.whole("n", 1..=1).unwrap(), Some(1));
        assert_eq!(some.whole("nothing", 1..=1).unwrap(), None);
        assert_eq!(some.permille("half", 0..=2_000, 7).unwrap(), 500);
        assert_eq!(some.permille("absent", 0..=2_000, 7).unwrap(), 7);
        assert!(some.flag("flag").unwrap() && !some.flag("absent").unwrap());
        assert_eq!(some.text("text").unwrap(), Some("x"));
        for error in [
            some.whole("big", 0..=20).unwrap_err(),
            some.whole("minus", 0..=20).unwrap_err(),
            some.whole("half", 0..=20).unwrap_err(),
            some.permille("big", 0..=2_000, 0).unwrap_err(),
            some.permille("text", 0..=2_000, 0).unwrap_err(),
            some.flag("n").unwrap_err(),
            some.text("n").map(|_| ()).unwrap_err(),
            some.need("absent").map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(error.status.as_u16(), 400);
            assert!(error.message.contains(error.param.as_deref().unwrap()), "{error:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_without_repeating_it() {
        for body in ["secret words", "[1]", "{\"a\":secret}", "{", ""] {
            let error = Fields::parse(body.as_bytes()).map(|_| ()).unwrap_err();
            assert!(!error.message.contains("secret"), "{error:?}");
            assert_eq!(error.code, "invalid_body");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(Fields::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn what_says_nothing_is_harmless() {
        for value in [json!(false), json!(0), json!(""), json!([]), json!({})] {
            assert!(is_empty(&value));
            assert!(fields(&json!({ "tools": value })).refuse("tools", is_empty, "").is_ok());
        }
        let error = fields(&json!({"tools": [1]})).refuse("tools", is_empty, "leave it out");
        let error = error.unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.param.as_deref()),
            ("unsupported_parameter", Some("tools"))
        );
    }
}

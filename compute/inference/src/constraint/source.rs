//! What callers write.

use super::tools::ToolCalls;

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON by a schema: the schema's text. What of JSON Schema is not supported is refused by name
    /// when it is compiled.
    JsonSchema(String),
    /// A regular expression that the whole answer matches, in the syntax of Rust's `regex` crate,
    /// without look-around.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A grammar in llguidance's variant of Lark.
    Grammar(String),
    /// Calls of tools, or text that may hold some.
    Tools(ToolCalls),
}

/// Domain of the names of constraints.
const CONSTRAINT_DOMAIN: &str = "openledger constraint v1";

impl Constraint {
    /// Bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::JsonObject => 0,
            Self::JsonSchema(text) | Self::Regex(text) | Self::Grammar(text) => text.len(),
            Self::Choice(texts) => texts.iter().map(String::len).sum(),
            Self::Tools(calls) => calls.bytes(),
        }
    }

    /// Names it: equal for equal ones only.
    pub(super) fn key(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(CONSTRAINT_DOMAIN);
        let mut put = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        match self {
            Self::JsonObject => put("object"),
            Self::JsonSchema(text) => ["schema", text].into_iter().for_each(put),
            Self::Regex(text) => ["regex", text].into_iter().for_each(put),
            Self::Grammar(text) => ["grammar", text].into_iter().for_each(put),
            Self::Choice(texts) => {
                put("choice");
                texts.iter().for_each(|text| put(text));
            }
            Self::Tools(calls) => {
                put("tools");
                put(&format!("{:?} {:?} {}", calls.form, calls.rule, calls.parallel));
                for tool in &calls.tools {
                    put(&tool.name);
                    put(&tool.parameters);
                }
            }
        }
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_constraints_have_different_names() {
        let choice =
            |texts: &[&str]| Constraint::Choice(texts.iter().map(|t| (*t).into()).collect());
        let all = [
            Constraint::JsonObject,
            Constraint::JsonSchema("{}".to_owned()),
            Constraint::Regex("{}".to_owned()),
            Constraint::Grammar("{}".to_owned()),
            choice(&["ab", "c"]),
            choice(&["a", "bc"]),
            choice(&["abc"]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one.key(), one.clone().key());
            assert!(all.iter().skip(at + 1).all(|other| other.key() != one.key()), "{one:?}");
        }
    }
}

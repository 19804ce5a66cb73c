//! Calls of tools: the grammar of what models write when they call one.
//!
//! Each family of models was trained on a form of its own. The grammar holds a call to that form, to
//! the names of the tools and to the schemas of their parameters; text around calls is free where
//! the caller leaves it to the model whether to call.

use serde_json::Value;

use super::error::ConstraintError;
use super::schema::prepared;
use crate::limits::{CALLS_MAX, TOOL_NAME_CHARS_MAX, TOOLS_MAX};

/// How a model writes calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallForm {
    /// `<tool_call>` and `</tool_call>` around an object with `name` and `arguments`, as Hermes and
    /// Qwen have it.
    Hermes,
    /// An object with `name` and `parameters`, as Llama 3 has it: one call, alone.
    Llama {
        /// The control token that may stand before it.
        before: Option<u32>,
    },
    /// A list of objects with `name` and `arguments`, as Mistral has it.
    Mistral {
        /// The control token that stands before it.
        before: Option<u32>,
    },
}

/// Whether tools must be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRule {
    /// As the model likes: text, calls, or both.
    Free,
    /// One at least, and nothing else.
    Must,
}

/// A tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The text of the JSON schema of its parameters.
    pub parameters: String,
}

/// What tools may be called, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCalls {
    /// The tools.
    pub tools: Vec<Tool>,
    /// How the model writes calls.
    pub form: CallForm,
    /// Whether it must.
    pub rule: CallRule,
    /// Whether several calls may come in one answer.
    pub parallel: bool,
}

impl ToolCalls {
    pub(super) fn bytes(&self) -> usize {
        self.tools.iter().map(|tool| tool.name.len() + tool.parameters.len()).sum()
    }

    /// The grammar in the library's variant of Lark.
    ///
    /// # Errors
    /// No or too many tools, names that cannot be used, parameters that are no schemas.
    pub(super) fn grammar(&self) -> Result<String, ConstraintError> {
        let asked = self.tools.len();
        let named = |tool: &Tool| {
            let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            (1..=TOOL_NAME_CHARS_MAX).contains(&tool.name.len()) && tool.name.chars().all(fit)
        };
        if !(1..=TOOLS_MAX).contains(&asked) || !self.tools.iter().all(named) {
            return Err(ConstraintError::Tools { asked });
        }
        let field =
            if matches!(self.form, CallForm::Llama { .. }) { "parameters" } else { "arguments" };
        let mut lines = vec![self.start()];
        let names: Vec<String> = (0..asked).map(|at| format!("tool{at}")).collect();
        lines.push(format!("call: {}", names.join(" | ")));
        for (at, tool) in self.tools.iter().enumerate() {
            let begins = format!("{{\"name\": \"{}\", \"{field}\": ", tool.name);
            lines.push(format!("tool{at}: {} with{at} \"}}\"", quoted(&begins)));
            let schema = prepared(&tool.parameters).map_err(|source| ConstraintError::Tool {
                name: tool.name.clone(),
                source: Box::new(source),
            })?;
            lines.push(format!("with{at}: %json {}", of_object(schema)));
        }
        Ok(lines.join("\n"))
    }

    /// The rules down to one call.
    fn start(&self) -> String {
        let more = if self.parallel { CALLS_MAX - 1 } else { 0 };
        match (&self.form, self.rule) {
            (CallForm::Hermes, CallRule::Must) => {
                let ends = quoted("\n</tool_call>");
                let (first, next) = (quoted("<tool_call>\n"), quoted("\n<tool_call>\n"));
                let next = repeated(&format!("{next} call {ends}"), more);
                format!("start: {first} call {ends} {next}")
            }
            (CallForm::Hermes, CallRule::Free) => {
                let (begin, ends) = (quoted("\n"), quoted("\n</tool_call>"));
                let calls = repeated(&format!("said {begin} call {ends}"), more + 1);
                let said = "said[lazy]: /(.|\\n)*<tool_call>/";
                format!("start: {calls} TEXT?\n{said}\nTEXT: /(.|\\n)+/")
            }
            (CallForm::Llama { .. }, CallRule::Must) => "start: call".to_owned(),
            (CallForm::Llama { before }, CallRule::Free) => {
                let marked = before.map(|_| format!(" | {}call", control(*before)));
                format!("start: TEXT? | call{}\nTEXT: /[^{{](.|\\n)*/", marked.unwrap_or_default())
            }
            (CallForm::Mistral { before }, rule) => {
                let next = repeated(&format!("{} call", quoted(", ")), more);
                let calls = format!("calls: {} call {next} \"]\"", quoted("["));
                let marked = format!("{}calls", control(*before));
                match (rule, before) {
                    (CallRule::Must, _) => format!("start: {marked}\n{calls}"),
                    (CallRule::Free, Some(_)) => {
                        format!("start: TEXT? | {marked}\nTEXT: /(.|\\n)+/\n{calls}")
                    }
                    (CallRule::Free, None) => {
                        format!("start: TEXT? | calls\nTEXT: /[^\\[](.|\\n)*/\n{calls}")
                    }
                }
            }
        }
    }
}

/// Parameters that say nothing of their kind are fields of an object.
fn of_object(mut schema: Value) -> Value {
    let kinds = ["type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"];
    if let Some(fields) = schema.as_object_mut()
        && !kinds.iter().any(|kind| fields.contains_key(*kind))
    {
        fields.insert("type".to_owned(), "object".into());
    }
    schema
}

/// A rule that may come so many times, or not at all.
fn repeated(rule: &str, most: usize) -> String {
    if most == 0 { String::new() } else { format!("({rule}){{0,{most}}}") }
}

/// A control token, where there is one.
fn control(token: Option<u32>) -> String {
    token.map(|token| format!("<[{token}]> ")).unwrap_or_default()
}

/// A text as a literal of the grammar.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_cannot_be_named_or_read_are_refused() {
        let tool = |name: &str, parameters: &str| Tool {
            name: name.to_owned(),
            parameters: parameters.to_owned(),
        };
        let calls = |tools: Vec<Tool>| ToolCalls {
            tools,
            form: CallForm::Hermes,
            rule: CallRule::Must,
            parallel: false,
        };
        for wrong in
            [vec![], vec![tool("a\"b", "{}")], vec![tool("", "{}")], vec![tool("a", "{}"); 200]]
        {
            let asked = wrong.len();
            assert_eq!(calls(wrong).grammar(), Err(ConstraintError::Tools { asked }));
        }
        let error = calls(vec![tool("cook", "{")]).grammar().unwrap_err().to_string();
        assert!(error.contains("of the tool cook: ") && error.contains("not JSON"), "{error}");
        let fine = calls(vec![tool("cook", "{}"), tool("cook_2", "{}")]).grammar().unwrap();
        assert!(
            fine.contains("with1: %json {\"x-guidance\"") && fine.contains("\"type\":\"object\"}")
        );
        assert!(
            fine.contains(r#"tool1: "{\"name\": \"cook_2\", \"arguments\": " with1 "}""#),
            "{fine}"
        );
    }
}

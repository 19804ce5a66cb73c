//! Tools in conversations: how a model's template shows them, and what stands in for that where the
//! template knows nothing of tools.

use serde_json::Value;

use super::Message;

/// How a model writes calls of tools, as far as its template tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolForm {
    /// `<tool_call>` and `</tool_call>` around an object with `name` and `arguments`: Hermes, Qwen,
    /// and all whose template says nothing.
    Hermes,
    /// An object with `name` and `parameters` that is the whole answer: Llama 3.
    Llama,
    /// `[TOOL_CALLS]` and a list of objects with `name` and `arguments`: Mistral.
    Mistral,
}

impl ToolForm {
    /// The form that a template's source speaks of.
    pub(super) fn of(source: &str) -> Self {
        if source.contains("[TOOL_CALLS]") {
            Self::Mistral
        } else if source.contains("<tool_call>") {
            Self::Hermes
        } else if source.contains("<|python_tag|>") || source.contains("\"parameters\": ") {
            Self::Llama
        } else {
            Self::Hermes
        }
    }
}

/// Whether a template shows tools.
pub(super) fn shows_tools(source: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    source.match_indices("tools").any(|(at, word)| {
        let before = source.get(..at).and_then(|text| text.chars().next_back());
        let after = source.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The conversation for a template that knows nothing of tools: an instruction lists them, calls are
/// what the assistant said, and results are what the user says next.
pub(super) fn spelled_out(messages: &[Message], tools: &[Value]) -> Vec<Message> {
    let mut spelled: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        let mut plain = Message::new(message.role.clone(), message.content.clone());
        for call in &message.tool_calls {
            let function = call.get("function").unwrap_or(call);
            let text = format!("<tool_call>\n{}\n</tool_call>", written(&called(function)));
            if !plain.content.is_empty() {
                plain.content.push('\n');
            }
            plain.content.push_str(&text);
        }
        if plain.role == "tool" {
            plain.role = "user".to_owned();
            plain.content = format!("<tool_response>\n{}\n</tool_response>", plain.content);
            // Results of one turn are one message, since users and assistants take turns.
            if let Some(before) = spelled.last_mut().filter(|before| before.is_result) {
                before.content.push('\n');
                before.content.push_str(&plain.content);
                continue;
            }
            plain.is_result = true;
        }
        spelled.push(plain);
    }
    if !tools.is_empty() {
        let instruction = instruction(tools);
        match spelled.first_mut().filter(|first| first.role == "system") {
            Some(first) => {
                first.content.push_str("\n\n");
                first.content.push_str(&instruction);
            }
            None => spelled.insert(0, Message::new("system", instruction)),
        }
    }
    spelled
}

fn called(function: &Value) -> Value {
    let field = |name: &str| function.get(name).cloned().unwrap_or_default();
    let mut call = serde_json::Map::new();
    call.insert("name".to_owned(), field("name"));
    call.insert("arguments".to_owned(), field("arguments"));
    Value::Object(call)
}

fn instruction(tools: &[Value]) -> String {
    let list: Vec<String> =
        tools.iter().map(|tool| written(tool.get("function").unwrap_or(tool))).collect();
    format!(
        "You can call these functions:\n{}\n\nTo call one, write only this, with the function's name and its arguments as JSON:\n<tool_call>\n{{\"name\": \"...\", \"arguments\": {{...}}}}\n</tool_call>",
        list.join("\n")
    )
}

/// JSON with the spaces that Python writes, which is what models have seen.
fn written(value: &Value) -> String {
    super::functions::python_json(value, None).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_tell_their_form() {
        for (source, form, shows) in [
            ("{% for m in messages %}{{ m.content }}{% endfor %}", ToolForm::Hermes, false),
            ("{% if tools %}<tool_call>{% endif %}", ToolForm::Hermes, true),
            ("{% if builtin_tools %}<|python_tag|>{% endif %}", ToolForm::Llama, false),
            (
                "{%- if not tools is defined %}{\"name\": x, \"parameters\": y}",
                ToolForm::Llama,
                true,
            ),
            ("[AVAILABLE_TOOLS]{{ tools | tojson }}[TOOL_CALLS]", ToolForm::Mistral, true),
        ] {
            assert_eq!((ToolForm::of(source), shows_tools(source)), (form, shows), "{source}");
        }
    }

    #[test]
    fn calls_and_results_become_what_was_said() {
        let call = json!({"id": "a1", "type": "function", "function": {
            "name": "weather", "arguments": {"city": "Z\u{fc}rich", "days": [1, 2]},
        }});
        let mut asked = Message::new("assistant", "");
        asked.tool_calls = vec![call];
        let result = |text: &str| Message::new("tool", text);
        let messages = [
            Message::new("user", "Rain?"),
            asked,
            result("no"),
            result("yes"),
            Message::new("user", "?"),
        ];
        let tools =
            [json!({"type": "function", "function": {"name": "weather", "description": "d"}})];
        let spelled = spelled_out(&messages, &tools);
        let roles: Vec<&str> = spelled.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user", "user"]);
        assert!(spelled[0].content.contains("{\"name\": \"weather\", \"description\": \"d\"}"));
        assert_eq!(
            spelled[2].content,
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Z\u{fc}rich\", \"days\": [1, 2]}}\n</tool_call>"
        );
        let results =
            "<tool_response>\nno\n</tool_response>\n<tool_response>\nyes\n</tool_response>";
        assert_eq!(spelled[3].content, results);
        let with_system = spelled_out(&[Message::new("system", "Be kind.")], &tools);
        assert_eq!(with_system.len(), 1);
        assert!(with_system[0].content.starts_with("Be kind.\n\nYou can call"));
        assert_eq!(spelled_out(&messages[..1], &[]), messages[..1]);
    }
}

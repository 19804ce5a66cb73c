//! Tools in requests: the fields that name them, and messages that call them or bring their results.

use std::collections::BTreeSet;

use openledger_wire::call::{CallTool, CallTools, ToolCall, ToolChoice, ToolPart};
use openledger_wire::{List, Prose, Text, limits as wire_limits};
use serde_json::{Value, json};

use super::ApiFailure;
use super::fields::{Fields, is_empty};

/// The tools that a model may call; none where there are none, or none may be called.
///
/// # Errors
/// The field that is wrong.
pub(super) fn tools(fields: &Fields) -> Result<Option<CallTools>, ApiFailure> {
    let list = match fields.get("tools") {
        None => &Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(ApiFailure::invalid("tools", "tools must be a list of functions")),
    };
    let most = wire_limits::TOOLS_MAX;
    if list.len() > most {
        let message = format!("{} tools are more than {most}", list.len());
        return Err(ApiFailure::invalid("tools", message));
    }
    let read: Result<Vec<CallTool>, _> =
        list.iter().enumerate().map(|(at, value)| tool(at, value)).collect();
    let read = read?;
    let mut names = BTreeSet::new();
    if let Some(at) = read.iter().position(|tool| !names.insert(tool.name.to_string())) {
        let message = "two functions have this name; give each its own";
        return Err(ApiFailure::invalid(format!("tools[{at}].function.name"), message));
    }
    let choice = choice(fields, &names)?;
    let parallel =
        fields.get("parallel_tool_calls").is_none() || fields.flag("parallel_tool_calls")?;
    let Some(choice) = choice.filter(|_| !read.is_empty()) else { return Ok(None) };
    let tools = List::new(read).unwrap_or_default();
    Ok(Some(CallTools { tools, choice, parallel }))
}

fn tool(at: usize, value: &Value) -> Result<CallTool, ApiFailure> {
    let param = |field: &str| format!("tools[{at}].{field}");
    if value.get("type").and_then(Value::as_str) != Some("function") {
        return Err(ApiFailure::unsupported(
            param("type"),
            "only tools of type function are supported",
        ));
    }
    let function = value.get("function").and_then(Value::as_object).ok_or_else(|| {
        ApiFailure::invalid(param("function"), "a tool needs a function with a name")
    })?;
    let name = function.get("name").and_then(Value::as_str).filter(|name| is_name(name));
    let name = name.ok_or_else(|| {
        let message = "a function's name has 1 to 64 letters, digits, underscores, dots or dashes";
        ApiFailure::invalid(param("function.name"), message)
    })?;
    let parameters = match function.get("parameters") {
        None | Some(Value::Null) => json!({ "type": "object", "properties": {} }),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => {
            let message = "parameters must be a JSON schema";
            return Err(ApiFailure::invalid(param("function.parameters"), message));
        }
    };
    let long = |field: &str| {
        let most = wire_limits::TOOLS_BYTES_MAX;
        ApiFailure::invalid(param(field), format!("it has more than {most} bytes; say less"))
    };
    let description = function.get("description").and_then(Value::as_str).unwrap_or_default();
    Ok(CallTool {
        name: Text::clipped(name),
        description: Prose::new(description).map_err(|_| long("function.description"))?,
        parameters: Prose::new(parameters.to_string()).map_err(|_| long("function.parameters"))?,
    })
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=64).contains(&name.len()) && name.chars().all(fits)
}

/// Which tools must be called; nothing where none may be.
fn choice(fields: &Fields, names: &BTreeSet<String>) -> Result<Option<ToolChoice>, ApiFailure> {
    let param = "tool_choice";
    let Some(value) = fields.get(param) else { return Ok(Some(ToolChoice::Auto)) };
    let choice = match value {
        Value::String(word) => match word.as_str() {
            "none" => return Ok(None),
            "auto" => return Ok(Some(ToolChoice::Auto)),
            "required" => ToolChoice::Required,
            _ => return Err(no_choice()),
        },
        _ => {
            let name = value.get("function").and_then(|function| function.get("name"));
            let name = name.and_then(Value::as_str).ok_or_else(no_choice)?;
            if !names.contains(name) {
                let message = "no function of this name is among tools";
                return Err(ApiFailure::invalid("tool_choice.function.name", message));
            }
            ToolChoice::Named(Text::clipped(name))
        }
    };
    if names.is_empty() {
        let message = "tool_choice asks for a call, and there are no tools; send some";
        return Err(ApiFailure::invalid(param, message));
    }
    Ok(Some(choice))
}

fn no_choice() -> ApiFailure {
    let message = "tool_choice must be none, auto, required or {\"type\": \"function\", \"function\": {\"name\"}}";
    ApiFailure::invalid("tool_choice", message)
}

/// What a message has to do with tools; `param` names the message.
///
/// # Errors
/// The field that is wrong.
pub(super) fn part(
    role: &str,
    message: &Value,
    param: &str,
) -> Result<Option<ToolPart>, ApiFailure> {
    let called = message.get("tool_calls").filter(|calls| !is_empty(calls));
    match (role, called) {
        ("assistant", Some(calls)) => {
            let param = format!("{param}.tool_calls");
            let most = wire_limits::TOOL_CALLS_MAX;
            let wrong =
                || ApiFailure::invalid(&*param, format!("tool_calls lists 1 to {most} calls"));
            let calls = calls.as_array().ok_or_else(wrong)?;
            let read: Result<Vec<_>, _> = calls
                .iter()
                .enumerate()
                .map(|(at, value)| call(value, &format!("{param}[{at}]")))
                .collect();
            Ok(Some(ToolPart::Calls(List::new(read?).map_err(|_| wrong())?)))
        }
        ("tool", _) => {
            let short = |field: &str| {
                let value = message.get(field).and_then(Value::as_str).unwrap_or_default();
                let long = |_| {
                    ApiFailure::invalid(format!("{param}.{field}"), "it has more than 64 bytes")
                };
                Text::new(value).map_err(long)
            };
            let (call, name) = (short("tool_call_id")?, short("name")?);
            if call.is_empty() {
                let message = "a tool's message names the call that it answers";
                return Err(ApiFailure::invalid(format!("{param}.tool_call_id"), message));
            }
            Ok(Some(ToolPart::Result { call, name }))
        }
        (_, Some(_)) => {
            let message = "only an assistant's message has tool_calls";
            Err(ApiFailure::invalid(format!("{param}.tool_calls"), message))
        }
        (_, None) => Ok(None),
    }
}

fn call(value: &Value, param: &str) -> Result<ToolCall, ApiFailure> {
    let wrong =
        |field: &str, message: &str| ApiFailure::invalid(format!("{param}.{field}"), message);
    let text = |at: &Value, field: &str| at.get(field).and_then(Value::as_str).map(str::to_owned);
    let function = value.get("function").unwrap_or(&Value::Null);
    let name = text(function, "name").filter(|name| is_name(name));
    let name = name.ok_or_else(|| wrong("function.name", "a call names its function"))?;
    let arguments = text(function, "arguments").filter(|arguments| {
        arguments.is_empty()
            || serde_json::from_str::<Value>(arguments).is_ok_and(|v| v.is_object())
    });
    let message = "arguments must be the text of a JSON object";
    let arguments = arguments.ok_or_else(|| wrong("function.arguments", message))?;
    let id = Text::new(text(value, "id").unwrap_or_default());
    Ok(ToolCall {
        id: id.map_err(|_| wrong("id", "it has more than 64 bytes"))?,
        name: Text::clipped(&name),
        arguments: Prose::new(arguments)
            .map_err(|_| wrong("function.arguments", "it is too long"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Option<CallTools>, ApiFailure> {
        tools(&Fields::parse(value.to_string().as_bytes()).unwrap())
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object"}}})
    }

    #[test]
    fn tools_and_choices_are_read() {
        assert_eq!(read(json!({})).unwrap(), None);
        assert_eq!(read(json!({"tools": []})).unwrap(), None);
        assert_eq!(read(json!({"tools": [function("a")], "tool_choice": "none"})).unwrap(), None);
        let auto = read(
            json!({"tools": [function("a"), {"type": "function", "function": {"name": "b"}}]}),
        );
        let auto = auto.unwrap().unwrap();
        assert_eq!((auto.tools.len(), &auto.choice, auto.parallel), (2, &ToolChoice::Auto, true));
        assert_eq!(&*auto.tools[1].parameters, r#"{"type":"object","properties":{}}"#);
        let named = json!({"tools": [function("a")], "parallel_tool_calls": false,
            "tool_choice": {"type": "function", "function": {"name": "a"}}});
        let named = read(named).unwrap().unwrap();
        assert_eq!((named.choice, named.parallel), (ToolChoice::Named(Text::clipped("a")), false));
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, param) in [
            (json!({"tools": 5}), "tools"),
            (json!({"tools": vec![function("a"); 129]}), "tools"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"tools": [function("a"), {"type": "function"}]}), "tools[1].function"),
            (json!({"tools": [function("a b")]}), "tools[0].function.name"),
            (json!({"tools": [function("a"), function("a")]}), "tools[1].function.name"),
            (
                json!({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}),
                "tools[0].function.parameters",
            ),
            (json!({"tools": [function("a")], "tool_choice": "maybe"}), "tool_choice"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (
                json!({"tools": [function("a")], "tool_choice": {"type": "function", "function": {"name": "b"}}}),
                "tool_choice.function.name",
            ),
            (json!({"tools": [function("a")], "parallel_tool_calls": 1}), "parallel_tool_calls"),
        ] {
            assert_eq!(read(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn messages_call_and_answer() {
        let asked = json!({"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "a", "arguments": "{\"x\":1}"}}]});
        let Some(ToolPart::Calls(calls)) = part("assistant", &asked, "m").unwrap() else {
            panic!()
        };
        assert_eq!(
            (&*calls[0].id, &*calls[0].name, &*calls[0].arguments),
            ("c1", "a", "{\"x\":1}")
        );
        let told = json!({"tool_call_id": "c1", "content": "3"});
        let told = part("tool", &told, "m").unwrap();
        assert_eq!(
            told,
            Some(ToolPart::Result { call: Text::clipped("c1"), name: Text::default() })
        );
        assert_eq!(part("user", &json!({"tool_calls": []}), "m").unwrap(), None);
        for (role, message, param) in [
            ("user", asked, "m.tool_calls"),
            ("tool", json!({}), "m.tool_call_id"),
            ("assistant", json!({"tool_calls": 5}), "m.tool_calls"),
            (
                "assistant",
                json!({"tool_calls": [{"id": "c", "function": {"name": "a", "arguments": "[]"}}]}),
                "m.tool_calls[0].function.arguments",
            ),
            (
                "assistant",
                json!({"tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]}),
                "m.tool_calls[0].function.name",
            ),
        ] {
            let error = part(role, &message, "m").unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{message}");
        }
    }
}

//! Tools and constraints of calls, in the words of templates and of the engine.
//!
//! The caller says which tools there are; how the model at hand writes calls of them is known here,
//! from its template. Who asked finds the calls in the answer's text.

use openledger_inference::{CallForm, CallRule, Constraint, Tool, ToolCalls};
use openledger_models::{Message, Model, ToolForm};
use openledger_wire::call::{
    Call, CallConstraint, CallTools, ChatMessage, Prompt, ToolCall, ToolChoice, ToolPart,
};
use serde_json::{Value, json};

/// Messages as templates take them.
pub(super) fn messages_of(messages: &[ChatMessage]) -> Vec<Message> {
    messages.iter().map(message_of).collect()
}

fn message_of(said: &ChatMessage) -> Message {
    let mut message = Message::new(said.role.to_string(), said.content.to_owned().into_string());
    match &said.tool {
        None => {}
        Some(ToolPart::Calls(calls)) => message.tool_calls = calls.iter().map(call_of).collect(),
        Some(ToolPart::Result { call, name }) => {
            message.tool_call_id = Some(call.to_string());
            message.name = Some(name.to_string()).filter(|name| !name.is_empty());
        }
    }
    message
}

fn call_of(call: &ToolCall) -> Value {
    // Templates write the arguments as JSON themselves.
    let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
    json!({
        "id": &*call.id, "type": "function",
        "function": { "name": &*call.name, "arguments": Value::clone(&arguments) },
    })
}

/// Tools as templates take them.
pub(super) fn tools_of(call: &Call) -> Vec<Value> {
    let Some(asked) = &call.tools else { return Vec::new() };
    let tool = |tool: &openledger_wire::call::CallTool| {
        let parameters: Value =
            serde_json::from_str(&tool.parameters).unwrap_or_else(|_| json!({}));
        let mut function = serde_json::Map::new();
        function.insert("name".to_owned(), json!(&*tool.name));
        if !tool.description.is_empty() {
            function.insert("description".to_owned(), json!(&*tool.description));
        }
        function.insert("parameters".to_owned(), parameters);
        json!({ "type": "function", "function": function })
    };
    asked.tools.iter().map(tool).collect()
}

/// What the answer to a call must look like. A constraint of its own goes before tools that need
/// not be called.
pub(super) fn constraint_of(model: &Model, call: &Call) -> Option<Constraint> {
    let tools = call.tools.as_deref().filter(|_| matches!(call.prompt, Prompt::Chat(_)));
    match (call.constraint.as_deref(), tools) {
        (Some(_) | None, Some(tools)) if tools.choice != ToolChoice::Auto => {
            Some(Constraint::Tools(calls_of(model, tools)))
        }
        (Some(constraint), _) => Some(plain(constraint)),
        (None, Some(tools)) => Some(Constraint::Tools(calls_of(model, tools))),
        (None, None) => None,
    }
}

fn plain(constraint: &CallConstraint) -> Constraint {
    let text = |text: &str| text.to_owned();
    match constraint {
        CallConstraint::JsonObject => Constraint::JsonObject,
        CallConstraint::JsonSchema(schema) => Constraint::JsonSchema(text(schema)),
        CallConstraint::Regex(regex) => Constraint::Regex(text(regex)),
        CallConstraint::Grammar(grammar) => Constraint::Grammar(text(grammar)),
        CallConstraint::Choice(texts) => {
            Constraint::Choice(texts.iter().map(|one| text(one)).collect())
        }
    }
}

fn calls_of(model: &Model, asked: &CallTools) -> ToolCalls {
    let named = match &asked.choice {
        ToolChoice::Named(name) => Some(name),
        ToolChoice::Auto | ToolChoice::Required => None,
    };
    let wanted = asked.tools.iter().filter(|tool| named.is_none_or(|name| *name == tool.name));
    let tools = wanted
        .map(|tool| Tool { name: tool.name.to_string(), parameters: (*tool.parameters).to_owned() })
        .collect();
    let control = |text: &str| {
        let tokenizer = model.tokenizer();
        tokenizer.token_of_text(text).filter(|token| tokenizer.is_control(*token))
    };
    let form = match model.chat_template().tool_form() {
        ToolForm::Hermes => CallForm::Hermes,
        ToolForm::Llama => CallForm::Llama { before: control("<|python_tag|>") },
        ToolForm::Mistral => CallForm::Mistral { before: control("[TOOL_CALLS]") },
    };
    let rule = if asked.choice == ToolChoice::Auto { CallRule::Free } else { CallRule::Must };
    ToolCalls { tools, form, rule, parallel: asked.parallel && named.is_none() }
}

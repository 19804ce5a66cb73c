//! `POST /v1/chat/completions`.

use openledger_wire::call::{
    Call, CallEnd, CallToken, ChatMessage, FinishReason, Prompt, ToolChoice, ToolPart,
};
use openledger_wire::{List, Prose, Text, limits as wire_limits};
use serde_json::{Value, json};

use super::answer::{Job, Reply, Shape, reason};
use super::calls::Said;
use super::fields::{Fields, is_empty};
use super::server::Context;
use super::{ApiFailure, adapters, format, logprobs, sampling, tools};
use crate::limits;
use crate::serving::Wishes;

/// What a request asks for.
///
/// # Errors
/// The first field that cannot be used.
pub(super) fn job(context: &Context, fields: &Fields) -> Result<Job, ApiFailure> {
    let model = fields.need("model").and(fields.text("model"))?.unwrap_or_default();
    refuse(fields)?;
    let wants = fields.flag("logprobs")?;
    let top = fields.whole("top_logprobs", 0..=limits::API_TOP_LOGPROBS_MAX)?;
    if top.is_some_and(|top| top > 0) && !wants {
        let message = "top_logprobs is only allowed with logprobs: true";
        return Err(ApiFailure::invalid("top_logprobs", message));
    }
    let top = top.unwrap_or(0);
    let messages = messages(fields.need("messages")?)?;
    let streaming = sampling::streaming(fields)?;
    let names = ["max_completion_tokens", "max_tokens"];
    let tokens_max = sampling::tokens_max(fields, &names, limits::API_TOKENS_DEFAULT)?;
    let (sampling, stop) = (sampling::sampling(fields)?, sampling::stops(fields)?);
    let (format, tools) = (format::format(fields)?, tools::tools(fields)?);
    if let (Some((_, field)), Some(tools)) = (&format, &tools)
        && tools.choice != ToolChoice::Auto
    {
        let message = format!("{field} is not possible where tool_choice asks for a call");
        return Err(ApiFailure::invalid(*field, message));
    }
    // An answer of a format of its own is no call.
    let named = tools
        .as_ref()
        .filter(|_| format.is_none())
        .map(|tools| tools.tools.iter().map(|tool| tool.name.to_string()).collect());
    let blamed = format.as_ref().map_or("tools", |(_, field)| *field);
    let target = adapters::target(context, fields, model)?;
    let call = Call {
        model: target.base,
        adapters: List::new(target.adapters).unwrap_or_default(),
        prompt: Prompt::Chat(messages),
        generated: List::default(),
        tokens_max,
        sampling,
        stop,
        top_logprobs: if wants { sampling::named(top) } else { 0 },
        constraint: format.map(|(constraint, _)| Box::new(constraint)),
        tools: tools.map(Box::new),
    };
    Ok(Job {
        shape: Shape::Chat,
        model: model.to_owned(),
        calls: vec![call],
        wishes: Wishes { merge: target.merge, ..sampling::wishes(fields)? },
        streaming,
        logprobs: wants.then(|| usize::try_from(top).unwrap_or_default()),
        tools: named,
        format: blamed,
    })
}

/// Refuses what would change the answer and is not done here.
fn refuse(fields: &Fields) -> Result<(), ApiFailure> {
    sampling::refuse_unsupported(fields)?;
    let leave = "leave it out";
    for name in ["audio", "web_search_options"] {
        fields.refuse(name, is_empty, leave)?;
    }
    fields.refuse("functions", is_empty, "use tools")?;
    let is_free = |value: &Value| value == "none" || value == "auto";
    fields.refuse("function_call", is_free, "use tool_choice")?;
    let only_text = |value: &Value| *value == json!(["text"]) || is_empty(value);
    fields.refuse("modalities", only_text, "only [\"text\"]")
}

type Messages = List<ChatMessage, { wire_limits::PROMPT_MESSAGES_MAX }>;

fn messages(value: &Value) -> Result<Messages, ApiFailure> {
    let wrong = || {
        let message = "messages must be a list of at least one message with role and content";
        ApiFailure::invalid("messages", message)
    };
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or_else(wrong)?;
    if list.len() > Messages::MAX {
        let message = format!("{} messages are more than {}", list.len(), Messages::MAX);
        return Err(ApiFailure::too_long("messages", message));
    }
    let all: Result<Vec<_>, _> =
        list.iter().enumerate().map(|(at, value)| message(at, value)).collect();
    let all = all?;
    let bytes: usize = all.iter().map(bytes_of).sum();
    if bytes > wire_limits::PROMPT_MAX {
        let message = format!("{bytes} bytes of text are more than {}", wire_limits::PROMPT_MAX);
        return Err(ApiFailure::too_long("messages", message));
    }
    List::new(all).map_err(|_| wrong())
}

fn bytes_of(message: &ChatMessage) -> usize {
    let arguments = match &message.tool {
        Some(ToolPart::Calls(calls)) => calls.iter().map(|call| call.arguments.len()).sum(),
        _ => 0,
    };
    message.content.len() + arguments
}

fn message(at: usize, value: &Value) -> Result<ChatMessage, ApiFailure> {
    let param = |field: &str| format!("messages[{at}].{field}");
    let role = match value.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool") => "tool",
        Some("function") => {
            let message = "functions are called tools now; use the role tool";
            return Err(ApiFailure::unsupported(param("role"), message));
        }
        _ => {
            let message = "role must be system, developer, user, assistant or tool";
            return Err(ApiFailure::invalid(param("role"), message));
        }
    };
    let tool = tools::part(role, value, &format!("messages[{at}]"))?;
    let content = match value.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts_of(parts, &param("content"))?,
        // Who calls tools need say nothing.
        None | Some(Value::Null) if matches!(tool, Some(ToolPart::Calls(_))) => String::new(),
        _ => {
            let message = "content must be a text, or a list of parts with text";
            return Err(ApiFailure::invalid(param("content"), message));
        }
    };
    let content = Prose::new(content)
        .map_err(|error| ApiFailure::too_long(param("content"), error.to_string()))?;
    Ok(ChatMessage { role: Text::clipped(role), content, tool })
}

fn parts_of(parts: &[Value], param: &str) -> Result<String, ApiFailure> {
    let mut texts = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        let param = format!("{param}[{at}]");
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => texts.push(text),
            (Some("text") | None, _) => {
                return Err(ApiFailure::invalid(param, "a part needs a type and a text"));
            }
            (Some(_), _) => {
                return Err(ApiFailure::unsupported(
                    param,
                    "only parts of type text are supported",
                ));
            }
        }
    }
    Ok(texts.join("\n"))
}

/// The choice of a whole answer.
pub(super) fn choice(
    reply: &Reply,
    index: usize,
    text: &str,
    tokens: &[CallToken],
    end: &CallEnd,
) -> Value {
    let mut message = json!({ "role": "assistant", "content": text, "refusal": null });
    let mut called = false;
    if let Some(mut reader) = reply.reader() {
        let mut said = reader.push(text);
        said.extend(reader.finish());
        called = reader.calls() > 0;
        if called {
            message = calling(said);
        }
    }
    json!({
        "index": index,
        "message": message,
        "logprobs": probabilities(reply, tokens),
        "finish_reason": if called { of_call(end) } else { reason(end) },
    })
}

/// A message that calls tools.
fn calling(said: Vec<Said>) -> Value {
    let (mut content, mut calls) = (String::new(), Vec::<(String, String, String)>::new());
    for one in said {
        match one {
            Said::Text(text) => content.push_str(&text),
            Said::Call { id, name, .. } => calls.push((id, name, String::new())),
            Said::Arguments { index, text } => {
                if let Some((_, _, arguments)) = calls.get_mut(index) {
                    arguments.push_str(&text);
                }
            }
        }
    }
    let calls = calls.into_iter().map(|(id, name, arguments)| {
        let function = json!({ "name": name, "arguments": arguments });
        json!({ "id": id, "type": "function", "function": function })
    });
    let calls: Vec<Value> = calls.collect();
    let content = Some(content).filter(|text| !text.trim().is_empty());
    json!({ "role": "assistant", "content": content, "tool_calls": calls, "refusal": null })
}

/// Why an answer with calls ended.
const fn of_call(end: &CallEnd) -> &'static str {
    match end.reason {
        FinishReason::Stop => "tool_calls",
        FinishReason::Length => reason(end),
    }
}

fn probabilities(reply: &Reply, tokens: &[CallToken]) -> Value {
    let Some(top) = reply.logprobs else { return Value::Null };
    let content: Vec<Value> = tokens.iter().map(|token| logprobs::of_chat(token, top)).collect();
    json!({ "content": content, "refusal": null })
}

fn chunk(index: usize, delta: Value, logprobs: Value, reason: Option<&str>) -> Value {
    json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason })
}

/// The first chunk of an answer.
pub(super) fn opening(index: usize) -> Value {
    let delta = json!({ "role": "assistant", "content": "", "refusal": null });
    chunk(index, delta, Value::Null, None)
}

/// A chunk with a token.
pub(super) fn delta(reply: &Reply, index: usize, token: &CallToken) -> Value {
    let logprobs = probabilities(reply, std::slice::from_ref(token));
    chunk(index, json!({ "content": &*token.text }), logprobs, None)
}

/// Chunks of an answer in which calls of tools are looked for; those of a token hold what is known
/// of it, even if nothing can be shown yet.
pub(super) fn said(
    reply: &Reply,
    index: usize,
    said: Vec<Said>,
    token: Option<&CallToken>,
) -> Vec<Value> {
    let of_tool = |call: Value| json!({ "tool_calls": [call] });
    let delta = |one: Said| match one {
        Said::Text(text) => json!({ "content": text }),
        Said::Call { index, id, name } => {
            let function = json!({ "name": name, "arguments": "" });
            of_tool(json!({ "index": index, "id": id, "type": "function", "function": function }))
        }
        Said::Arguments { index, text } => {
            of_tool(json!({ "index": index, "function": { "arguments": text } }))
        }
    };
    let mut deltas: Vec<Value> = said.into_iter().map(delta).collect();
    let mut known = match token {
        Some(token) if reply.logprobs.is_some() => {
            if deltas.is_empty() {
                deltas.push(json!({}));
            }
            probabilities(reply, std::slice::from_ref(token))
        }
        _ => Value::Null,
    };
    deltas.into_iter().map(|delta| chunk(index, delta, known.take(), None)).collect()
}

/// The last chunk of an answer in which calls were looked for.
pub(super) fn last(index: usize, end: &CallEnd, called: bool) -> Value {
    let reason = if called { of_call(end) } else { reason(end) };
    chunk(index, json!({}), Value::Null, Some(reason))
}

/// The last chunks of an answer.
pub(super) fn ending(index: usize, end: &CallEnd) -> Vec<Value> {
    let mut chunks = Vec::new();
    if !end.text.is_empty() {
        chunks.push(chunk(index, json!({ "content": &*end.text }), Value::Null, None));
    }
    chunks.push(chunk(index, json!({}), Value::Null, Some(reason(end))));
    chunks
}

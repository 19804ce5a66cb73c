//! `POST /v1/chat/completions`.

use openledger_wire::call::{Call, CallEnd, CallToken, ChatMessage, Prompt};
use openledger_wire::{List, Prose, Text, limits as wire_limits};
use serde_json::{Value, json};

use super::answer::{Job, Reply, Shape, reason};
use super::fields::{Fields, is_empty};
use super::server::Context;
use super::{ApiFailure, logprobs, sampling};
use crate::limits;

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
    let target = context.resolve(model)?;
    let call = Call {
        model: target.base,
        adapters: List::new(target.adapters).unwrap_or_default(),
        prompt: Prompt::Chat(messages),
        generated: List::default(),
        tokens_max,
        sampling,
        stop,
        top_logprobs: if wants { sampling::named(top) } else { 0 },
    };
    Ok(Job {
        shape: Shape::Chat,
        model: model.to_owned(),
        calls: vec![call],
        wishes: sampling::wishes(fields)?,
        streaming,
        logprobs: wants.then(|| usize::try_from(top).unwrap_or_default()),
    })
}

/// Refuses what would change the answer and is not done here.
fn refuse(fields: &Fields) -> Result<(), ApiFailure> {
    sampling::refuse_unsupported(fields)?;
    let leave = "leave it out";
    for name in ["tools", "functions", "audio", "web_search_options"] {
        fields.refuse(name, is_empty, leave)?;
    }
    for name in ["tool_choice", "function_call"] {
        fields.refuse(name, |value| value == "none" || value == "auto", leave)?;
    }
    let is_text = |value: &Value| value.get("type").is_some_and(|kind| kind == "text");
    fields.refuse("response_format", is_text, "only {\"type\": \"text\"}")?;
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
    let bytes: usize = all.iter().map(|message| message.content.len()).sum();
    if bytes > wire_limits::PROMPT_MAX {
        let message = format!("{bytes} bytes of text are more than {}", wire_limits::PROMPT_MAX);
        return Err(ApiFailure::too_long("messages", message));
    }
    List::new(all).map_err(|_| wrong())
}

fn message(at: usize, value: &Value) -> Result<ChatMessage, ApiFailure> {
    let param = |field: &str| format!("messages[{at}].{field}");
    let role = match value.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool" | "function") => {
            let message = "tools are not supported; use system, user and assistant";
            return Err(ApiFailure::unsupported(param("role"), message));
        }
        _ => {
            let message = "role must be system, developer, user or assistant";
            return Err(ApiFailure::invalid(param("role"), message));
        }
    };
    if value.get("tool_calls").is_some_and(|calls| !is_empty(calls)) {
        let message = "tools are not supported; leave tool_calls out";
        return Err(ApiFailure::unsupported(param("tool_calls"), message));
    }
    let content = match value.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts_of(parts, &param("content"))?,
        _ => {
            let message = "content must be a text, or a list of parts with text";
            return Err(ApiFailure::invalid(param("content"), message));
        }
    };
    let content = Prose::new(content)
        .map_err(|error| ApiFailure::too_long(param("content"), error.to_string()))?;
    Ok(ChatMessage { role: Text::clipped(role), content })
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
    json!({
        "index": index,
        "message": { "role": "assistant", "content": text, "refusal": null },
        "logprobs": probabilities(reply, tokens),
        "finish_reason": reason(end),
    })
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

/// The last chunks of an answer.
pub(super) fn ending(index: usize, end: &CallEnd) -> Vec<Value> {
    let mut chunks = Vec::new();
    if !end.text.is_empty() {
        chunks.push(chunk(index, json!({ "content": &*end.text }), Value::Null, None));
    }
    chunks.push(chunk(index, json!({}), Value::Null, Some(reason(end))));
    chunks
}

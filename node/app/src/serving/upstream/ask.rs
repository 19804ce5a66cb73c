//! A call in the words of OpenAI's API, as vLLM and llama.cpp's server read it.

use openledger_wire::call::{
    Call, CallConstraint, CallFailure, ChatMessage, Prompt, Sampling, ToolPart,
};
use serde_json::{Map, Value, json};

use super::list::Listed;
use crate::serving::{Wishes, codes, failure};

/// A request: the path, its body, and what its answer looks like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) path: &'static str,
    pub(super) body: Value,
    pub(super) is_chat: bool,
}

fn refused(message: &str) -> CallFailure {
    failure(codes::INVALID, message, 0)
}

/// The request for a call; `all` is everything that the server lists.
///
/// # Errors
/// What no such server does.
pub(super) fn asked(
    call: &Call,
    wishes: &Wishes,
    base: &Listed,
    all: &[Listed],
) -> Result<Asked, CallFailure> {
    if !call.generated.is_empty() {
        return Err(refused("a server behind this node cannot go on with an answer of another"));
    }
    if call.tools.is_some() {
        return Err(refused("tools are only done by engines of nodes, not by a server behind one"));
    }
    if wishes.merge.as_ref().is_some_and(crate::serving::wishes::MergeWish::makes_product) {
        return Err(refused(
            "merges are only done by engines of nodes, not by a server behind one",
        ));
    }
    let mut body = Map::new();
    body.insert("stream".to_owned(), json!(true));
    body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    body.insert("max_tokens".to_owned(), json!(call.tokens_max));
    name(call, base, all, &mut body)?;
    sampling(&call.sampling, wishes, &mut body);
    if !call.stop.is_empty() {
        let stop: Vec<&str> = call.stop.iter().map(|text| &**text).collect();
        body.insert("stop".to_owned(), json!(stop));
    }
    if let Some(constraint) = &call.constraint {
        body.insert("response_format".to_owned(), format(constraint)?);
    }
    let is_chat = match &call.prompt {
        Prompt::Chat(messages) => {
            let messages: Vec<Value> = messages.iter().map(message).collect();
            body.insert("messages".to_owned(), Value::Array(messages));
            true
        }
        Prompt::Text(text) => {
            body.insert("prompt".to_owned(), json!(&**text));
            false
        }
        Prompt::Tokens(tokens) => {
            body.insert("prompt".to_owned(), json!(tokens.to_vec()));
            false
        }
    };
    if call.top_logprobs > 0 {
        let top = json!(call.top_logprobs);
        if is_chat {
            body.insert("logprobs".to_owned(), json!(true));
            body.insert("top_logprobs".to_owned(), top);
        } else {
            body.insert("logprobs".to_owned(), top);
        }
    }
    let path = if is_chat { "/v1/chat/completions" } else { "/v1/completions" };
    Ok(Asked { path, body: Value::Object(body), is_chat })
}

/// Which model is asked: an adapter by its own name, or by its number and scale. Where adapters
/// have numbers, all that are not asked for are turned off, so that a bare base is bare.
fn name(
    call: &Call,
    base: &Listed,
    all: &[Listed],
    body: &mut Map<String, Value>,
) -> Result<(), CallFailure> {
    let of_base = |listed: &&Listed| listed.base == Some(base.id);
    let find = |id| all.iter().filter(of_base).find(|listed| listed.id == id);
    let mut named = None;
    let mut scales: Vec<(u64, f64)> =
        all.iter().filter(of_base).filter_map(|listed| Some((listed.number?, 0.0))).collect();
    for (id, permille) in &call.adapters {
        let adapter = find(*id).ok_or_else(|| {
            let message = format!("adapter {id} is not one of {} any more", base.name);
            failure(codes::UNKNOWN_ADAPTER, &message, 0)
        })?;
        match adapter.number {
            Some(number) => {
                for (own, scale) in &mut scales {
                    if *own == number {
                        *scale = f64::from(*permille) / 1e3;
                    }
                }
            }
            None if *permille == 1_000 && call.adapters.len() == 1 => named = Some(&adapter.name),
            None => {
                return Err(refused(
                    "this server takes one adapter at a time, with weight 1: name it as the model",
                ));
            }
        }
    }
    body.insert("model".to_owned(), json!(named.unwrap_or(&base.name)));
    if !scales.is_empty() {
        let scales: Vec<Value> =
            scales.iter().map(|(id, scale)| json!({ "id": id, "scale": scale })).collect();
        body.insert("lora".to_owned(), Value::Array(scales));
    }
    Ok(())
}

fn sampling(said: &Sampling, wishes: &Wishes, body: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| {
        body.insert(name.to_owned(), value);
    };
    let number = |permille: i64| json!(permille as f64 / 1e3);
    put("temperature", number(i64::from(said.temperature_permille)));
    put("top_p", number(i64::from(said.top_p_permille)));
    if said.top_k > 0 {
        put("top_k", json!(said.top_k));
    }
    if said.presence_permille != 0 {
        put("presence_penalty", number(i64::from(said.presence_permille)));
    }
    if said.frequency_permille != 0 {
        put("frequency_penalty", number(i64::from(said.frequency_permille)));
    }
    // Servers keep seeds in 31 to 64 bits.
    let seed = said.seed.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    put("seed", json!(seed >> 1));
    if wishes.min_p_permille > 0 {
        put("min_p", number(i64::from(wishes.min_p_permille)));
    }
    if wishes.repetition_permille != 1_000 {
        // vLLM's name, and llama.cpp's.
        put("repetition_penalty", number(i64::from(wishes.repetition_permille)));
        put("repeat_penalty", number(i64::from(wishes.repetition_permille)));
    }
    if !wishes.logit_bias_permille.is_empty() {
        let bias =
            |(token, permille): &(u32, i32)| (token.to_string(), json!(f64::from(*permille) / 1e3));
        put("logit_bias", Value::Object(wishes.logit_bias_permille.iter().map(bias).collect()));
    }
}

fn format(constraint: &CallConstraint) -> Result<Value, CallFailure> {
    match constraint {
        CallConstraint::JsonObject => Ok(json!({ "type": "json_object" })),
        CallConstraint::JsonSchema(schema) => {
            let schema: Value = serde_json::from_str(schema)
                .map_err(|error| refused(&format!("the schema does not read: {error}")))?;
            let schema = json!({ "name": "answer", "schema": schema, "strict": true });
            Ok(json!({ "type": "json_schema", "json_schema": schema }))
        }
        _ => Err(refused(
            "of what an answer must look like, a server behind this node knows JSON and schemas only",
        )),
    }
}

fn message(said: &ChatMessage) -> Value {
    let mut message = json!({ "role": &*said.role, "content": &*said.content });
    match &said.tool {
        None => {}
        Some(ToolPart::Calls(calls)) => {
            let call = |call: &openledger_wire::call::ToolCall| {
                let function = json!({ "name": &*call.name, "arguments": &*call.arguments });
                json!({ "id": &*call.id, "type": "function", "function": function })
            };
            message["tool_calls"] = Value::Array(calls.iter().map(call).collect());
        }
        Some(ToolPart::Result { call, name }) => {
            message["tool_call_id"] = json!(&**call);
            if !name.is_empty() {
                message["name"] = json!(&**name);
            }
        }
    }
    message
}

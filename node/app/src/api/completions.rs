//! `POST /v1/completions`.

use openledger_wire::call::{Call, CallEnd, CallToken, Prompt};
use openledger_wire::{List, Prose, limits as wire_limits};
use serde_json::{Value, json};

use super::answer::{Job, Reply, Shape, reason};
use super::fields::{Fields, is_empty};
use super::server::Context;
use super::{ApiFailure, adapters, format, logprobs, sampling};
use crate::limits;
use crate::serving::Wishes;

/// What a request asks for.
///
/// # Errors
/// The first field that cannot be used.
pub(super) fn job(context: &Context, fields: &Fields) -> Result<Job, ApiFailure> {
    let model = fields.need("model").and(fields.text("model"))?.unwrap_or_default();
    sampling::refuse_unsupported(fields)?;
    fields.refuse("echo", is_empty, "leave it out")?;
    fields.refuse("suffix", is_empty, "leave it out")?;
    let top = fields.whole("logprobs", 0..=limits::API_TOP_LOGPROBS_MAX)?;
    let prompts = prompts(fields.need("prompt")?, "prompt", limits::API_PROMPTS_MAX)?;
    let streaming = sampling::streaming(fields)?;
    let absent = limits::API_COMPLETION_TOKENS_DEFAULT;
    let tokens_max = sampling::tokens_max(fields, &["max_tokens"], absent)?;
    let (sampling, stop) = (sampling::sampling(fields)?, sampling::stops(fields)?);
    let format = format::format(fields)?;
    let blamed = format.as_ref().map_or("prompt", |(_, field)| *field);
    let constraint = format.map(|(constraint, _)| Box::new(constraint));
    let target = adapters::target(context, fields, model)?;
    let call = |prompt: Prompt| Call {
        model: target.base,
        adapters: List::new(target.adapters.clone()).unwrap_or_default(),
        prompt,
        generated: List::default(),
        tokens_max,
        sampling: sampling.clone(),
        stop: stop.clone(),
        top_logprobs: top.map_or(0, sampling::named),
        constraint: constraint.clone(),
        tools: None,
    };
    Ok(Job {
        shape: Shape::Completion,
        model: model.to_owned(),
        calls: prompts.into_iter().map(call).collect(),
        wishes: Wishes { merge: target.merge, ..sampling::wishes(fields)? },
        streaming,
        logprobs: top.map(|top| usize::try_from(top).unwrap_or_default()),
        tools: None,
        format: blamed,
    })
}

/// Prompts in any of the four spellings: a text, texts, tokens, lists of tokens.
///
/// # Errors
/// Anything else; too many or too long ones.
pub(super) fn prompts(value: &Value, param: &str, max: usize) -> Result<Vec<Prompt>, ApiFailure> {
    let wrong = || {
        let message =
            format!("{param} must be a text, a list of texts, or token ids, and not be empty");
        ApiFailure::invalid(param, message)
    };
    let all = match value {
        Value::String(_) => vec![prompt(value, param)?],
        Value::Array(items) => match items.first() {
            Some(Value::Number(_)) => vec![prompt(value, param)?],
            Some(_) if items.len() > max => {
                let message = format!("{} inputs are more than {max}", items.len());
                return Err(ApiFailure::invalid(param, message));
            }
            Some(_) => items.iter().map(|item| prompt(item, param)).collect::<Result<_, _>>()?,
            None => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    Ok(all)
}

fn prompt(value: &Value, param: &str) -> Result<Prompt, ApiFailure> {
    let too_long = |len: usize, unit: &str, max: usize| {
        let message = format!("{len} {unit} are more than {max}");
        ApiFailure::too_long(param, message)
    };
    match value {
        Value::String(text) if !text.is_empty() => {
            let max = wire_limits::PROMPT_TEXT_MAX;
            let prose = Prose::new(text.as_str());
            prose.map(Prompt::Text).map_err(|_| too_long(text.len(), "bytes", max))
        }
        Value::Array(tokens) if !tokens.is_empty() => {
            let token = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
            let ids: Option<Vec<u32>> = tokens.iter().map(token).collect();
            let ids = ids.ok_or_else(|| {
                ApiFailure::invalid(param, "token ids are whole numbers below 2^32")
            })?;
            let len = ids.len();
            let list = List::new(ids);
            let max = wire_limits::PROMPT_TOKENS_MAX;
            list.map(Prompt::Tokens).map_err(|_| too_long(len, "tokens", max))
        }
        _ => {
            let message = format!("each of {param} must be a text or token ids, and not be empty");
            Err(ApiFailure::invalid(param, message))
        }
    }
}

/// The choice of a whole answer.
pub(super) fn choice(
    reply: &Reply,
    index: usize,
    text: &str,
    tokens: &[CallToken],
    end: &CallEnd,
) -> Value {
    let logprobs = reply.logprobs.map(|top| logprobs::of_completion(tokens, top, 0));
    json!({
        "index": index, "text": text, "logprobs": logprobs, "finish_reason": reason(end),
    })
}

/// A chunk with a token.
pub(super) fn delta(reply: &Reply, index: usize, token: &CallToken, offset: usize) -> Value {
    let one = std::slice::from_ref(token);
    let logprobs = reply.logprobs.map(|top| logprobs::of_completion(one, top, offset));
    json!({ "index": index, "text": &*token.text, "logprobs": logprobs, "finish_reason": null })
}

/// The last chunk of an answer.
pub(super) fn ending(index: usize, end: &CallEnd) -> Vec<Value> {
    vec![json!({
        "index": index, "text": &*end.text, "logprobs": null, "finish_reason": reason(end),
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_come_in_four_spellings() {
        let read = |value: Value| prompts(&value, "prompt", 3);
        assert_eq!(read(json!("a\nb")).unwrap().len(), 1);
        assert_eq!(read(json!(["a", "b"])).unwrap().len(), 2);
        let tokens = read(json!([1, 2, 3])).unwrap();
        assert_eq!(tokens, [Prompt::Tokens(List::new(vec![1, 2, 3]).unwrap())]);
        assert_eq!(read(json!([[1], [2, 3]])).unwrap().len(), 2);
        for wrong in [
            json!([]),
            json!(""),
            json!([""]),
            json!(5),
            json!([1, "a"]),
            json!([[]]),
            json!([-1]),
            json!(["a", "b", "c", "d"]),
            json!({}),
            json!([4_294_967_296_u64]),
        ] {
            let error = read(wrong).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("prompt"), "{error:?}");
        }
        let long = "x".repeat(wire_limits::PROMPT_TEXT_MAX + 1);
        assert_eq!(read(json!(long)).unwrap_err().code, "context_length_exceeded");
    }
}

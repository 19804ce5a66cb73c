//! `POST /v1/embeddings`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use openledger_wire::call::{Embed, Prompt};
use openledger_wire::{List, limits as wire_limits};
use serde_json::{Value, json};

use super::answer::places;
use super::completions::prompts;
use super::fields::Fields;
use super::server::{Context, read_body};
use super::{ApiFailure, adapters, base64};
use crate::limits;
use crate::serving::Serve as _;
use crate::serving::wishes::MergeWish;

pub(super) async fn post(
    State(context): State<Context>,
    body: Body,
) -> Result<Response, ApiFailure> {
    let fields = Fields::parse(&read_body(body).await?)?;
    let model = fields.need("model").and(fields.text("model"))?.unwrap_or_default();
    let max = limits::API_EMBED_INPUTS_MAX;
    let inputs = prompts(fields.need("input")?, "input", max)?;
    let in_base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            let message = "encoding_format must be float or base64";
            return Err(ApiFailure::invalid("encoding_format", message));
        }
    };
    let dimensions = fields.whole("dimensions", 1..=u64::from(u32::MAX))?;
    let target = adapters::target(&context, &fields, model)?;
    if target.merge.as_ref().is_some_and(MergeWish::makes_product) {
        let message = "embeddings take sums of adapters only; use the merge strategy linear";
        return Err(ApiFailure::unsupported("model", message));
    }
    let _room = places(&context, 1)?;

    let mut data: Vec<Value> = Vec::with_capacity(inputs.len());
    let mut tokens = 0u64;
    for part in parts(&inputs) {
        let inputs = List::new(part).unwrap_or_default();
        let adapters = List::new(target.adapters.clone()).unwrap_or_default();
        let embed = Embed { model: target.base, adapters, inputs };
        let embedded = context.router().embed(embed).await;
        let embedded = embedded.map_err(|failed| ApiFailure::of_call(&failed, "input"))?;
        tokens = tokens.saturating_add(u64::from(embedded.prompt_tokens));
        for vector in &embedded.vectors {
            check(dimensions, vector.len() / 4)?;
            let embedding =
                if in_base64 { Value::String(base64::encode(vector)) } else { floats(vector) };
            let index = data.len();
            data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
        }
    }
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    let body = json!({ "object": "list", "data": data, "model": model, "usage": usage });
    Ok(Json(body).into_response())
}

/// Inputs as calls carry them: so many at a time, and so much text.
fn parts(inputs: &[Prompt]) -> Vec<&[Prompt]> {
    let mut parts = Vec::new();
    let mut rest = inputs;
    while !rest.is_empty() {
        let mut bytes = 0usize;
        let fits = |prompt: &&Prompt| {
            let len = match prompt {
                Prompt::Text(text) => text.len(),
                Prompt::Tokens(tokens) => tokens.len().saturating_mul(5),
                Prompt::Chat(_) => 0,
            };
            bytes = bytes.saturating_add(len);
            bytes <= wire_limits::PROMPT_MAX
        };
        let max = wire_limits::EMBED_INPUTS_MAX;
        let count = rest.iter().take(max).take_while(fits).count().max(1);
        let (part, left) = rest.split_at(count);
        parts.push(part);
        rest = left;
    }
    parts
}

fn check(wanted: Option<u64>, has: usize) -> Result<(), ApiFailure> {
    match wanted {
        Some(wanted) if wanted != has as u64 => {
            let message = format!("this model's vectors have {has} dimensions; leave it out");
            Err(ApiFailure::unsupported("dimensions", message))
        }
        _ => Ok(()),
    }
}

fn floats(vector: &[u8]) -> Value {
    let (numbers, _) = vector.as_chunks::<4>();
    numbers.iter().map(|bytes| Value::from(f32::from_le_bytes(*bytes))).collect()
}

//! `GET /v1/models` and `GET /v1/models/{model}`.

use axum::Json;
use axum::extract::{Path, State};
use openledger_wire::BlobId;
use openledger_wire::gossip::{Offer, OfferKind};
use serde_json::{Value, json};

use super::ApiFailure;
use super::names::{AUTO, listed};
use super::server::Context;
use crate::routing::Known;
use crate::serving::{Combined, Serve as _};

pub(super) async fn list(State(context): State<Context>) -> Json<Value> {
    let known = context.router().known();
    let mut data = Vec::with_capacity(known.len() + 1);
    if let Ok(target) = context.resolve(AUTO)
        && let Some(base) = known.iter().find(|known| known.offer.blob == target.base)
    {
        data.push(model(&context, base, AUTO.to_owned()));
    }
    data.extend(known.iter().map(|one| model(&context, one, listed(one, &known))));
    let combined = context.router().combinations();
    data.extend(combined.iter().map(|one| combination(&context, one)));
    Json(json!({ "object": "list", "data": data }))
}

pub(super) async fn one(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiFailure> {
    let target = context.resolve(&name)?;
    if target.merge.is_some()
        && let Some(one) = context.combination(&name)
    {
        return Ok(Json(combination(&context, &one)));
    }
    let blob = target.adapters.first().map_or(target.base, |(adapter, _)| *adapter);
    let known = context.router().known();
    let found = known.iter().find(|known| known.offer.blob == blob);
    let found = found.ok_or_else(|| {
        ApiFailure::no_model("the model was here a moment ago and is not any more; ask again")
    })?;
    Ok(Json(model(&context, found, name)))
}

/// The base that answers.
const fn base_of(offer: &Offer) -> BlobId {
    match offer.kind {
        OfferKind::Base => offer.blob,
        OfferKind::Adapter { base } => base,
    }
}

fn combination(context: &Context, one: &Combined) -> Value {
    let weight = |permille: u32| f64::from(permille) / 1e3;
    let adapters: Vec<Value> = one
        .adapters
        .iter()
        .map(|(blob, permille)| json!({ "blob": blob.to_string(), "weight": weight(*permille) }))
        .collect();
    json!({
        "id": one.name,
        "object": "model",
        "created": context.since_s(),
        "owned_by": "this-node",
        "openledger": {
            "name": one.name, "kind": "combination", "base": one.base.to_string(),
            "adapters": adapters, "merge_strategy": one.merge.strategy,
        },
    })
}

fn model(context: &Context, known: &Known, id: String) -> Value {
    let offer = &known.offer;
    let (kind, base) = match offer.kind {
        OfferKind::Base => ("base", None),
        OfferKind::Adapter { base } => ("adapter", Some(base.to_string())),
    };
    json!({
        "id": id,
        "object": "model",
        "created": context.since_s(),
        "owned_by": if known.is_here { "this-node" } else { "peers" },
        "openledger": {
            "name": &*offer.name, "blob": offer.blob.to_string(), "bytes": offer.bytes,
            "kind": kind, "base": base, "peers": known.peers,
            "class": context.router().class_of(&base_of(offer)),
        },
    })
}

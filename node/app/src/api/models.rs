//! `GET /v1/models` and `GET /v1/models/{model}`.

use axum::Json;
use axum::extract::{Path, State};
use openledger_wire::gossip::OfferKind;
use serde_json::{Value, json};

use super::ApiFailure;
use super::names::{AUTO, listed};
use super::server::Context;
use crate::routing::Known;

pub(super) async fn list(State(context): State<Context>) -> Json<Value> {
    let known = context.router().known();
    let mut data = Vec::with_capacity(known.len() + 1);
    if let Ok(target) = context.resolve(AUTO)
        && let Some(base) = known.iter().find(|known| known.offer.blob == target.base)
    {
        data.push(model(&context, base, AUTO.to_owned()));
    }
    data.extend(known.iter().map(|one| model(&context, one, listed(one, &known))));
    Json(json!({ "object": "list", "data": data }))
}

pub(super) async fn one(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiFailure> {
    let target = context.resolve(&name)?;
    let blob = target.adapters.first().map_or(target.base, |(adapter, _)| *adapter);
    let known = context.router().known();
    let found = known.iter().find(|known| known.offer.blob == blob);
    let found = found.ok_or_else(|| {
        ApiFailure::no_model("the model was here a moment ago and is not any more; ask again")
    })?;
    Ok(Json(model(&context, found, name)))
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
        },
    })
}

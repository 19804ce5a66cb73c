//! Models of the running node: what is here, what peers offer, and getting it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query as UrlQuery, State};
use openledger_web::ApiError;
use openledger_wire::BlobId;
use serde::{Deserialize, Serialize};

use super::routes::Context;
use crate::serving::{
    Combined, Entry, Models, Offered, Offers, Progress, UpstreamView, combinations,
};
use crate::time;

/// What the node knows of models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelsView {
    /// Here.
    pub models: Vec<Entry>,
    /// At servers of the owner.
    #[serde(default)]
    pub upstreams: Vec<UpstreamView>,
    /// Adapters put together under a name.
    #[serde(default)]
    pub combinations: Vec<Combined>,
    /// At peers and not here.
    pub offered: Vec<Offered>,
    /// On the way.
    pub fetching: Vec<Progress>,
    /// Why fetches that were asked for did not work, by id.
    pub failed: BTreeMap<String, String>,
}

/// A fetch that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetching {
    /// What peers call it.
    pub name: String,
    /// Its id.
    pub blob: BlobId,
    /// Its length, as they say.
    pub bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    name: String,
}

fn offers(context: &Context) -> Vec<Arc<Offers>> {
    context.node.enrolments.iter().map(|one| Arc::clone(&one.offers)).collect()
}

fn models(context: &Context) -> &Arc<Models> {
    &context.node.machine.models
}

pub(super) async fn view(State(context): State<Context>) -> Json<ModelsView> {
    let (models, now) = (models(&context), time::now());
    let mut offered: BTreeMap<BlobId, Offered> = BTreeMap::new();
    for one in offers(&context).iter().flat_map(|offers| offers.all(now)) {
        if models.library.get(&one.offer.blob).is_some() {
            continue;
        }
        let known = offered
            .entry(one.offer.blob)
            .or_insert_with(|| Offered { offer: one.offer.clone(), nodes: Vec::new() });
        known.nodes.extend(one.nodes);
        known.nodes.sort_unstable();
        known.nodes.dedup();
    }
    Json(ModelsView {
        models: models.library.entries(),
        combinations: combinations(&models.library),
        upstreams: models.upstreams.views(),
        offered: offered.into_values().collect(),
        fetching: models.transfers(),
        failed: models.failures(),
    })
}

/// Begins to get a model from peers; how far it is tells [`view`].
pub(super) async fn fetch(
    State(context): State<Context>,
    UrlQuery(wanted): UrlQuery<Wanted>,
) -> Result<Json<Fetching>, ApiError> {
    let models = models(&context);
    models.look().await;
    if let Ok(entry) = models.library.find(&wanted.name) {
        let Entry { name, blob, bytes, .. } = entry;
        return Ok(Json(Fetching { name, blob, bytes }));
    }
    let found = models.wanted(&wanted.name, &offers(&context));
    let (offer, holders) =
        found.map_err(|error| ApiError::not_found(format!("failed to {error}")))?;
    let begun = Fetching { name: offer.name.to_string(), blob: offer.blob, bytes: offer.bytes };
    let models = Arc::clone(models);
    tokio::spawn(async move {
        // A failure is noted there.
        let _ = models.obtain(&offer, &holders).await;
    });
    Ok(Json(begun))
}

//! Funding a campaign and listing campaigns.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use openledger_rules::state::CampaignRecord;
use openledger_rules::{Event, Refusal};
use openledger_web::{ApiError, JsonBody};
use openledger_wire::task::{Campaign, FetchTask, TaskKind, TaskSpec};
use openledger_wire::{Blob, BlobId, CampaignId, Points, Text, encode, limits as wire};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::answers::{self, InferenceView};
use super::{Api, Failed};
use crate::documents::{Counts, Documents};
use crate::figures::Figures;
use crate::inference::{InferRequest, KeepError, Names, Plan, plan};
use crate::limits;

/// A campaign as it is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignRequest {
    /// Its name.
    pub name: String,
    /// Where a site's owner can complain: an e-mail address or URL.
    pub contact: String,
    /// Terms under which the documents are used.
    pub terms: String,
    /// Points that it may give away.
    pub budget: u64,
    /// Replicas that fetch each page.
    #[serde(default = "replicas")]
    pub replicas: u8,
    /// Pages to fetch.
    #[serde(default)]
    pub urls: Vec<String>,
    /// What to ask of models.
    #[serde(default)]
    pub infer: Vec<InferRequest>,
}

const fn replicas() -> u8 {
    2
}

/// A checked request: the campaign, its tasks, and what inference work needs besides.
struct Checked {
    campaign: Campaign,
    id: CampaignId,
    tasks: Vec<TaskSpec>,
    plan: Plan,
}

/// `POST /api/v1/campaigns`.
///
/// Prompts are durable before anything is logged, and campaign and tasks follow from the request
/// alone: whatever a crash cuts off, the same request again adds what is missing and nothing twice.
pub(super) async fn fund(
    State(api): State<Api>,
    JsonBody(request): JsonBody<CampaignRequest>,
) -> Result<(StatusCode, Json<Value>), Failed> {
    let Checked { campaign, id, mut tasks, plan } = check(&request, &api)?;
    let prompts = plan.prompts.len();
    if prompts > 0 {
        api.prompts.keep(plan.prompts).await?;
    }
    learn(&api, plan.names).await;
    tasks.extend(plan.tasks);
    let count = tasks.len();
    let known = api.core.submit(Event::Campaign(campaign)).await.map_err(|e| refused(&e))?.known;
    for chunk in fresh(&api, tasks).await?.chunks(wire::BATCH_TASKS_MAX) {
        api.core.submit(Event::Tasks(chunk.to_vec())).await.map_err(|e| refused(&e))?;
    }
    let name = request.name;
    tracing::info!(campaign = %id, name, tasks = count, prompts, "a campaign is funded");
    let status = if known { StatusCode::OK } else { StatusCode::CREATED };
    let answer = json!({ "campaign": id, "tasks": count, "prompts": prompts, "known": known });
    Ok((status, Json(answer)))
}

/// Tasks that were never logged. The rules forget finished ones after some epochs, and a request
/// that is sent again after that must not have them done again.
async fn fresh(api: &Api, tasks: Vec<TaskSpec>) -> Result<Vec<TaskSpec>, Failed> {
    let network = api.network;
    let look = api.core.look(move |_, figures| -> Vec<TaskSpec> {
        let known = |spec: &TaskSpec| spec.id(network).is_ok_and(|id| figures.knows(&id));
        tasks.into_iter().filter(|spec| !known(spec)).collect()
    });
    Ok(look.await?)
}

/// Remembers what models are called. Names are for pages: without them work goes on.
async fn learn(api: &Api, new: BTreeMap<BlobId, Text<{ limits::MODEL_NAME_MAX }>>) {
    if new.is_empty() {
        return;
    }
    let names = api.names.clone();
    match tokio::task::spawn_blocking(move || names.learn(new)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("failed to {error}"),
        Err(error) => tracing::error!("failed to keep names: {error}"),
    }
}

/// A campaign, as the API and the pages show it.
#[derive(Debug, Serialize)]
pub(super) struct CampaignRow {
    pub(super) campaign: CampaignId,
    pub(super) name: String,
    pub(super) contact: String,
    pub(super) terms: String,
    pub(super) budget: Points,
    pub(super) spent: Points,
    pub(super) replicas: u8,
    pub(super) tasks: u64,
    pub(super) documents: Counts,
    /// Its inference work, if it has any.
    pub(super) inference: Option<InferenceView>,
}

pub(super) async fn rows(api: &Api) -> Result<Vec<CampaignRow>, Failed> {
    let (documents, names) = (api.documents.clone(), api.names.clone());
    let look = api.core.look(move |state, figures| -> Vec<CampaignRow> {
        let rows = state.campaigns().take(limits::ROWS_SHOWN_MAX);
        rows.map(|(id, record)| row(id, record, figures, &documents, &names)).collect()
    });
    Ok(look.await?)
}

/// One campaign, if there is one of this id.
pub(super) async fn one(api: &Api, campaign: CampaignId) -> Result<Option<CampaignRow>, Failed> {
    let (documents, names) = (api.documents.clone(), api.names.clone());
    let look = api.core.look(move |state, figures| {
        let found = state.campaigns().find(|(id, _)| **id == campaign);
        found.map(|(id, record)| row(id, record, figures, &documents, &names))
    });
    Ok(look.await?)
}

fn row(
    id: &CampaignId,
    record: &CampaignRecord,
    figures: &Figures,
    documents: &Documents,
    names: &Names,
) -> CampaignRow {
    let campaign = &record.campaign;
    CampaignRow {
        campaign: *id,
        name: campaign.name.to_string(),
        contact: campaign.contact.to_string(),
        terms: campaign.terms.to_string(),
        budget: campaign.budget,
        spent: record.spent,
        replicas: campaign.replicas,
        tasks: record.tasks,
        documents: documents.counts_of(id),
        inference: figures.inference(id).map(|of| answers::inference(of, names)),
    }
}

/// `GET /api/v1/campaigns`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<CampaignRow>>, Failed> {
    Ok(Json(rows(&api).await?))
}

fn refused(refusal: &Refusal) -> ApiError {
    match refusal.retry_after_ms {
        Some(ms) => ApiError::later(refusal.message.clone(), ms.div_ceil(1_000)),
        None => ApiError::new(StatusCode::CONFLICT, refusal.code, refusal.message.clone()),
    }
}

impl From<KeepError> for Failed {
    fn from(error: KeepError) -> Self {
        if let KeepError::NoStore = error {
            return ApiError::new(StatusCode::CONFLICT, "no-store", error.to_string()).into();
        }
        tracing::error!("failed to {error}");
        ApiError::internal().into()
    }
}

fn check(request: &CampaignRequest, api: &Api) -> Result<Checked, Failed> {
    let CampaignRequest { name, contact, terms, budget, replicas, urls, infer } = request;
    let max = limits::CAMPAIGN_URLS_MAX;
    if urls.len() > max || (urls.is_empty() && infer.is_empty()) {
        let found = urls.len();
        return Err(bad(format!(
            "urls: {found} given, 1 to {max} fit one request, or none with inference work in \
             [[infer]]; split or add some"
        )));
    }
    if *replicas == 0 || usize::from(*replicas) > wire::REPLICAS_MAX {
        return Err(bad(format!(
            "replicas: {replicas} is not from 1 to {}; 2 is usual",
            wire::REPLICAS_MAX
        )));
    }
    if *budget == 0 || name.is_empty() || contact.is_empty() {
        return Err(bad("budget, name and contact: a budget above 0, a name, and where a site's \
                        owner can complain are needed"));
    }
    let campaign = Campaign {
        name: text("name", name)?,
        contact: text("contact", contact)?,
        terms: text("terms", terms)?,
        budget: Points(*budget),
        replicas: *replicas,
    };
    let id = campaign.id(api.network).map_err(|_| ApiError::internal())?;
    let numbered = urls.iter().enumerate();
    let tasks = numbered
        .map(|(at, url)| fetch_task(id, at, url))
        .collect::<Result<Vec<TaskSpec>, ApiError>>()?;
    Ok(Checked { campaign, id, tasks, plan: check_infer(infer, id, api)? })
}

fn check_infer(infer: &[InferRequest], id: CampaignId, api: &Api) -> Result<Plan, Failed> {
    if infer.is_empty() {
        return Ok(Plan::default());
    }
    let Some(rules) = &api.rules.infer else {
        let name = &api.rules.name;
        let message = format!(
            "infer: the rule set of this network, {name}, assigns no inference work; main-4 and \
             devnet-4 do, and a network names its rule set in its profile for good"
        );
        return Err(ApiError::new(StatusCode::CONFLICT, "no-inference", message).into());
    };
    api.prompts.check()?;
    plan(infer, id, api.network, rules).map_err(|error| bad(error.to_string()))
}

fn bad(message: impl Into<String>) -> Failed {
    ApiError::bad_request(message).into()
}

fn text<const MAX: usize>(field: &str, text: &str) -> Result<Text<MAX>, ApiError> {
    Text::new(text).map_err(|error| ApiError::bad_request(format!("{field}: {error}; shorten it")))
}

fn fetch_task(campaign: CampaignId, at: usize, url: &str) -> Result<TaskSpec, ApiError> {
    let bad = |why: &str| {
        let url: String = url.chars().filter(|c| !c.is_control()).take(120).collect();
        ApiError::bad_request(format!("urls[{at}] ({url:?}): {why}; correct or remove it"))
    };
    let mut parsed = Url::parse(url.trim()).map_err(|error| bad(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(bad("only http and https URLs with a host can be fetched"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(bad("URLs with a user name or password are not fetched"));
    }
    parsed.set_fragment(None);
    let url = Text::new(parsed.as_str()).map_err(|error| bad(&error.to_string()))?;
    let body = encode(&FetchTask { url }).map_err(|_| ApiError::internal())?;
    let body = Blob::new(body).map_err(|error| bad(&error.to_string()))?;
    let (kind, version) = (TaskKind::Fetch, 1);
    Ok(TaskSpec { campaign, kind, version, nonce: 0, value_permille: 1_000, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cleaned_and_bad_ones_named_with_their_place() {
        let task = |url: &str| fetch_task(CampaignId([1; 32]), 3, url);
        assert_eq!(task("http://a.example/x#y").unwrap(), task("http://A.example/x").unwrap());
        for bad in ["", "ftp://a.example/", "http://", "http://u:p@a.example/", "mailto:a@b.c"] {
            let error = task(bad).unwrap_err().message;
            assert!(error.contains("urls[3]") && error.contains("correct or remove"), "{error}");
        }
        assert!(task(&format!("http://a.example/{}", "x".repeat(3_000))).is_err());
    }
}

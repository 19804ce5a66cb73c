//! Funding a campaign and listing campaigns.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use openledger_rules::{Event, Refusal};
use openledger_web::{ApiError, JsonBody};
use openledger_wire::task::{Campaign, FetchTask, TaskKind, TaskSpec};
use openledger_wire::{Blob, CampaignId, Points, Text, encode, limits as wire};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{Api, Failed};
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
    pub urls: Vec<String>,
}

const fn replicas() -> u8 {
    2
}

/// A checked request: the campaign and its tasks.
struct Checked {
    campaign: Campaign,
    id: CampaignId,
    tasks: Vec<TaskSpec>,
}

/// `POST /api/v1/campaigns`.
pub(super) async fn fund(
    State(api): State<Api>,
    JsonBody(request): JsonBody<CampaignRequest>,
) -> Result<(StatusCode, Json<Value>), Failed> {
    let Checked { campaign, id, tasks } = check(&request, &api)?;
    let count = tasks.len();
    let known = api.core.submit(Event::Campaign(campaign)).await.map_err(|e| refused(&e))?.known;
    for chunk in tasks.chunks(wire::BATCH_TASKS_MAX) {
        api.core.submit(Event::Tasks(chunk.to_vec())).await.map_err(|e| refused(&e))?;
    }
    tracing::info!(campaign = %id, name = request.name, tasks = count, "a campaign is funded");
    let status = if known { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(json!({ "campaign": id, "tasks": count, "known": known }))))
}

/// `GET /api/v1/campaigns`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<Value>>, Failed> {
    let look = api.core.look(|state, _| {
        let rows = state.campaigns().take(limits::ROWS_SHOWN_MAX).map(|(id, record)| {
            json!({
                "campaign": id,
                "name": &*record.campaign.name,
                "contact": &*record.campaign.contact,
                "terms": &*record.campaign.terms,
                "budget": record.campaign.budget,
                "spent": record.spent,
                "replicas": record.campaign.replicas,
                "tasks": record.tasks,
            })
        });
        rows.collect()
    });
    Ok(Json(look.await?))
}

fn refused(refusal: &Refusal) -> ApiError {
    match refusal.retry_after_ms {
        Some(ms) => ApiError::later(refusal.message.clone(), ms.div_ceil(1_000)),
        None => ApiError::new(StatusCode::CONFLICT, refusal.code, refusal.message.clone()),
    }
}

fn check(request: &CampaignRequest, api: &Api) -> Result<Checked, ApiError> {
    let CampaignRequest { name, contact, terms, budget, replicas, urls } = request;
    if urls.is_empty() || urls.len() > limits::CAMPAIGN_URLS_MAX {
        let (found, max) = (urls.len(), limits::CAMPAIGN_URLS_MAX);
        return Err(ApiError::bad_request(format!(
            "urls: {found} given, 1 to {max} fit one request; split them into several"
        )));
    }
    if *replicas == 0 || usize::from(*replicas) > wire::REPLICAS_MAX {
        return Err(ApiError::bad_request(format!(
            "replicas: {replicas} is not from 1 to {}; 2 is usual",
            wire::REPLICAS_MAX
        )));
    }
    if *budget == 0 || name.is_empty() || contact.is_empty() {
        return Err(ApiError::bad_request(
            "budget, name and contact: a budget above 0, a name, and where a site's owner can \
             complain are needed",
        ));
    }
    let campaign = Campaign {
        name: text("name", name)?,
        contact: text("contact", contact)?,
        terms: text("terms", terms)?,
        budget: Points(*budget),
        replicas: *replicas,
    };
    let internal = |_| ApiError::internal();
    let id = campaign.id(api.network).map_err(internal)?;
    let numbered = urls.iter().enumerate();
    let tasks = numbered.map(|(at, url)| fetch_task(id, at, url)).collect::<Result<_, _>>()?;
    Ok(Checked { campaign, id, tasks })
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

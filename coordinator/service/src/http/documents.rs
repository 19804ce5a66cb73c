//! Documents that campaigns paid for: what became of each, and their text.
//!
//! As public as the blobs themselves, which nodes give to anybody who asks by id.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, Query, State};
use openledger_refine::{Document, Licence};
use openledger_rules::State as Rules;
use openledger_web::ApiError;
use openledger_wire::{AccountId, BlobId, CampaignId, Height, NodeId, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, Failed, id};
use crate::documents::{Fault, Place, ReadError, Row, Stage};
use crate::limits;

/// A document's row, as the API and the pages show it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DocumentRow {
    /// Its place in the order of the log, from 1: what `after` takes.
    pub(super) number: u64,
    pub(super) document: BlobId,
    pub(super) bytes: u64,
    pub(super) url: String,
    pub(super) page: BlobId,
    pub(super) task: TaskId,
    pub(super) campaign: CampaignId,
    /// Entry of the log that accepted it.
    pub(super) height: Height,
    /// When.
    pub(super) at: u64,
    /// `waiting`, `failed`, `collected` or `refused`.
    pub(super) state: &'static str,
    /// Why it is not collected; fits after "failed to".
    pub(super) reason: Option<Fault>,
    pub(super) title: Option<String>,
    pub(super) language: Option<String>,
    pub(super) words: Option<u32>,
    /// Whether it was compared with those before it.
    pub(super) compared: bool,
    /// The document that it is a near-duplicate of.
    pub(super) duplicate_of: Option<BlobId>,
    /// How many near-duplicates of it there are...
    pub(super) duplicates: u64,
    /// ...and the first of them.
    pub(super) duplicate_documents: Vec<BlobId>,
    /// Accounts whose fetch of the page was accepted.
    pub(super) fetched_by: Vec<AccountId>,
    /// Accounts that proved the document.
    pub(super) refined_by: Vec<AccountId>,
}

/// Rows with accounts in place of nodes.
pub(super) async fn rows(api: &Api, rows: Vec<Row>) -> Result<Vec<DocumentRow>, Failed> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let nodes = rows.iter().flat_map(|row| row.proven.fetchers.iter().chain(&row.proven.refiners));
    let nodes: BTreeSet<NodeId> = nodes.copied().collect();
    let look = api.core.look(move |state, _| -> BTreeMap<NodeId, AccountId> {
        let known = |node| Some((node, state.node(&node)?.member.account));
        nodes.into_iter().filter_map(known).collect()
    });
    let accounts = look.await?;
    Ok(rows.into_iter().map(|row| view(api, row, &accounts)).collect())
}

fn view(api: &Api, row: Row, accounts: &BTreeMap<NodeId, AccountId>) -> DocumentRow {
    let of = |nodes: &[NodeId]| {
        let accounts: BTreeSet<AccountId> =
            nodes.iter().filter_map(|node| accounts.get(node).copied()).collect();
        accounts.into_iter().collect()
    };
    let (state, reason) = (row.state(), row.fault().cloned());
    let proven = &row.proven;
    let (mut title, mut language, mut words, mut place) = (None, None, None, Place::Open);
    if let Stage::Collected { title: its, language: code, words: count, place: at } = row.stage {
        (title, language, words, place) = (its, Some(code), Some(count), at);
    }
    let duplicate_of = match place {
        Place::DuplicateOf(number) => api.documents.row(number).map(|row| row.proven.document),
        Place::Open | Place::Original => None,
    };
    let (duplicates, duplicate_documents) =
        api.documents.duplicates_of(row.number, limits::DUPLICATES_SHOWN_MAX);
    DocumentRow {
        number: row.number,
        document: proven.document,
        bytes: proven.bytes,
        url: proven.url.clone(),
        page: proven.page,
        task: proven.task,
        campaign: proven.campaign,
        height: proven.height,
        at: proven.at.0,
        state,
        reason,
        title,
        language,
        words,
        compared: place != Place::Open,
        duplicate_of,
        duplicates,
        duplicate_documents,
        fetched_by: of(&proven.fetchers),
        refined_by: of(&proven.refiners),
    }
}

/// The query of `GET /api/v1/documents`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Id or name of a campaign; all campaigns without it.
    campaign: Option<String>,
    /// Rows behind this number.
    #[serde(default)]
    after: u64,
    #[serde(default = "page")]
    limit: usize,
}

const fn page() -> usize {
    limits::DOCUMENTS_PAGE
}

/// `GET /api/v1/documents`.
pub(super) async fn list(
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Failed> {
    let (limit, max) = (query.limit, limits::ROWS_SHOWN_MAX);
    if limit == 0 || limit > max {
        let message = format!("limit: {limit} is not from 1 to {max}; ask for more with after");
        return Err(ApiError::bad_request(message).into());
    }
    let campaign = match query.campaign {
        Some(text) => Some(campaign(&api, text).await?),
        None => None,
    };
    let rows_asked = api.documents.page(campaign.as_ref().map(|of| &of.id), query.after, limit);
    let is_last = rows_asked.len() < limit;
    let documents = rows(&api, rows_asked).await?;
    let next = documents.last().map_or(query.after, |row| row.number);
    let counts = match &campaign {
        Some(of) => api.documents.counts_of(&of.id),
        None => api.documents.counts(),
    };
    Ok(Json(json!({
        "campaign": campaign,
        "documents": documents,
        "next": next,
        "last": is_last,
        "counts": counts,
    })))
}

/// A campaign as far as its documents go.
#[derive(Debug, Clone, Serialize)]
struct CampaignView {
    #[serde(rename = "campaign")]
    id: CampaignId,
    name: String,
    terms: String,
}

/// The campaign with an id or a name.
async fn campaign(api: &Api, text: String) -> Result<CampaignView, Failed> {
    let named = text.parse::<CampaignId>().ok();
    let asked = text.clone();
    let look = api.core.look(move |state: &Rules, _| -> Vec<CampaignView> {
        let same = |id: &CampaignId, name: &str| Some(*id) == named || *name == *asked;
        let campaigns = state.campaigns().filter(|(id, of)| same(id, &of.campaign.name));
        let views = campaigns.map(|(id, of)| CampaignView {
            id: *id,
            name: of.campaign.name.to_string(),
            terms: of.campaign.terms.to_string(),
        });
        views.take(2).collect()
    });
    let mut found = look.await?;
    let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if found.len() > 1 {
        let message = format!(
            "campaign: {shown:?} is the name of several; give the id, see /api/v1/campaigns"
        );
        return Err(ApiError::bad_request(message).into());
    }
    let none = || {
        ApiError::not_found(format!(
            "no campaign has the id or name {shown:?}; see /api/v1/campaigns"
        ))
    };
    Ok(found.pop().ok_or_else(none)?)
}

/// What a document holds.
#[derive(Debug, Serialize)]
struct Content {
    url: String,
    canonical_url: Option<String>,
    title: Option<String>,
    author: Option<String>,
    published: Option<String>,
    language: String,
    licence: Option<Licence>,
    tdm_reserved: bool,
    text: String,
    words: u32,
    /// Of the processing profile, as hex.
    profile: String,
}

impl From<Document> for Content {
    fn from(document: Document) -> Self {
        Self {
            url: document.url,
            canonical_url: document.canonical_url,
            title: document.title,
            author: document.author,
            published: document.published,
            language: document.language,
            licence: document.licence,
            tdm_reserved: document.tdm_reserved,
            text: document.text,
            words: document.word_count,
            profile: hex::encode(document.profile),
        }
    }
}

/// A document with its rows.
#[derive(Debug, Serialize)]
pub(super) struct DocumentView {
    /// The document.
    content: Content,
    /// Where it comes from: one row for each task that gave it.
    rows: Vec<DocumentRow>,
}

/// `GET /api/v1/documents/{id}`.
pub(super) async fn one(
    State(api): State<Api>,
    Path(text): Path<String>,
) -> Result<Json<DocumentView>, Failed> {
    let document: BlobId = id(&text)?;
    let found = api.documents.of_document(&document);
    let Some(first) = found.first() else {
        let message = "no such document was accepted on this network; check the id";
        return Err(ApiError::not_found(message).into());
    };
    if !found.iter().any(|row| matches!(row.stage, Stage::Collected { .. })) {
        let why =
            first.fault().map_or_else(String::new, |fault| format!(": failed to {}", fault.text));
        let message = format!("this document is not collected but {}{why}", first.state());
        return Err(ApiError::not_found(message).into());
    }
    let content = api.documents.read(document).await?.into();
    let rows = rows(&api, found).await?;
    Ok(Json(DocumentView { content, rows }))
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        tracing::error!("failed to {error}");
        ApiError::internal().into()
    }
}

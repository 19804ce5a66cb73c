//! The JSON answers.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use openledger_rules::State as Rules;
use openledger_web::{ApiError, LiveEvents};
use openledger_wire::log::{Entry, EpochClose, Line};
use openledger_wire::{AccountId, Epoch, Height, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, Failed, id};
use crate::bundles::BundleError;
use crate::clock;
use crate::documents::Counts;
use crate::figures::Stats;
use crate::limits;
use crate::link::account_status;

/// `GET /api/v1/status`.
pub(super) async fn status(State(api): State<Api>) -> Result<Json<Value>, Failed> {
    let now = clock::now();
    let look = api.core.look(move |state, _| {
        let height = Height(state.next_height().0.saturating_sub(1));
        let counts = (state.nodes().count(), state.tasks_open());
        let closed = state.last_close().map(|close| close.epoch);
        (
            state.round(now),
            state.epoch(),
            state.epoch_end(state.epoch()),
            height,
            state.head(),
            counts,
            closed,
        )
    });
    let (round, epoch, epoch_end, height, head, (nodes, tasks_open), closed) = look.await?;
    let signed = api.signer.head(height, head).map_err(|error| {
        tracing::error!("failed to sign the head: {error}");
        ApiError::internal()
    })?;
    Ok(Json(json!({
        "network": api.network,
        "name": &*api.name,
        "version": env!("CARGO_PKG_VERSION"),
        "now": now,
        "round": round,
        "epoch": epoch,
        "epoch_end": epoch_end,
        "last_closed": closed,
        "claimable": *api.claimable.borrow(),
        "height": height,
        "head": head,
        "head_signature": signed.signature,
        "settlement": api.signer.address(),
        "nodes": nodes,
        "connected": api.link.connected().len(),
        "tasks_open": tasks_open,
    })))
}

/// `GET /api/v1/profile`.
pub(super) async fn profile(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], api.profile.to_string())
}

/// A closed epoch.
#[derive(Debug, Serialize)]
pub(super) struct EpochRow {
    pub(super) epoch: Epoch,
    pub(super) at: u64,
    pub(super) height: Height,
    pub(super) root: openledger_wire::Keccak,
    pub(super) total: String,
    pub(super) size: u64,
    pub(super) proofs_root: openledger_wire::Keccak,
    pub(super) unbound: String,
    pub(super) lapsed: String,
    pub(super) accounts: usize,
    pub(super) bundle: Option<Value>,
    pub(super) posted: bool,
}

/// Closed epochs, newest first.
pub(super) async fn epoch_rows(api: &Api, max: u64) -> Result<Vec<EpochRow>, Failed> {
    let (last, posted) = api
        .core
        .look(move |state, _| {
            let last = state.last_close().map_or(0, |close| close.epoch.0);
            let from = last.saturating_sub(max).saturating_add(1);
            let posted: Vec<u64> =
                (from..=last).filter(|epoch| state.is_posted(Epoch(*epoch))).collect();
            (last, posted)
        })
        .await?;
    let mut rows = Vec::new();
    for epoch in (1..=last).rev().take(usize::try_from(max).unwrap_or(0)) {
        let Some(height) = api.ledger.close_height(Epoch(epoch)).await? else { continue };
        let Some(line) = api.ledger.page(height, 1).await?.pop() else { continue };
        let entry = Entry::from_bytes(&line.bytes).map_err(openledger_ledger::LedgerError::from)?;
        let Line::Epoch(close) = &entry.line else { continue };
        let meta = api.ledger.bundle(Epoch(epoch)).await?;
        let bundle = meta.map(|meta| {
            json!({
                "blob": meta.blob,
                "bytes": meta.bytes,
                "data_commitment": meta.data_commitment,
                "url": format!("/api/v1/epochs/{epoch}/bundle"),
            })
        });
        rows.push(epoch_row(close, &entry, bundle, posted.contains(&epoch)));
    }
    Ok(rows)
}

fn epoch_row(close: &EpochClose, entry: &Entry, bundle: Option<Value>, posted: bool) -> EpochRow {
    EpochRow {
        epoch: close.epoch,
        at: entry.at.0,
        height: entry.height,
        root: close.root,
        total: close.total.to_string(),
        size: close.size,
        proofs_root: close.proofs_root,
        unbound: close.unbound.to_string(),
        lapsed: close.lapsed.to_string(),
        accounts: close.accounts.len(),
        bundle,
        posted,
    }
}

/// `GET /api/v1/epochs`.
pub(super) async fn epochs(State(api): State<Api>) -> Result<Json<Vec<EpochRow>>, Failed> {
    Ok(Json(epoch_rows(&api, limits::ROWS_SHOWN_MAX as u64).await?))
}

/// `GET /api/v1/epochs/{epoch}/bundle`.
pub(super) async fn bundle(
    State(api): State<Api>,
    Path(epoch): Path<u64>,
) -> Result<impl IntoResponse, Failed> {
    let bytes = match api.bundles.bytes(Epoch(epoch)).await {
        Ok(bytes) => bytes,
        Err(BundleError::Ledger(error)) => return Err(error.into()),
        Err(error) => {
            tracing::error!("failed to {error}");
            return Err(ApiError::internal().into());
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "application/cbor"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, bytes))
}

/// The query of `GET /api/v1/log`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    #[serde(default)]
    from: u64,
    #[serde(default = "log_page")]
    max: usize,
}

const fn log_page() -> usize {
    100
}

/// `GET /api/v1/log`.
pub(super) async fn log(
    State(api): State<Api>,
    Query(query): Query<LogQuery>,
) -> Result<Json<Value>, Failed> {
    let lines = api.ledger.page(Height(query.from), query.max).await?;
    let next = lines.last().map_or(query.from, |line| line.height.0.saturating_add(1));
    let entries: Vec<Value> = lines
        .iter()
        .map(|line| json!({"height": line.height, "head": line.head, "bytes": hex::encode(&line.bytes)}))
        .collect();
    Ok(Json(json!({ "entries": entries, "next": next })))
}

/// A node, as the API and the pages show it.
#[derive(Debug, Serialize)]
pub(super) struct NodeRow {
    pub(super) node: openledger_wire::NodeId,
    pub(super) account: AccountId,
    pub(super) agent: String,
    pub(super) founding: bool,
    pub(super) weight_milli: u32,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) open_leases: u32,
    pub(super) connected: bool,
}

/// Nodes, most accepted work first.
pub(super) async fn node_rows(api: &Api) -> Result<Vec<NodeRow>, Failed> {
    let connected = api.link.connected();
    let look = api.core.look(move |state, _| {
        let rows = state.nodes().map(|(node, record)| NodeRow {
            node: *node,
            account: record.member.account,
            agent: record.member.registration.agent.to_string(),
            founding: record.founding,
            weight_milli: record.weight_milli,
            accepted: record.accepted,
            rejected: record.rejected,
            open_leases: record.open_leases,
            connected: connected.contains(node),
        });
        rows.collect::<Vec<_>>()
    });
    let mut rows = look.await?;
    rows.sort_by_key(|row| (std::cmp::Reverse(row.accepted), row.node));
    rows.truncate(limits::ROWS_SHOWN_MAX);
    Ok(rows)
}

/// `GET /api/v1/nodes`.
pub(super) async fn nodes(State(api): State<Api>) -> Result<Json<Vec<NodeRow>>, Failed> {
    Ok(Json(node_rows(&api).await?))
}

/// An account, as the API and the pages show it.
#[derive(Debug, Serialize)]
pub(super) struct AccountView {
    pub(super) account: AccountId,
    pub(super) payout: Option<openledger_wire::EvmAddress>,
    pub(super) pending: u64,
    pub(super) vested: u64,
    pub(super) forfeited: u64,
    pub(super) accepted: u64,
    pub(super) cumulative: String,
    pub(super) cumulative_units: String,
    pub(super) epoch: Epoch,
}

pub(super) fn account_view(state: &Rules, account: AccountId) -> Option<AccountView> {
    let record = state.account(&account)?;
    let status = account_status(state, account, None);
    Some(AccountView {
        account,
        payout: status.payout,
        pending: status.pending.0,
        vested: status.vested.0,
        forfeited: record.forfeited.0,
        accepted: record.accepted,
        cumulative: status.cumulative.to_string(),
        cumulative_units: status.cumulative.0.to_string(),
        epoch: status.epoch,
    })
}

/// `GET /api/v1/accounts/{id}`.
pub(super) async fn account(
    State(api): State<Api>,
    Path(text): Path<String>,
) -> Result<Json<AccountView>, Failed> {
    let account: AccountId = id(&text)?;
    let view = api.core.look(move |state, _| account_view(state, account)).await?;
    let unknown = || ApiError::not_found("no node of this account has joined this network");
    Ok(Json(view.ok_or_else(unknown)?))
}

/// `GET /api/v1/accounts/{id}/claim`.
pub(super) async fn claim(
    State(api): State<Api>,
    Path(text): Path<String>,
) -> Result<Json<Value>, Failed> {
    let account: AccountId = id(&text)?;
    let claimable = *api.claimable.borrow();
    let look = api.core.look(move |state, _| account_status(state, account, claimable).claim);
    let none = || {
        ApiError::not_found(
            "nothing to claim: no payout address was bound, nothing has vested, or no root is good \
             on chain yet; bind an address and wait for the next epoch",
        )
    };
    let claim = look.await?.ok_or_else(none)?;
    let siblings: Vec<Value> = claim
        .siblings
        .iter()
        .map(|(hash, sum)| json!({"hash": hash, "sum": sum.0.to_string()}))
        .collect();
    Ok(Json(json!({
        "epoch": claim.epoch,
        "payout": claim.payout,
        "cumulative": claim.cumulative.to_string(),
        "cumulative_units": claim.cumulative.0.to_string(),
        "index": claim.index,
        "size": claim.size,
        "siblings": siblings,
    })))
}

/// `GET /api/v1/tasks/{id}`.
pub(super) async fn task(
    State(api): State<Api>,
    Path(text): Path<String>,
) -> Result<Json<super::history::History>, Failed> {
    let task: TaskId = id(&text)?;
    Ok(Json(super::history::of(&api, task).await?))
}

/// The figures of `GET /api/v1/stats`.
#[derive(Debug, Serialize)]
pub(super) struct StatsView {
    #[serde(flatten)]
    pub(super) stats: Stats,
    pub(super) proofs_first_seen_by_gossip: u64,
    pub(super) connected: usize,
    pub(super) tasks_open: usize,
    pub(super) documents: DocumentsView,
}

/// Counts of documents, and how far the log was looked at for them.
#[derive(Debug, Serialize)]
pub(super) struct DocumentsView {
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// The first height that was not looked at yet.
    pub(super) next_height: Height,
}

pub(super) async fn stats_view(api: &Api) -> Result<StatsView, Failed> {
    let look = api.core.look(|state, figures| (figures.stats(state), state.tasks_open()));
    let (stats, tasks_open) = look.await?;
    // The height first: what it covers is in the counts that are read after it.
    let next_height = api.documents.next_height();
    let documents = DocumentsView { counts: api.documents.counts(), next_height };
    Ok(StatsView {
        stats,
        proofs_first_seen_by_gossip: api.first_by_gossip.load(Ordering::Relaxed),
        connected: api.link.connected().len(),
        tasks_open,
        documents,
    })
}

/// `GET /api/v1/stats`.
pub(super) async fn stats(State(api): State<Api>) -> Result<Json<StatsView>, Failed> {
    Ok(Json(stats_view(&api).await?))
}

/// `GET /api/v1/events`.
pub(super) async fn events(State(api): State<Api>) -> LiveEvents {
    api.live.subscribe()
}

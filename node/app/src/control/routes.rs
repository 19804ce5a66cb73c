//! The routes of the control API, all under `/v1`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Query as UrlQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use openledger_outbox::{Entry, Milestone, OutboxError, Query, Stage};
use openledger_web::ApiError;
use openledger_wire::link::{Receipt, SignedVerdict};
use openledger_wire::log::{Role, Verdict};
use openledger_wire::task::{FetchTask, RefineTask, TaskKind};
use openledger_wire::{
    Commitment, Epoch, Height, Points, ProofId, Round, TaskId, UnixMs, decode,
    limits as wire_limits,
};
use serde::{Deserialize, Serialize};

use crate::logs;
use crate::node::{Mode, Node, Status};

#[derive(Clone)]
struct Context {
    node: Arc<Node>,
    log: PathBuf,
}

pub(super) fn routes(node: Arc<Node>, log: PathBuf) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/tasks", get(tasks))
        .route("/v1/earnings", get(earnings))
        .route("/v1/logs", get(log_lines))
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .route("/v1/finish", post(finish))
        .route("/v1/stop", post(stop))
        .with_state(Context { node, log })
}

/// One task, from lease to payout, as people and programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// The task.
    pub task: TaskId,
    /// The wave of leases.
    pub wave: u8,
    /// Kind of work.
    pub kind: String,
    /// "replica" or "auditor".
    pub role: String,
    /// What it is about: the URL.
    pub subject: String,
    /// The round that drew the lease.
    pub round: Round,
    /// How far it has come.
    pub stage: Stage,
    /// How it came here.
    pub milestones: Vec<Milestone>,
    /// Why it stands where it stands.
    pub sentence: String,
    /// Points, if accepted.
    pub points: Points,
    /// "accepted", "rejected" or "inconclusive".
    pub verdict: Option<String>,
    /// The epoch in which the verdict counts.
    pub epoch: Option<Epoch>,
    /// The epoch in which it counts at the latest, by the receipt.
    pub count_by: Option<Epoch>,
    /// The commitment.
    pub commitment: Option<Commitment>,
    /// The proof.
    pub proof: Option<ProofId>,
    /// Height of the log entry that closed the set.
    pub closed: Option<Height>,
    /// The deadline of the commitment.
    pub deadline: UnixMs,
    /// The signed receipt, when a single task was asked for.
    pub receipt: Option<Receipt>,
    /// The signed verdict, when a single task was asked for.
    pub signed_verdict: Option<SignedVerdict>,
}

/// A record as it is shown; `whole` adds what was signed.
#[must_use]
pub fn task_view(entry: &Entry, whole: bool) -> TaskView {
    let work = &entry.work;
    let subject = entry.leased.as_ref().map(|leased| subject(work.kind, &leased.spec.body));
    let verdict = work.verdict.as_ref().map(|verdict| verdict.row.verdict);
    TaskView {
        task: work.task,
        wave: work.wave,
        kind: work.kind.name().to_owned(),
        role: match work.role {
            Role::Replica => "replica".to_owned(),
            Role::Auditor => "auditor".to_owned(),
        },
        subject: subject.unwrap_or_default(),
        round: work.round,
        stage: work.stage,
        milestones: work.milestones.to_vec(),
        sentence: work.sentence(),
        points: work.points(),
        verdict: verdict.map(|verdict| verdict_name(verdict).to_owned()),
        epoch: work.epoch(),
        count_by: work.receipt_batch().map(|batch| batch.count_by),
        commitment: work.promise.as_ref().map(|promise| promise.commitment),
        proof: work.proof(),
        closed: work.closed,
        deadline: work.deadline,
        receipt: work.receipt.clone().filter(|_| whole),
        signed_verdict: work.verdict.clone().filter(|_| whole),
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Rejected => "rejected",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// What a task is about, for people.
fn subject(kind: TaskKind, body: &[u8]) -> String {
    let max = wire_limits::TASK_BODY_MAX;
    match kind {
        TaskKind::Fetch => decode::<FetchTask>(body, max).map(|task| task.url.to_string()),
        TaskKind::Refine => decode::<RefineTask>(body, max).map(|task| task.url.to_string()),
        _ => Ok(String::new()),
    }
    .unwrap_or_default()
}

fn failed(error: &OutboxError) -> ApiError {
    tracing::error!("failed to {error}");
    ApiError::internal()
}

async fn status(State(context): State<Context>) -> Result<Json<Status>, ApiError> {
    context.node.status().await.map(Json).map_err(|error| failed(&error))
}

#[derive(Debug, Deserialize)]
struct TasksQuery {
    task: Option<String>,
    max: Option<usize>,
}

async fn tasks(
    State(context): State<Context>,
    UrlQuery(asked): UrlQuery<TasksQuery>,
) -> Result<Json<Vec<TaskView>>, ApiError> {
    let whole = asked.task.is_some();
    let query = Query { task: asked.task, before: None, rows_max: asked.max.unwrap_or(50) };
    let entries = context.node.outbox(move |outbox| outbox.history(&query)).await;
    let entries = entries.map_err(|error| failed(&error))?;
    Ok(Json(entries.iter().map(|entry| task_view(entry, whole)).collect()))
}

async fn earnings(State(context): State<Context>) -> Result<Json<Status>, ApiError> {
    // A fresh answer where the coordinator gives one, else the last that was heard.
    if let Err(reason) = context.node.ask_account().await {
        tracing::debug!("the account was not heard of: {reason}");
    }
    context.node.status().await.map(Json).map_err(|error| failed(&error))
}

#[derive(Debug, Deserialize)]
struct LogsQuery {
    lines: Option<usize>,
}

async fn log_lines(
    State(context): State<Context>,
    UrlQuery(asked): UrlQuery<LogsQuery>,
) -> Result<Json<Vec<String>>, ApiError> {
    let lines = asked.lines.unwrap_or(100);
    let read = tokio::task::spawn_blocking(move || logs::tail(&context.log, lines)).await;
    match read {
        Ok(Ok(lines)) => Ok(Json(lines)),
        Ok(Err(error)) => Err(ApiError::not_found(error.to_string())),
        Err(_) => Err(ApiError::internal()),
    }
}

async fn pause(State(context): State<Context>) -> Json<Mode> {
    Json(context.node.set_mode(Mode::Paused))
}

async fn resume(State(context): State<Context>) -> Json<Mode> {
    Json(context.node.set_mode(Mode::Running))
}

async fn finish(State(context): State<Context>) -> Json<Mode> {
    Json(context.node.set_mode(Mode::Finishing))
}

async fn stop(State(context): State<Context>) -> Json<Mode> {
    let mode = context.node.set_mode(Mode::Stopping);
    let node = Arc::clone(&context.node);
    tokio::spawn(async move {
        // The answer leaves first.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        node.stop.cancel();
    });
    Json(mode)
}

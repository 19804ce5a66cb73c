//! The routes of the control API, all under `/v1`.
//!
//! Each takes `?network=NAME`; without it, it is about all networks of the node.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Query as UrlQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use openledger_outbox::{Entry, Milestone, OutboxError, Query, Stage};
use openledger_web::ApiError;
use openledger_wire::link::{Receipt, SignedVerdict};
use openledger_wire::log::{Role, Verdict};
use openledger_wire::task::{FetchTask, InferTask, RefineTask, TaskKind};
use openledger_wire::{
    Commitment, Epoch, Height, Points, ProofId, Round, TaskId, UnixMs, decode,
    limits as wire_limits,
};
use serde::{Deserialize, Serialize};

use super::{PerNetwork, models};
use crate::logs;
use crate::node::{Enrolment, Mode, Node, NotEnrolled, Status, statuses};

#[derive(Clone)]
pub(super) struct Context {
    pub(super) node: Arc<Node>,
    log: PathBuf,
}

pub(super) fn routes(node: Arc<Node>, log: PathBuf) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/tasks", get(tasks))
        .route("/v1/earnings", get(earnings))
        .route("/v1/logs", get(log_lines))
        .route("/v1/models", get(models::view))
        .route("/v1/models/fetch", post(models::fetch))
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .route("/v1/finish", post(finish))
        .route("/v1/stop", post(stop))
        .with_state(Context { node, log })
}

/// One task, from lease to payout, as people and programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// The network that it was done for.
    pub network: String,
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

/// Work of several networks in one list: newest first, at most `max`.
#[must_use]
pub fn newest(mut views: Vec<TaskView>, max: usize) -> Vec<TaskView> {
    views.sort_by_key(|view| std::cmp::Reverse(view.milestones.first().map(|first| first.at)));
    views.truncate(max);
    views
}

/// A record of a network as it is shown; `whole` adds what was signed.
#[must_use]
pub fn task_view(network: &str, entry: &Entry, whole: bool) -> TaskView {
    let work = &entry.work;
    let subject = entry.leased.as_ref().map(|leased| subject(work.kind, &leased.spec.body));
    let verdict = work.verdict.as_ref().map(|verdict| verdict.row.verdict);
    TaskView {
        network: network.to_owned(),
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
        TaskKind::Infer => decode::<InferTask>(body, max).map(|task| asked_of(&task)),
        _ => Ok(String::new()),
    }
    .unwrap_or_default()
}

/// Which model with which adapters was asked; what it was asked is nobody's business here.
fn asked_of(task: &InferTask) -> String {
    let adapters: Vec<String> = task.adapters.iter().map(|(id, _)| id.short()).collect();
    let with = if adapters.is_empty() { "" } else { " with " };
    format!("model {}{with}{}", task.model.short(), adapters.join(" + "))
}

fn failed(error: &OutboxError) -> ApiError {
    tracing::error!("failed to {error}");
    ApiError::internal()
}

fn unknown(error: &NotEnrolled) -> ApiError {
    ApiError::not_found(error.to_string())
}

/// Which network a request is about; without a name, all.
#[derive(Debug, Deserialize)]
struct Which {
    network: Option<String>,
}

impl Context {
    fn of(&self, network: Option<&str>) -> Result<Vec<Arc<Enrolment>>, ApiError> {
        self.node.of(network).map_err(|error| unknown(&error))
    }
}

type Answer<T> = Result<Json<PerNetwork<T>>, ApiError>;

async fn status(
    State(context): State<Context>,
    UrlQuery(which): UrlQuery<Which>,
) -> Answer<Status> {
    let wanted = context.of(which.network.as_deref())?;
    statuses(&wanted).await.map(|all| Json(PerNetwork(all))).map_err(|error| failed(&error))
}

#[derive(Debug, Deserialize)]
struct TasksQuery {
    network: Option<String>,
    task: Option<String>,
    max: Option<usize>,
}

async fn tasks(
    State(context): State<Context>,
    UrlQuery(asked): UrlQuery<TasksQuery>,
) -> Result<Json<Vec<TaskView>>, ApiError> {
    let whole = asked.task.is_some();
    let rows_max = asked.max.unwrap_or(50);
    let mut views = Vec::new();
    for one in context.of(asked.network.as_deref())? {
        let query = Query { task: asked.task.clone(), before: None, rows_max };
        let entries = one.outbox(move |outbox| outbox.history(&query)).await;
        let entries = entries.map_err(|error| failed(&error))?;
        views.extend(entries.iter().map(|entry| task_view(one.network.name(), entry, whole)));
    }
    Ok(Json(newest(views, rows_max)))
}

async fn earnings(
    State(context): State<Context>,
    UrlQuery(which): UrlQuery<Which>,
) -> Answer<Status> {
    let wanted = context.of(which.network.as_deref())?;
    for one in &wanted {
        // A fresh answer where the coordinator gives one, else the last that was heard.
        if let Err(reason) = one.ask_account().await {
            let network = one.network.name();
            tracing::debug!(network, "the account was not heard of: {reason}");
        }
    }
    statuses(&wanted).await.map(|all| Json(PerNetwork(all))).map_err(|error| failed(&error))
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

/// What a network of the node does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeOf {
    /// The network.
    pub network: String,
    /// What the node does in it.
    pub mode: Mode,
}

fn change(context: &Context, which: &Which, mode: Mode) -> Answer<ModeOf> {
    let wanted = context.of(which.network.as_deref())?;
    let set = |one: &Arc<Enrolment>| ModeOf {
        network: one.network.name().to_owned(),
        mode: one.set_mode(mode),
    };
    Ok(Json(PerNetwork(wanted.iter().map(set).collect())))
}

async fn pause(State(context): State<Context>, UrlQuery(which): UrlQuery<Which>) -> Answer<ModeOf> {
    change(&context, &which, Mode::Paused)
}

async fn resume(
    State(context): State<Context>,
    UrlQuery(which): UrlQuery<Which>,
) -> Answer<ModeOf> {
    change(&context, &which, Mode::Running)
}

async fn finish(
    State(context): State<Context>,
    UrlQuery(which): UrlQuery<Which>,
) -> Answer<ModeOf> {
    change(&context, &which, Mode::Finishing)
}

/// Stops the whole node: what stops in one network only is `finish`.
async fn stop(State(context): State<Context>) -> Answer<ModeOf> {
    let answer = change(&context, &Which { network: None }, Mode::Stopping);
    let node = Arc::clone(&context.node);
    tokio::spawn(async move {
        // The answer leaves first.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        node.stop();
    });
    answer
}

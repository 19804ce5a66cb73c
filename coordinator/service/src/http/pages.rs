//! The plain pages: everything on them is in the API too.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use openledger_web::Page;
use openledger_wire::{AccountId, TaskId};

use super::answers::AskedView;
use super::api::{AccountView, EpochRow, NodeRow, StatsView};
use super::campaigns::CampaignRow;
use super::documents::DocumentRow;
use super::history::History;
use super::{Api, Failed, api, campaigns, history, id};
use crate::inference::Named;
use crate::limits;

fn page(api: &Api, title: impl Into<String>) -> Page {
    Page::new(format!("OpenLedger {}", api.name), title)
        .link("/", "Overview")
        .link("/api/v1/status", "Status")
        .link("/api/v1/stats", "Figures")
        .link("/api/v1/campaigns", "Campaigns")
        .link("/api/v1/documents", "Documents")
        .link("/api/v1/profile", "Profile")
}

/// `GET /`.
pub(super) async fn start(State(state): State<Api>) -> Result<Response, Failed> {
    let epochs = api::epoch_rows(&state, limits::EPOCHS_SHOWN).await?;
    let nodes = api::node_rows(&state).await?;
    let stats = api::stats_view(&state).await?;
    let look = state.core.look(|state, _| {
        let accounts: Vec<AccountId> = state.accounts().map(|(id, _)| *id).collect();
        accounts.iter().filter_map(|id| api::account_view(state, *id)).collect::<Vec<_>>()
    });
    let mut accounts = look.await?;
    accounts.sort_by_key(|row| std::cmp::Reverse((row.vested, row.pending)));
    accounts.truncate(limits::ROWS_SHOWN_MAX);
    let tasks = recent_tasks(&state).await?;
    let campaigns = campaigns::rows(&state).await?;
    let body = html! {
        (figures(&stats))
        h2 { "Epochs" }
        (epoch_table(&epochs))
        @if !campaigns.is_empty() {
            h2 { "Campaigns" }
            (campaign_table(&campaigns))
        }
        h2 { "Leaderboard" }
        (account_table(&accounts))
        h2 { "Nodes" }
        (node_table(&nodes))
        h2 { "Recent tasks" }
        table {
            tr { th { "task" } th { "kind" } }
            @for (task, kind) in &tasks {
                tr { td { a href=(format!("/tasks/{task}")) { code { (task.short()) } } } td { (kind) } }
            }
        }
    };
    Ok(page(&state, "The swarm now").refresh_s(5).respond(&body))
}

async fn recent_tasks(api: &Api) -> Result<Vec<(TaskId, &'static str)>, Failed> {
    let look = api.core.look(|state, _| {
        let mut tasks: Vec<_> =
            state.tasks().map(|(id, task)| (task.order, *id, task.spec.kind.name())).collect();
        tasks.sort_by_key(|(order, ..)| std::cmp::Reverse(*order));
        tasks.truncate(50);
        tasks.into_iter().map(|(_, id, kind)| (id, kind)).collect()
    });
    Ok(look.await?)
}

fn figures(view: &StatsView) -> Markup {
    html! {
        dl {
            dt { "Nodes on the link" } dd { (view.connected) }
            dt { "Pages refined" } dd { (view.stats.urls_refined) }
            dt { "Pages fetched and agreed on" } dd { (view.stats.pages_accepted) }
            dt { "Prompts answered" } dd { (view.stats.answers_accepted) }
            dt { "Receipts given" } dd { (view.stats.receipts) }
            dt { "Tasks open" } dd { (view.tasks_open) }
            dt { "Points awarded" } dd { (view.stats.points) }
            dt { "Documents collected" }
            dd {
                (view.documents.counts.collected) " (" (view.documents.counts.bytes) " bytes), "
                (view.documents.counts.duplicates) " of them near-duplicates"
            }
            dt { "Documents still to be fetched" } dd { (view.documents.counts.waiting) }
            @if !view.documents.counts.reasons.is_empty() {
                dt { "Documents not delivered or refused" }
                dd {
                    @for (reason, count) in &view.documents.counts.reasons { (count) " " (reason) " " }
                }
            }
            dt { "Receipt to verdict" } dd { (view.stats.verdict_ms_median) " ms (median)" }
        }
    }
}

fn epoch_table(epochs: &[EpochRow]) -> Markup {
    html! {
        @if epochs.is_empty() {
            p .soft { "No epoch was closed yet." }
        } @else {
            table {
                tr {
                    th .number { "epoch" } th .number { "OPEN in all" } th { "root" }
                    th { "bundle" } th { "on chain" }
                }
                @for row in epochs {
                    tr {
                        td .number { (row.epoch) }
                        td .number { (row.total) }
                        td { code { (row.root.short()) } }
                        td {
                            @if row.bundle.is_some() {
                                a href=(format!("/api/v1/epochs/{}/bundle", row.epoch)) { "download" }
                            } @else { span .wait { "being built" } }
                        }
                        td {
                            @if row.posted { span .good { "posted" } }
                            @else { span .wait { "not yet" } }
                        }
                    }
                }
            }
        }
    }
}

fn campaign_table(campaigns: &[CampaignRow]) -> Markup {
    html! {
        table {
            tr {
                th { "campaign" } th .number { "points spent" } th .number { "of" }
                th .number { "tasks" } th .number { "documents" } th .number { "answers" }
                th { "models" }
            }
            @for row in campaigns {
                tr {
                    td { (row.name) }
                    td .number { (row.spent) }
                    td .number { (row.budget) }
                    td .number { (row.tasks) }
                    td .number { (row.documents.collected) }
                    @if let Some(inference) = &row.inference {
                        td .number { (inference.answered) " of " (inference.tasks) }
                        td {
                            @for model in &inference.models_named { (named(model)) " " }
                            @if inference.adapters > 0 {
                                span .soft { "with " (inference.adapters) " adapters" }
                            }
                        }
                    } @else { td {} td {} }
                }
            }
        }
    }
}

/// A model's or adapter's name, or the begin of its id.
fn named(model: &Named) -> Markup {
    html! {
        @match &model.name {
            Some(name) => span title=(model.id) { (name) },
            None => code title=(model.id) { (model.id.short()) },
        }
    }
}

fn account_table(accounts: &[AccountView]) -> Markup {
    html! {
        table {
            tr {
                th { "account" } th .number { "vested" } th .number { "pending" }
                th .number { "OPEN" } th { "payout address" }
            }
            @for row in accounts {
                tr {
                    td { a href=(format!("/api/v1/accounts/{}", row.account)) { code { (row.account.short()) } } }
                    td .number { (row.vested) }
                    td .number { (row.pending) }
                    td .number { (row.cumulative) }
                    td {
                        @match row.payout {
                            Some(payout) => code { "0x" (payout) },
                            None => span .soft { "not bound" },
                        }
                    }
                }
            }
        }
    }
}

fn node_table(nodes: &[NodeRow]) -> Markup {
    html! {
        table {
            tr {
                th { "node" } th { "account" } th { "program" } th .number { "accepted" }
                th .number { "rejected" } th .number { "weight" } th { "link" }
            }
            @for row in nodes {
                tr {
                    td { code { (row.node.short()) } @if row.founding { " " span .soft { "founding" } } }
                    td { code { (row.account.short()) } }
                    td { (row.agent) }
                    td .number { (row.accepted) }
                    td .number { (row.rejected) }
                    td .number { (row.weight_milli / 1_000) "." (format!("{:03}", row.weight_milli % 1_000)) }
                    td { @if row.connected { span .good { "up" } } @else { span .bad { "down" } } }
                }
            }
        }
    }
}

/// `GET /tasks/{id}`.
pub(super) async fn task(
    State(state): State<Api>,
    Path(text): Path<String>,
) -> Result<Response, Failed> {
    let task: TaskId = id(&text)?;
    match history::of(&state, task).await {
        Ok(history) => {
            let title = format!("{} task {}", history.kind, task.short());
            Ok(page(&state, title).respond(&history_body(&history)))
        }
        Err(Failed(error)) if error.code == "not-found" => {
            let mut response =
                page(&state, "No such task").respond(&html! { p { (error.message) } });
            *response.status_mut() = error.status;
            Ok(response)
        }
        Err(failed) => Ok(failed.into_response()),
    }
}

fn history_body(history: &History) -> Markup {
    html! {
        dl {
            dt { "Task" } dd { code { (history.task) } }
            @if let Some(url) = &history.url { dt { "Page" } dd { (url) } }
            @if let Some(asked) = &history.infer { (asked_rows(asked)) }
            @if let Some(campaign) = &history.campaign { dt { "Campaign" } dd { code { (campaign) } } }
        }
        h2 { "What happened" }
        table {
            tr { th .number { "entry" } th .number { "time (ms)" } th { "node" } th { "what" } }
            @for step in &history.steps {
                tr {
                    td .number { (step.height) }
                    td .number { (step.at) }
                    td { @if let Some(node) = &step.node { code { (node.short()) } } }
                    td { (step.text) }
                }
            }
        }
        @if let Some(row) = &history.document { (document(row)) }
        @if !history.verdicts.is_empty() {
            h2 { "Verdicts" }
            table {
                tr { th { "proof" } th { "node" } th { "verdict" } th .number { "points" } th .number { "epoch" } th { "on chain" } }
                @for row in &history.verdicts {
                    tr {
                        td { code { (row.proof.short()) } }
                        td { code { (row.node.short()) } }
                        td {
                            (row.verdict) ": " (row.sentence)
                            @if let Some(answer) = &row.answer {
                                " " span .soft { (answer.tokens) " tokens by " (answer.backend) }
                            }
                        }
                        td .number { (row.points) }
                        td .number { (row.epoch) }
                        td { @if row.posted { "posted" } @else { "not yet" } }
                    }
                }
            }
        }
    }
}

/// What an infer task asks for; its words are in no page.
fn asked_rows(asked: &AskedView) -> Markup {
    html! {
        dt { "Model" } dd { (named(&asked.model)) " " code { (asked.model.id) } }
        @for row in &asked.adapters {
            dt { "Adapter" }
            dd {
                (named(&row.adapter)) " at " (row.weight_permille) " \u{2030} "
                code { (row.adapter.id) }
            }
        }
        dt { "Prompt" } dd { code { (asked.prompt) } }
        dt { "Answer" }
        dd { "at most " (asked.tokens_max) " tokens, temperature " (asked.temperature_permille) " \u{2030}" }
        @if let Some(tolerance) = asked.tolerance_micro {
            dt { "Tolerance" }
            dd { (tolerance) " millionths in the log-probability of each token" }
        }
    }
}

fn document(row: &DocumentRow) -> Markup {
    html! {
        h2 { "Document" }
        dl {
            dt { "Document" }
            dd {
                @if row.state == "collected" {
                    a href=(format!("/api/v1/documents/{}", row.document)) { code { (row.document) } }
                } @else { code { (row.document) } }
            }
            dt { "Length" } dd { (row.bytes) " bytes" }
            dt { "Collection" }
            dd {
                @match row.state {
                    "collected" => span .good { "collected and verified" },
                    "waiting" => span .wait { "to be fetched from those who made it" },
                    "failed" => span .bad { "not delivered so far; it is asked for again" },
                    state => span .bad { (state) },
                }
                @if let Some(reason) = &row.reason { " failed to " (reason.text) }
            }
            @if let Some(title) = &row.title { dt { "Title" } dd { (title) } }
            @if let Some(original) = &row.duplicate_of {
                dt { "Near-duplicate of" } dd { code { (original) } " and left out of the export" }
            } @else if row.duplicates > 0 {
                dt { "Near-duplicates of it" } dd { (row.duplicates) }
            }
        }
    }
}

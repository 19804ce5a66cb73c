//! A task's history with reasons.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use openledger_wire::{TaskId, UnixMs};

use super::moments::{after, age, moment};
use super::numbers::{bytes, fraction};
use super::page;
use super::tables::{link, named};
use crate::clock;
use crate::http::answers::AskedView;
use crate::http::documents::DocumentRow;
use crate::http::history::{self, History, Judged};
use crate::http::{Api, Failed, id};

/// `GET /tasks/{id}`.
pub(in crate::http) async fn task(
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
    let first = history.steps.first().map_or(UnixMs(0), |step| UnixMs(step.at));
    html! {
        dl {
            dt { "Task" } dd { code { (history.task) } }
            dt { "Logged" } dd { (moment(first)) ", " (age(first, clock::now())) }
            @if let Some(campaign) = history.campaign {
                dt { "Campaign" }
                dd {
                    @match &history.campaign_name {
                        Some(name) => (link(campaign, name)),
                        None => code { (campaign) },
                    }
                }
            }
            @if let Some(url) = &history.url { dt { "Page" } dd { (url) } }
            @if let Some(asked) = &history.infer { (asked_rows(asked)) }
        }
        h2 { "What happened" }
        table {
            tr {
                th .number { "entry" } th { "time" } th .number { "after" } th { "node" }
                th { "what" }
            }
            @for step in &history.steps {
                tr {
                    td .number { (step.height) }
                    td { (moment(UnixMs(step.at))) }
                    td .number { (after(UnixMs(step.at), first)) }
                    td { @if let Some(node) = &step.node { code { (node.short()) } } }
                    td { (step.text) }
                }
            }
        }
        @if let Some(row) = &history.document { (document(row)) }
        @if !history.verdicts.is_empty() { (verdicts(&history.verdicts)) }
    }
}

fn verdicts(verdicts: &[Judged]) -> Markup {
    html! {
        h2 { "Verdicts" }
        table {
            tr {
                th { "proof" } th { "node" } th { "verdict" } th .number { "points" }
                th .number { "epoch" } th { "on chain" }
            }
            @for row in verdicts {
                tr {
                    td { code { (row.proof.short()) } }
                    td { code { (row.node.short()) } }
                    td {
                        @match row.verdict {
                            "accepted" => span .good { "accepted" },
                            "rejected" => span .bad { "rejected" },
                            other => span .wait { (other) },
                        }
                        ": " (row.sentence)
                        @if let Some(answer) = &row.answer {
                            " " span .soft { (answer.tokens) " tokens by " (answer.backend) }
                        }
                    }
                    td .number { (row.points) }
                    td .number { (row.epoch) }
                    td { @if row.posted { span .good { "posted" } } @else { span .wait { "not yet" } } }
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
                (named(&row.adapter)) " at weight " (fraction(row.weight_permille, 1_000)) " "
                code { (row.adapter.id) }
            }
        }
        dt { "Prompt" } dd { code { (asked.prompt) } }
        dt { "Answer" }
        dd {
            "at most " (asked.tokens_max) " tokens, temperature "
            (fraction(asked.temperature_permille, 1_000))
        }
        @if let Some(tolerance) = asked.tolerance_micro {
            dt { "Tolerance" }
            dd { (fraction(tolerance, 1_000_000)) " in the log-probability of each token" }
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
            dt { "Length" } dd { (bytes(row.bytes)) }
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

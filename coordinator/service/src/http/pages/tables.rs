//! Figures and tables that stand on more than one page.

use maud::{Markup, html};
use openledger_rules::state::TaskRecord;
use openledger_wire::{CampaignId, TaskId, UnixMs};

use super::moments::{age, span};
use super::numbers::{bytes, grouped};
use crate::figures::Stats;
use crate::http::api::{AccountView, EpochRow, NodeRow, StatsView};
use crate::http::campaigns::CampaignRow;
use crate::http::{Api, Failed};
use crate::inference::Named;
use crate::limits;

pub(super) fn figures(view: &StatsView) -> Markup {
    html! {
        dl {
            dt { "Nodes on the link" } dd { (view.connected) }
            dt { "Pages refined" } dd { (view.stats.urls_refined) }
            dt { "Pages fetched and agreed on" } dd { (view.stats.pages_accepted) }
            dt { "Prompts answered" } dd { (view.stats.answers_accepted) }
            dt { "Receipts given" } dd { (view.stats.receipts) }
            dt { "Tasks open" } dd { (view.tasks_open) }
            dt { "Points awarded" } dd { (grouped(view.stats.points)) }
            dt { "Documents collected" }
            dd {
                (view.documents.counts.collected) " (" (bytes(view.documents.counts.bytes)) "), "
                (view.documents.counts.duplicates) " of them near-duplicates"
            }
            dt { "Documents still to be fetched" } dd { (view.documents.counts.waiting) }
            @if !view.documents.counts.reasons.is_empty() {
                dt { "Documents not delivered or refused" }
                dd {
                    @for (reason, count) in &view.documents.counts.reasons { (count) " " (reason) " " }
                }
            }
            dt { "Receipt to verdict" } dd { (latency(&view.stats)) }
        }
    }
}

/// How long proofs waited for their verdicts, in the words of a person.
fn latency(stats: &Stats) -> Markup {
    let (at_once, all) = (stats.verdicts_at_once, stats.verdicts_timed);
    html! {
        @if all == 0 {
            span .soft { "no proof was judged yet" }
        } @else {
            @if let Some(median) = stats.verdict_ms_waited_median { (span(median)) ", or " }
            "at once for " (at_once) " of the last " (all)
            @if let Some(most) = stats.verdict_ms_p95 {
                " " span .soft { "(95 of 100 within " (span(most)) ")" }
            }
        }
    }
}

pub(super) fn epochs(epochs: &[EpochRow], now: UnixMs) -> Markup {
    html! {
        @if epochs.is_empty() {
            p .soft { "No epoch was closed yet." }
        } @else {
            table {
                tr {
                    th .number { "epoch" } th { "closed" } th .number { "OPEN in all" }
                    th { "root" }
                    th { "bundle" } th { "on chain" }
                }
                @for row in epochs {
                    tr {
                        td .number { (row.epoch) }
                        td { (age(UnixMs(row.at), now)) }
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

pub(super) fn campaigns(campaigns: &[CampaignRow]) -> Markup {
    html! {
        table {
            tr {
                th { "campaign" } th .number { "points spent" } th .number { "of" }
                th .number { "tasks" } th .number { "documents" } th .number { "answers" }
                th { "models" }
            }
            @for row in campaigns {
                tr {
                    td { (link(row.campaign, &row.name)) }
                    td .number { (grouped(row.spent.0)) }
                    td .number { (grouped(row.budget.0)) }
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

/// A campaign by its name, leading to its page.
pub(super) fn link(campaign: CampaignId, name: &str) -> Markup {
    html! { a href=(format!("/campaigns/{campaign}")) title=(campaign) { (name) } }
}

/// A model's or adapter's name, or the begin of its id.
pub(super) fn named(model: &Named) -> Markup {
    html! {
        @match &model.name {
            Some(name) => span title=(model.id) { (name) },
            None => code title=(model.id) { (model.id.short()) },
        }
    }
}

pub(super) fn accounts(accounts: &[AccountView]) -> Markup {
    html! {
        table {
            tr {
                th { "account" } th .number { "vested" } th .number { "pending" }
                th .number { "OPEN" } th { "payout address" }
            }
            @for row in accounts {
                tr {
                    td { a href=(format!("/api/v1/accounts/{}", row.account)) { code { (row.account.short()) } } }
                    td .number { (grouped(row.vested)) }
                    td .number { (grouped(row.pending)) }
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

pub(super) fn nodes(nodes: &[NodeRow]) -> Markup {
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

/// A task that the rules still hold.
pub(super) struct TaskRow {
    task: TaskId,
    kind: &'static str,
    campaign: CampaignId,
    /// The campaign's name.
    name: String,
    at: UnixMs,
    is_done: bool,
    is_accepted: bool,
}

/// The tasks logged last, newest first: of one campaign, or of all.
pub(super) async fn recent_tasks(
    api: &Api,
    of: Option<CampaignId>,
) -> Result<Vec<TaskRow>, Failed> {
    let look = api.core.look(move |state, _| {
        let wanted = |campaign: CampaignId| of.is_none_or(|of| of == campaign);
        let mut tasks: Vec<_> =
            state.tasks().filter(|(_, task)| wanted(task.spec.campaign)).collect();
        tasks.sort_by_key(|(_, task)| std::cmp::Reverse(task.order));
        tasks.truncate(limits::TASKS_SHOWN);
        let name = |id: CampaignId| {
            let campaign = state.campaigns().find(|(known, _)| **known == id);
            campaign.map_or_else(|| id.short(), |(_, record)| record.campaign.name.to_string())
        };
        let row = |(id, task): (&TaskId, &TaskRecord)| TaskRow {
            task: *id,
            kind: task.spec.kind.name(),
            campaign: task.spec.campaign,
            name: name(task.spec.campaign),
            at: task.at,
            is_done: task.done.is_some(),
            is_accepted: task.accepted,
        };
        tasks.into_iter().map(row).collect()
    });
    Ok(look.await?)
}

pub(super) fn tasks(tasks: &[TaskRow], now: UnixMs) -> Markup {
    html! {
        table {
            tr { th { "task" } th { "kind" } th { "campaign" } th { "logged" } th { "state" } }
            @for row in tasks {
                tr {
                    td { a href=(format!("/tasks/{}", row.task)) { code { (row.task.short()) } } }
                    td { (row.kind) }
                    td { (link(row.campaign, &row.name)) }
                    td { (age(row.at, now)) }
                    td {
                        @match (row.is_done, row.is_accepted) {
                            (false, _) => span .wait { "open" },
                            (true, true) => span .good { "accepted" },
                            (true, false) => span .bad { "nothing accepted" },
                        }
                    }
                }
            }
        }
    }
}

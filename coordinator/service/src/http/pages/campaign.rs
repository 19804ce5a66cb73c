//! One campaign: what it pays for, under which terms, and what came of it.

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use openledger_wire::CampaignId;

use super::numbers::grouped;
use super::page;
use super::tables::{named, recent_tasks, tasks};
use crate::clock;
use crate::http::answers::InferenceView;
use crate::http::campaigns::{self, CampaignRow};
use crate::http::{Api, Failed, id};

/// `GET /campaigns/{id}`.
pub(in crate::http) async fn campaign(
    State(state): State<Api>,
    Path(text): Path<String>,
) -> Result<Response, Failed> {
    let campaign: CampaignId = id(&text)?;
    let Some(row) = campaigns::one(&state, campaign).await? else {
        let words = "no campaign of this id was funded in this network; check the id";
        let mut response = page(&state, "No such campaign").respond(&html! { p { (words) } });
        *response.status_mut() = axum::http::StatusCode::NOT_FOUND;
        return Ok(response);
    };
    let recent = recent_tasks(&state, Some(campaign)).await?;
    let body = html! {
        (terms(&row))
        @if let Some(inference) = &row.inference { (answers(inference)) }
        h2 { "Recent tasks" }
        @if recent.is_empty() {
            p .soft { "None is open or within the time in which it can be disputed." }
        } @else { (tasks(&recent, clock::now())) }
    };
    Ok(page(&state, row.name.clone()).refresh_s(5).respond(&body))
}

fn terms(row: &CampaignRow) -> Markup {
    let documents = &row.documents;
    html! {
        dl {
            dt { "Campaign" } dd { code { (row.campaign) } }
            dt { "Contact" } dd { (row.contact) }
            dt { "Terms" } dd { (row.terms) }
            dt { "Points" } dd { (grouped(row.spent.0)) " spent of " (grouped(row.budget.0)) }
            dt { "Fetches of each page" } dd { (row.replicas) }
            dt { "Tasks" } dd { (row.tasks) }
            dt { "Documents" }
            dd {
                (documents.collected) " collected, " (documents.waiting) " to be fetched, "
                (documents.duplicates) " near-duplicates "
                a href=(format!("/api/v1/documents?campaign={}", row.campaign)) { "list" }
            }
        }
    }
}

fn answers(of: &InferenceView) -> Markup {
    html! {
        h2 { "Inference" }
        dl {
            dt { "Prompts answered" } dd { (of.answered) " of " (of.tasks) }
            dt { "Proofs" }
            dd {
                (of.accepted) " accepted, " (of.rejected) " rejected, "
                (of.inconclusive) " inconclusive"
            }
            dt { "Models" } dd { @for model in &of.models_named { (named(model)) " " } }
            @if of.adapters > 0 {
                dt { "Adapters" }
                dd {
                    @for adapter in &of.adapters_named { (named(adapter)) " " }
                    span .soft { "(" (of.adapters) ")" }
                }
            }
        }
    }
}

//! The plain pages: everything on them is in the API too.

mod campaign;
mod moments;
mod numbers;
mod tables;
mod task;

use axum::extract::State;
use axum::response::Response;
use maud::html;
use openledger_web::Page;
use openledger_wire::AccountId;

use super::{Api, Failed, api, campaigns};
use crate::{clock, limits};

pub(super) use campaign::campaign;
pub(super) use task::task;

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
    let tasks = tables::recent_tasks(&state, None).await?;
    let campaigns = campaigns::rows(&state).await?;
    let now = clock::now();
    let body = html! {
        (tables::figures(&stats))
        h2 { "Epochs" }
        (tables::epochs(&epochs, now))
        @if !campaigns.is_empty() {
            h2 { "Campaigns" }
            (tables::campaigns(&campaigns))
        }
        h2 { "Leaderboard" }
        (tables::accounts(&accounts))
        h2 { "Nodes" }
        (tables::nodes(&nodes))
        h2 { "Recent tasks" }
        (tables::tasks(&tasks, now))
    };
    Ok(page(&state, "The swarm now").refresh_s(5).respond(&body))
}

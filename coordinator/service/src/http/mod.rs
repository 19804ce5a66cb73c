//! The public HTTP API, read-only but for campaigns, and a plain page.
//!
//! | path | what |
//! |---|---|
//! | `GET /` | epochs, nodes, leaderboard |
//! | `GET /tasks/{id}` | a task's history with reasons, for people |
//! | `GET /campaigns/{id}` | a campaign and its tasks, for people |
//! | `GET /api/v1/status` | clock, round, epoch, head (signed), connected nodes |
//! | `GET /api/v1/profile` | the signed network profile, as text |
//! | `GET /api/v1/epochs` | closed epochs, newest first, with roots, bundles and posts |
//! | `GET /api/v1/epochs/{n}/bundle` | the bundle's canonical bytes |
//! | `GET /api/v1/log?from=&max=` | log entries as hex of their canonical bytes, with heads |
//! | `GET /api/v1/nodes` | nodes with weight, trust and counts |
//! | `GET /api/v1/accounts/{id}` | an account's points and OPEN |
//! | `GET /api/v1/accounts/{id}/claim` | its leaf and path under the last good root |
//! | `GET /api/v1/tasks/{id}` | a task's history as JSON |
//! | `GET /api/v1/campaigns` | campaigns with budgets, counts of their documents and of their answers |
//! | `GET /api/v1/documents?campaign=&after=&limit=` | documents by number, from the log, with what became of each |
//! | `GET /api/v1/documents/{id}` | a collected document with its text |
//! | `GET /api/v1/stats` | figures |
//! | `GET /api/v1/events` | server-sent events: `epoch`, `height` |
//! | `POST /api/v1/campaigns` | fund a campaign: needs the operator token |
//! | `GET /metrics` | figures as text for Prometheus, if configured |
//!
//! Errors are `{"error":{"code","message"}}`. Amounts of OPEN are decimal strings in units of
//! OPEN; ids are lower-case hex; times are milliseconds since 1970. Prompts are shown by id only, and
//! answers by their length.

mod answers;
mod api;
mod campaigns;
mod documents;
mod history;
mod metrics;
mod pages;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use openledger_ledger::Ledger;
use openledger_rules::RuleSet;
use openledger_swarm::LinkServer;
use openledger_web::{ApiError, Live, Token, require_token};
use openledger_wire::{Epoch, NetworkId};
use tokio::sync::watch;

pub use campaigns::CampaignRequest;

use crate::bundles::Bundles;
use crate::core::{Core, CoreError};
use crate::documents::Documents;
use crate::inference::{Names, Prompts};
use crate::limits;
use crate::signer::Signer;

/// What the routes need.
#[derive(Clone)]
pub struct Api {
    /// The core.
    pub core: Core,
    /// The log.
    pub ledger: Arc<dyn Ledger>,
    /// Bundles of closed epochs.
    pub bundles: Bundles,
    /// The link, for who is connected.
    pub link: LinkServer,
    /// Signs heads.
    pub signer: Arc<Signer>,
    /// The last epoch with a good root.
    pub claimable: watch::Receiver<Option<Epoch>>,
    /// Proofs that gossip brought before the link did.
    pub first_by_gossip: Arc<AtomicU64>,
    /// What was collected.
    pub documents: Documents,
    /// Where prompts are kept.
    pub prompts: Prompts,
    /// What models and adapters are called.
    pub names: Names,
    /// Events for open pages.
    pub live: Live,
    /// The network.
    pub network: NetworkId,
    /// The rules in force.
    pub rules: Arc<RuleSet>,
    /// The signed profile.
    pub profile: Arc<str>,
    /// The network's name.
    pub name: Arc<str>,
}

/// All routes.
pub fn routes(api: Api, operator: Token, metrics: bool) -> Router {
    let open = Router::new()
        .route("/", get(pages::start))
        .route("/tasks/{id}", get(pages::task))
        .route("/campaigns/{id}", get(pages::campaign))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/profile", get(api::profile))
        .route("/api/v1/epochs", get(api::epochs))
        .route("/api/v1/epochs/{epoch}/bundle", get(api::bundle))
        .route("/api/v1/log", get(api::log))
        .route("/api/v1/nodes", get(api::nodes))
        .route("/api/v1/accounts/{id}", get(api::account))
        .route("/api/v1/accounts/{id}/claim", get(api::claim))
        .route("/api/v1/tasks/{id}", get(api::task))
        .route("/api/v1/campaigns", get(campaigns::list))
        .route("/api/v1/documents", get(documents::list))
        .route("/api/v1/documents/{id}", get(documents::one))
        .route("/api/v1/stats", get(api::stats))
        .route("/api/v1/events", get(api::events));
    let open = if metrics { open.route("/metrics", get(metrics::text)) } else { open };
    let fund = post(campaigns::fund).layer(DefaultBodyLimit::max(limits::CAMPAIGN_BYTES_MAX));
    let operators = Router::new().route("/api/v1/campaigns", fund);
    open.merge(require_token(operators, operator)).with_state(api)
}

impl From<CoreError> for Failed {
    fn from(error: CoreError) -> Self {
        tracing::error!("failed to answer: {error}");
        Self(ApiError::later("the coordinator is stopping; ask again later", 5))
    }
}

impl From<openledger_ledger::LedgerError> for Failed {
    fn from(error: openledger_ledger::LedgerError) -> Self {
        if let openledger_ledger::LedgerError::NotClosed { epoch } = error {
            return Self(ApiError::not_found(format!(
                "epoch {epoch} is not closed yet; see /api/v1/epochs for those that are"
            )));
        }
        tracing::error!("failed to answer: {error}");
        Self(ApiError::internal())
    }
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

/// An answer that says no, from whatever went wrong behind it.
#[derive(Debug)]
pub(crate) struct Failed(ApiError);

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

/// Reads an id from a path, or says what one looks like.
fn id<T: std::str::FromStr<Err = openledger_wire::ids::ParseIdError>>(
    text: &str,
) -> Result<T, ApiError> {
    text.parse().map_err(|error: openledger_wire::ids::ParseIdError| {
        ApiError::bad_request(format!("failed to {error}"))
    })
}

//! The coordinator's public API, as anybody may ask it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use openledger_wire::log::Entry;
use openledger_wire::{AccountId, Epoch, EvmAddress, Height, Keccak, NetworkId, Open, Round};
use reqwest::{Client, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::limits;

/// A coordinator.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: PathBuf,
    http: Client,
}

/// How the coordinator stands.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The network.
    pub network: NetworkId,
    /// The round.
    pub round: Round,
    /// The epoch.
    pub epoch: Epoch,
    /// The last epoch that was closed.
    pub last_closed: Option<Epoch>,
    /// The last epoch that can be claimed from.
    pub claimable: Option<Epoch>,
    /// Height of the log.
    pub height: Height,
    /// Nodes with an open link.
    pub connected: u64,
    /// Tasks that are not done.
    pub tasks_open: u64,
}

/// What the coordinator counts.
#[derive(Clone, Debug, Deserialize)]
pub struct Stats {
    /// Tasks by kind.
    pub tasks: BTreeMap<String, u64>,
    /// Distinct URLs with an accepted refinement.
    pub urls_refined: u64,
    /// Verdicts such as `fetch accepted`.
    pub verdicts: BTreeMap<String, u64>,
    /// Proofs that wait for a verdict.
    pub waiting: u64,
    /// Proofs that gossip brought before the link did.
    pub proofs_first_seen_by_gossip: u64,
    /// What became of the documents.
    pub documents: Documents,
}

/// What became of the documents that campaigns paid for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Documents {
    /// Fetched from the nodes that made them, as blobs, and verified.
    pub collected: u64,
    /// Of these, near-duplicates of an earlier one.
    pub duplicates: u64,
    /// Still to be fetched.
    pub waiting: u64,
    /// Not delivered, or refused as not what was proven, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The first height of the log that was not looked at for documents.
    pub next_height: Height,
}

/// A closed epoch.
#[derive(Clone, Debug, Deserialize)]
pub struct EpochRow {
    /// Which.
    pub epoch: Epoch,
    /// Its root.
    pub root: Keccak,
}

/// An account's leaf under the last good root.
#[derive(Clone, Debug, Deserialize)]
pub struct Leaf {
    /// The epoch whose root it belongs to.
    pub epoch: Epoch,
    /// Who is paid.
    pub payout: EvmAddress,
    /// All that was ever earned by it.
    pub cumulative: Open,
}

/// A campaign to fund.
#[derive(Clone, Debug, Serialize)]
pub struct Campaign {
    /// Its name.
    pub name: String,
    /// Where a site's owner can complain.
    pub contact: String,
    /// Terms under which the documents are used.
    pub terms: String,
    /// Points that it may give away.
    pub budget: u64,
    /// Replicas that fetch each page.
    pub replicas: u8,
    /// Pages to fetch.
    pub urls: Vec<String>,
    /// What to ask of models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub infer: Vec<Infer>,
}

/// Prompts for a model with adapters.
#[derive(Clone, Debug, Serialize)]
pub struct Infer {
    /// Blob id of the base model.
    pub model: String,
    /// What pages call it.
    pub model_name: String,
    /// Adapters to put on it.
    pub adapters: Vec<InferAdapter>,
    /// Chats, one task each.
    pub prompts: Vec<serde_json::Value>,
    /// Tokens of an answer at most.
    pub tokens_max: u32,
    /// Temperature in thousandths; 0 is greedy.
    pub temperature_permille: u32,
}

/// An adapter on a base model.
#[derive(Clone, Debug, Serialize)]
pub struct InferAdapter {
    /// Its blob id.
    pub id: String,
    /// What pages call it.
    pub name: String,
}

#[derive(Deserialize)]
struct LogPage {
    entries: Vec<LogLine>,
}

#[derive(Deserialize)]
struct LogLine {
    bytes: String,
}

impl Api {
    /// The API at a base URL; the token funds campaigns.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new(base: &str, token: PathBuf) -> anyhow::Result<Self> {
        let http = Client::builder().no_proxy().timeout(limits::ANSWER_TIME_MAX).build();
        let http = http.context("set up the HTTP client")?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token, http })
    }

    /// Its base URL.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// How it stands.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> anyhow::Result<Status> {
        self.get("status").await
    }

    /// What it counts.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stats(&self) -> anyhow::Result<Stats> {
        self.get("stats").await
    }

    /// Closed epochs.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn epochs(&self) -> anyhow::Result<Vec<EpochRow>> {
        self.get("epochs").await
    }

    /// The leaf of an account, once it has one.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn leaf(&self, account: AccountId) -> anyhow::Result<Option<Leaf>> {
        let path = format!("accounts/{account}/claim");
        self.find(&path).await
    }

    /// Log entries from a height on, as many as fit one answer.
    ///
    /// # Errors
    /// When it does not answer, or with something else than log entries.
    pub async fn log(&self, from: Height) -> anyhow::Result<Vec<Entry>> {
        let page: LogPage = self.get(&format!("log?from={from}&max={}", limits::LOG_PAGE)).await?;
        let entry = |line: LogLine| {
            let bytes = hex::decode(&line.bytes).context("read the log")?;
            Entry::from_bytes(&bytes).context("read the log")
        };
        page.entries.into_iter().map(entry).collect()
    }

    /// Funds a campaign.
    ///
    /// # Errors
    /// The coordinator's reason.
    pub async fn fund(&self, campaign: &Campaign) -> anyhow::Result<()> {
        let token = std::fs::read_to_string(&self.token)
            .with_context(|| format!("read the operator token {}", self.token.display()))?;
        let url = format!("{}/api/v1/campaigns", self.base);
        let request = self.http.post(&url).bearer_auth(token.trim()).json(campaign);
        let answer = request.send().await.with_context(|| format!("ask {url}"))?;
        if !answer.status().is_success() {
            bail!("fund the campaign: {}", answer.text().await.unwrap_or_default());
        }
        Ok(())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.find(path).await?.with_context(|| format!("ask the coordinator: it has no {path}"))
    }

    async fn find<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let url = format!("{}/api/v1/{path}", self.base);
        let answer = self.http.get(&url).send().await.with_context(|| format!("ask {url}"))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => bail!("ask {url}: {status}: {}", answer.text().await.unwrap_or_default()),
        }
        if answer.content_length().is_some_and(|len| len > limits::ANSWER_BYTES_MAX as u64) {
            bail!("ask {url}: the answer is too long");
        }
        Ok(Some(answer.json().await.with_context(|| format!("understand what {url} says"))?))
    }
}

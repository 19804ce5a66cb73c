//! Upstream servers: clusters of the owner that speak OpenAI's API, behind the same interface as
//! this machine's engine.
//!
//! Their models and adapters are listed and called like others; what they answer belongs to the
//! class `upstream`, which has no fingerprints: nobody can check what such a server computed, so it
//! does no tasks and earns fees only. Addresses are the owner's own configuration; redirects are not
//! followed, and everything that comes back is bounded before it is read.

mod ask;
pub mod config;
mod events;
mod list;
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use openledger_wire::BlobId;
use openledger_wire::UnixMs;
use openledger_wire::call::{Call, CallFailure, Embed, Embedded};
use openledger_wire::gossip::Offer;
use serde::{Deserialize, Serialize};

pub use config::UpstreamConfig;

use super::{CallStream, Combined, LocalServe, Serve, Wishes};
use crate::limits;
use server::Server;

/// The class of answers of upstream servers; no rule set compares it.
pub const CLASS: &str = "upstream";

/// Upstream servers.
pub struct Upstreams {
    servers: Vec<Server>,
}

/// What is known of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamView {
    /// What the owner calls it.
    pub name: String,
    /// Its address.
    pub url: String,
    /// The class of its answers.
    pub class: String,
    /// Its base models.
    pub models: Vec<String>,
    /// How many adapters it lists.
    pub adapters: u64,
    /// When it last said what it has.
    pub heard: Option<UnixMs>,
    /// Why it does not, at the moment.
    pub problem: Option<String>,
    /// Calls begun there.
    pub calls: u64,
    /// Calls that did not begin.
    pub failed: u64,
    /// Whether peers may call its models.
    pub shared: bool,
}

impl Upstreams {
    /// These servers; none is asked anything yet.
    #[must_use]
    pub fn new(configs: Vec<UpstreamConfig>) -> Self {
        Self { servers: configs.into_iter().map(Server::new).collect() }
    }

    /// What is known of each.
    #[must_use]
    pub fn views(&self) -> Vec<UpstreamView> {
        self.servers.iter().map(Server::view).collect()
    }

    /// Asks each what it has; says whether that changed.
    pub async fn look(&self) -> bool {
        let all = self.servers.iter().map(Server::look);
        futures::future::join_all(all).await.contains(&true)
    }

    /// Asks from time to time; ends with its task.
    pub async fn keep(self: Arc<Self>) {
        if self.servers.is_empty() {
            return;
        }
        let mut due = tokio::time::interval(limits::UPSTREAM_LOOK_EVERY);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            self.look().await;
        }
    }

    /// What those offer that peers may call.
    #[must_use]
    pub fn shared_offers(&self) -> Vec<Offer> {
        let shared = self.servers.iter().filter(|server| server.config.share);
        shared.flat_map(Server::offers).collect()
    }

    fn of(&self, model: &BlobId) -> Option<&Server> {
        self.servers.iter().find(|server| server.has(model))
    }
}

/// This machine's engine and the servers behind this node, as one.
pub struct WithUpstreams {
    local: Arc<LocalServe>,
    upstreams: Arc<Upstreams>,
    /// Whether those that peers may not call are left out.
    shared_only: bool,
}

impl WithUpstreams {
    /// For the owner's own applications.
    #[must_use]
    pub const fn own(local: Arc<LocalServe>, upstreams: Arc<Upstreams>) -> Self {
        Self { local, upstreams, shared_only: false }
    }

    /// For peers.
    #[must_use]
    pub const fn shared(local: Arc<LocalServe>, upstreams: Arc<Upstreams>) -> Self {
        Self { local, upstreams, shared_only: true }
    }

    fn upstream(&self, model: &BlobId) -> Option<&Server> {
        let server = self.upstreams.of(model)?;
        (!self.shared_only || server.config.share).then_some(server)
    }
}

#[async_trait]
impl Serve for WithUpstreams {
    async fn call(&self, call: Call) -> Result<CallStream, CallFailure> {
        self.call_with(call, Wishes::default()).await
    }

    async fn call_with(&self, call: Call, wishes: Wishes) -> Result<CallStream, CallFailure> {
        match self.upstream(&call.model) {
            Some(server) => server.call(&call, &wishes).await,
            None => self.local.call_with(call, wishes).await,
        }
    }

    async fn embed(&self, embed: Embed) -> Result<Embedded, CallFailure> {
        match self.upstream(&embed.model) {
            Some(server) => server.embed(&embed).await,
            None => self.local.embed(embed).await,
        }
    }

    fn offers(&self) -> Vec<Offer> {
        let mut offers = self.local.offers();
        if self.shared_only {
            offers.extend(self.upstreams.shared_offers());
        } else {
            offers.extend(self.upstreams.servers.iter().flat_map(Server::offers));
        }
        offers
    }

    fn combinations(&self) -> Vec<Combined> {
        self.local.combinations()
    }

    fn class_of(&self, model: &BlobId) -> Option<String> {
        match self.upstream(model) {
            Some(_) => Some(CLASS.to_owned()),
            None => self.local.class_of(model),
        }
    }
}

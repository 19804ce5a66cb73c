//! The coordinator as a whole: starts its parts in the order in which they need each other, and
//! stops them in reverse.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use openledger_contracts::ChainOptions;
use openledger_ledger::Ledger;
use openledger_rules::Setup;
use openledger_swarm::{
    Blobs, BlobsConfig, IrohBlobs, LinkError, LinkLimits, LinkServer, LinkServerConfig, StoreError,
    SwarmConfig, SwarmError,
};
use openledger_web::{Live, WebConfig, WebServer};
use openledger_wire::gossip::Holder;
use openledger_wire::log::Line;
use openledger_wire::profile::{BeaconSource, Profile};
use openledger_wire::{Epoch, RuleSetId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::beacon::{BeaconClient, Blocks};
use crate::bundles::Bundles;
use crate::config::{Config, SwarmSection};
use crate::core::{Core, CoreConfig, CoreError};
use crate::documents::{Collector, CollectorParts, Documents};
use crate::gossip::{Gossip, GossipParts, GossipRules, address_texts};
use crate::http::{self, Api};
use crate::inference::{Names, Prompts};
use crate::keys::Keys;
use crate::limits;
use crate::link::{self, Link};
use crate::parts::{Parts, StartError};
use crate::running::Running;
use crate::settle::{ChainBlocks, RewardsChain, Settlement, Settler};
use crate::signer::Signer;

/// A running coordinator.
pub struct Coordinator {
    core: Core,
    core_task: JoinHandle<Result<(), CoreError>>,
    link: LinkServer,
    web: WebServer,
    blobs: Option<IrohBlobs>,
    gossip: Option<Arc<Gossip>>,
    claimable: watch::Receiver<Option<Epoch>>,
    running: Running,
    stop: CancellationToken,
}

impl Coordinator {
    /// Starts all parts. What it says once it returns is durable.
    ///
    /// # Errors
    /// The first part that did not start.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let started = Box::pin(Self::start_parts(parts, stop.clone())).await;
        if started.is_err() {
            // What had started already must not go on alone.
            stop.cancel();
        }
        started
    }

    async fn start_parts(parts: Parts, stop: CancellationToken) -> Result<Self, StartError> {
        let Parts { config, profile, profile_text, rules, keys, ledger, operator } = parts;
        let rule_set = rules.id()?;
        let setup = Setup::of(&profile, rules);
        let chain = chain_options(&profile, &keys);
        let signer = Arc::new(Signer::new(keys.settlement.clone(), setup.domain, setup.network));
        let beacons = beacon_client(&setup, &chain)?;
        let blobs = start_blobs(&config, &profile, &keys).await?;
        let shared = blobs.clone().map(|blobs| Arc::new(blobs) as Arc<dyn Blobs>);
        let holder = shared.as_ref().map(|blobs| own_holder(blobs.as_ref(), &keys));
        let core = CoreConfig {
            setup: setup.clone(),
            ledger: Arc::clone(&ledger),
            beacons,
            holder: holder.clone(),
            stop: stop.clone(),
        };
        let (core, core_task) = Core::start(core).await?;
        let bundles = Bundles::new(Arc::clone(&ledger), shared.clone());
        let (documents, running) = (Documents::new(shared.clone()), Running::default());
        let prompts = Prompts::new(shared.clone());
        let mut base =
            Base { core, ledger, signer, bundles, documents, prompts, setup, running, stop };

        let first_by_gossip = Arc::new(AtomicU64::new(0));
        let swarm = swarm_config(&config, &profile, &keys);
        let first = Arc::clone(&first_by_gossip);
        let gossip = base.start_gossip(swarm, shared, &keys, first).await?;
        let (sender, claimable) = watch::channel(None);
        let link = base.start_link(&config, &keys, claimable.clone(), holder).await?;
        let rewards = profile.chain.rewards;
        let settlement = config.settlement.enabled.then(|| RewardsChain::new(chain, rewards));
        base.start_settler(settlement, rule_set, sender);
        base.start_collector(&link);
        base.keep_blobs(blobs.clone());
        let live = Live::default();
        let Base { core, ledger, signer, bundles, documents, prompts, setup, mut running, stop } =
            base;
        let checking = prompts.clone().check_open(core.clone());
        running.spawn("prompts", until(stop.clone(), checking));
        running.spawn("pages", until(stop.clone(), tell_pages(core.clone(), live.clone())));
        let api = Api {
            core: core.clone(),
            ledger,
            bundles,
            link: link.clone(),
            signer,
            claimable: claimable.clone(),
            first_by_gossip,
            documents,
            prompts,
            names: Names::open(&config.data_dir.join("names.json")),
            live,
            network: setup.network,
            rules: setup.rules.into(),
            profile: profile_text.into(),
            name: profile.name.to_string().into(),
        };
        let routes = http::routes(api, operator, config.http.metrics);
        let web = WebServer::start(web_config(&config), routes).await?;
        Ok(Self { core, core_task, link, web, blobs, gossip, claimable, running, stop })
    }

    /// Asks the core.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The last epoch whose root can be claimed from, as far as is known.
    #[must_use]
    pub fn claimable(&self) -> Option<Epoch> {
        *self.claimable.borrow()
    }

    /// Where nodes connect.
    #[must_use]
    pub fn link_address(&self) -> SocketAddr {
        self.link.local_address()
    }

    /// Where gossip can be joined, as multiaddrs with this coordinator's peer id.
    #[must_use]
    pub fn gossip_addresses(&self) -> Vec<String> {
        self.gossip.as_ref().map(|gossip| gossip.addresses()).unwrap_or_default()
    }

    /// Base URL of the API.
    #[must_use]
    pub fn url(&self) -> String {
        self.web.url()
    }

    /// Resolves when the core has ended by itself, which it does only on a failing ledger.
    pub async fn ended(&self) {
        self.stop.cancelled().await;
    }

    /// Stops all parts: no new requests, then the core, which answers what it has taken, then the
    /// rest. Gives the names of parts that did not end in time and were cut off: none, unless
    /// something is wrong with them.
    ///
    /// # Errors
    /// What made the core end.
    pub async fn shutdown(self) -> Result<Vec<&'static str>, CoreError> {
        let Self { core, core_task, link, web, blobs, gossip, running, stop, .. } = self;
        web.shutdown().await;
        link.shutdown().await;
        stop.cancel();
        drop(core);
        let ended = core_task.await.unwrap_or(Err(CoreError::Ended));
        let late = running.end().await;
        for part in &late {
            tracing::warn!(part, "a part did not end in time; it is cut off");
        }
        if let Some(gossip) = gossip {
            gossip.shutdown().await;
        }
        if let Some(blobs) = blobs {
            blobs.shutdown().await;
        }
        ended.map(|()| late)
    }
}

/// What all parts are built on.
struct Base {
    core: Core,
    ledger: Arc<dyn Ledger>,
    signer: Arc<Signer>,
    bundles: Bundles,
    documents: Documents,
    prompts: Prompts,
    setup: Setup,
    running: Running,
    stop: CancellationToken,
}

impl Base {
    async fn start_gossip(
        &mut self,
        swarm: SwarmConfig,
        blobs: Option<Arc<dyn Blobs>>,
        keys: &Keys,
        first: Arc<AtomicU64>,
    ) -> Result<Option<Arc<Gossip>>, SwarmError> {
        let Some(blobs) = blobs else { return Ok(None) };
        let rules = GossipRules {
            network: self.setup.network,
            domain: self.setup.domain,
            coordinator: self.signer.address(),
        };
        let parts = GossipParts {
            swarm,
            rules,
            core: self.core.clone(),
            blobs,
            bundles: self.bundles.clone(),
            documents: self.documents.clone(),
            prompts: self.prompts.clone(),
            signer: Arc::clone(&self.signer),
            key: keys.node.clone(),
            first,
        };
        let (gossip, events) = Gossip::start(parts).await?;
        self.running.spawn("hearing", Arc::clone(&gossip).hear(events, self.stop.clone()));
        self.running.spawn("saying", Arc::clone(&gossip).say(self.stop.clone()));
        Ok(Some(gossip))
    }

    async fn start_link(
        &mut self,
        config: &Config,
        keys: &Keys,
        claimable: watch::Receiver<Option<Epoch>>,
        holder: Option<Holder>,
    ) -> Result<LinkServer, LinkError> {
        let (ledger, signer) = (Arc::clone(&self.ledger), Arc::clone(&self.signer));
        let service = Arc::new(Link::new(self.core.clone(), ledger, signer, claimable, holder));
        let server = LinkServerConfig {
            key: keys.node.clone(),
            address: config.link.address,
            limits: LinkLimits::default(),
        };
        let link = LinkServer::bind(server, Arc::clone(&service) as _).await?;
        self.running.spawn("pushes", until(self.stop.clone(), service.push_all(link.clone())));
        Ok(link)
    }

    fn start_settler(
        &mut self,
        chain: Option<RewardsChain>,
        rule_set: RuleSetId,
        claimable: watch::Sender<Option<Epoch>>,
    ) {
        let chain = chain.map(|chain| Arc::new(chain) as Arc<dyn Settlement>);
        let (core, bundles) = (self.core.clone(), self.bundles.clone());
        let settler = Settler::new(core, bundles, chain, rule_set, claimable);
        self.running.spawn("settlement", settler.run(self.stop.clone()));
    }

    /// A store that a full disk ended is opened again once there is room.
    fn keep_blobs(&mut self, blobs: Option<IrohBlobs>) {
        if let Some(blobs) = blobs {
            // It says so in the log by itself; everything that needs the store is tried again.
            self.running.spawn("blobs", until(self.stop.clone(), blobs.keep_open(|_| {})));
        }
    }

    fn start_collector(&mut self, link: &LinkServer) {
        let parts = CollectorParts {
            network: self.setup.network,
            core: self.core.clone(),
            ledger: Arc::clone(&self.ledger),
            link: link.clone(),
            documents: self.documents.clone(),
        };
        self.running.spawn("documents", Collector::new(parts).run(self.stop.clone()));
    }
}

fn beacon_client(setup: &Setup, chain: &ChainOptions) -> Result<BeaconClient, StartError> {
    let reads_blocks = setup.beacon == BeaconSource::Prevrandao;
    let blocks = || Arc::new(ChainBlocks::new(chain.clone())) as Arc<dyn Blocks>;
    BeaconClient::new(Arc::new(setup.clone()), reads_blocks.then(blocks))
        .map_err(|error| StartError::Client(error.to_string()))
}

fn chain_options(profile: &Profile, keys: &Keys) -> ChainOptions {
    ChainOptions {
        rpc: profile.chain.rpc.iter().map(ToString::to_string).collect(),
        chain_id: Some(profile.chain.chain_id),
        key: Some(keys.settlement.clone()),
        receipt_timeout: None,
    }
}

async fn start_blobs(
    config: &Config,
    profile: &Profile,
    keys: &Keys,
) -> Result<Option<IrohBlobs>, StoreError> {
    if !config.swarm.enabled {
        return Ok(None);
    }
    let blobs = BlobsConfig {
        key: keys.node.clone(),
        bind: config.swarm.blobs,
        public: blobs_public(&config.swarm, &profile.coordinator.link),
        dir: config.data_dir.join("blobs"),
    };
    IrohBlobs::start(blobs).await.map(Some)
}

/// Where nodes reach this coordinator's blobs; empty for where they are bound. Nobody can connect
/// to "all interfaces", so the addresses under which nodes find the link stand in for them.
fn blobs_public(section: &SwarmSection, links: &[SocketAddr]) -> Vec<SocketAddr> {
    let bind = section.blobs;
    if !section.blobs_external.is_empty() || !bind.ip().is_unspecified() || bind.port() == 0 {
        return section.blobs_external.clone();
    }
    let hosts: BTreeSet<IpAddr> = links.iter().map(SocketAddr::ip).collect();
    let hosts = hosts.into_iter().filter(|ip| !ip.is_unspecified());
    hosts.map(|ip| SocketAddr::new(ip, bind.port())).collect()
}

/// This coordinator as the holder of what is in its store.
fn own_holder(blobs: &dyn Blobs, keys: &Keys) -> Holder {
    Holder { node: keys.node.public(), addresses: address_texts(&blobs.addresses()) }
}

/// A peer that others start from, reach and are relayed by.
fn swarm_config(config: &Config, profile: &Profile, keys: &Keys) -> SwarmConfig {
    let section = &config.swarm;
    let mut swarm = SwarmConfig::new(keys.node.clone(), profile.network())
        .listen_on(section.address, section.port);
    swarm.external.clone_from(&section.external);
    swarm.bootstrap = profile.bootstrap.iter().map(ToString::to_string).collect();
    swarm.data_dir = Some(config.data_dir.clone());
    swarm.mdns = section.mdns;
    swarm.relay_server = true;
    swarm.reachable = true;
    swarm.limits.established_max = limits::PEERS_MAX;
    swarm.limits.established_incoming_max = limits::PEERS_MAX;
    swarm
}

fn web_config(config: &Config) -> WebConfig {
    let mut web = WebConfig::on(config.http.address);
    web.hosts.clone_from(&config.http.hosts);
    web.body_bytes_max = limits::CAMPAIGN_BYTES_MAX;
    web
}

/// Runs a part until it ends or all are told to stop.
async fn until(stop: CancellationToken, part: impl Future<Output = ()>) {
    // Whether it ended by itself makes no difference.
    let _ = stop.run_until_cancelled(part).await;
}

/// Tells open pages how far the log is and when an epoch was closed.
async fn tell_pages(core: Core, live: Live) {
    let mut durable = core.listen();
    while let Ok(batch) = link::next(&mut durable).await {
        let Some(batch) = batch else { continue };
        if let Some(last) = batch.logged.last() {
            live.publish("height", &last.entry.height);
        }
        for logged in &batch.logged {
            if let Line::Epoch(close) = &logged.entry.line {
                live.publish("epoch", &close.epoch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_told_addresses_that_they_can_reach() {
        let public = |section: &SwarmSection, links: &[&str]| -> Vec<String> {
            let links: Vec<SocketAddr> = links.iter().map(|link| link.parse().unwrap()).collect();
            blobs_public(section, &links).iter().map(ToString::to_string).collect()
        };
        let all = SwarmSection::default();
        let links = ["192.0.2.1:7420", "192.0.2.1:7430", "[2001:db8::1]:7420", "0.0.0.0:7420"];
        assert_eq!(public(&all, &links), ["192.0.2.1:7422", "[2001:db8::1]:7422"]);
        let own = SwarmSection { blobs: "192.0.2.7:7422".parse().unwrap(), ..all.clone() };
        assert_eq!(public(&own, &links), [""; 0], "the bound address is one");
        let external = vec!["198.51.100.1:1".parse().unwrap()];
        let named = SwarmSection { blobs_external: external, ..all };
        assert_eq!(public(&named, &links), ["198.51.100.1:1"]);
    }
}

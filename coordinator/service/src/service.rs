//! The coordinator as a whole: starts its parts in the order in which they need each other, and
//! stops them in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use openledger_contracts::ChainOptions;
use openledger_ledger::{EmbeddedLedger, Ledger, LedgerError};
use openledger_rules::{RuleSet, Setup};
use openledger_swarm::{
    Blobs, BlobsConfig, IrohBlobs, LinkError, LinkLimits, LinkServer, LinkServerConfig, StoreError,
    SwarmConfig, SwarmError,
};
use openledger_web::{Live, ServeError, Token, TokenError, WebConfig, WebServer};
use openledger_wire::log::Line;
use openledger_wire::profile::{BeaconSource, Profile};
use openledger_wire::{EncodeError, Epoch, EvmAddress, NodeId};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::beacon::{BeaconClient, Blocks};
use crate::bundles::Bundles;
use crate::config::{self, Config, ConfigError};
use crate::core::{Core, CoreConfig, CoreError};
use crate::gossip::{Gossip, GossipParts, GossipRules};
use crate::http::{self, Api};
use crate::keys::{Keys, KeysError};
use crate::limits;
use crate::link::{self, Link};
use crate::settle::{ChainBlocks, RewardsChain, Settlement, Settler};
use crate::signer::Signer;
use crate::token;

/// Why the coordinator did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration or the profile.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// These keys are not the profile's coordinator.
    #[error(
        "run this network: its profile names coordinator {expected} with settlement address \
             0x{expected_address}, the vault holds {found} and 0x{found_address}; use the vault \
             that belongs to it, or sign a profile with these keys"
    )]
    OtherCoordinator {
        /// Node key of the profile.
        expected: NodeId,
        /// Settlement address of the profile.
        expected_address: EvmAddress,
        /// Node key here.
        found: NodeId,
        /// Settlement address here.
        found_address: EvmAddress,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The core.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The blob store.
    #[error(transparent)]
    Blobs(#[from] StoreError),
    /// Gossip.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// HTTP.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The operator's token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A file of the data folder.
    #[error("write {path}: {source}; check the folder's permissions and free space")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The HTTP client for beacons.
    #[error("set up the client for beacons: {0}")]
    Client(String),
    /// The rule set cannot be hashed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What a coordinator is started with.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The network profile.
    pub profile: Profile,
    /// Its signed text, as nodes get it.
    pub profile_text: String,
    /// The rules in force.
    pub rules: RuleSet,
    /// The keys.
    pub keys: Keys,
    /// Where everything is kept.
    pub ledger: Arc<dyn Ledger>,
    /// The token that funds campaigns.
    pub operator: Token,
}

impl Parts {
    /// What a configuration names: profile, rules, keys, ledger and token.
    ///
    /// # Errors
    /// Whatever is missing or does not fit, with what to do.
    pub fn load(config: Config) -> Result<Self, StartError> {
        let (profile, profile_text) = config.profile()?;
        let rules = config::rule_set(&profile)?;
        let keys = Keys::open(&config.vault)?;
        let named = &profile.coordinator;
        let (found, found_address) = (keys.node.public(), keys.settlement.address());
        if named.node != found || named.settlement != found_address {
            return Err(StartError::OtherCoordinator {
                expected: named.node,
                expected_address: named.settlement,
                found,
                found_address,
            });
        }
        let ledger = Arc::new(EmbeddedLedger::open(config.data_dir.join("ledger.redb"))?);
        let operator = token::read_or_make(&config.http.operator_token)?;
        Ok(Self { config, profile, profile_text, rules, keys, ledger, operator })
    }
}

/// A running coordinator.
pub struct Coordinator {
    core: Core,
    core_task: JoinHandle<Result<(), CoreError>>,
    link: LinkServer,
    web: WebServer,
    blobs: Option<IrohBlobs>,
    gossip: Option<Arc<Gossip>>,
    claimable: watch::Receiver<Option<Epoch>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Coordinator {
    /// Starts all parts. What it says once it returns is durable.
    ///
    /// # Errors
    /// The first part that did not start.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { config, profile, profile_text, rules, keys, ledger, operator } = parts;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let rule_set = rules.id()?;
        let setup = Setup::of(&profile, rules);
        let chain = chain_options(&profile, &keys);
        let blocks: Option<Arc<dyn Blocks>> = (profile.beacon == BeaconSource::Prevrandao)
            .then(|| Arc::new(ChainBlocks::new(chain.clone())) as Arc<dyn Blocks>);
        let beacons = BeaconClient::new(Arc::new(setup.clone()), blocks)
            .map_err(|error| StartError::Client(error.to_string()))?;
        let signer = Arc::new(Signer::new(keys.settlement.clone(), setup.domain, setup.network));
        let (core, core_task) = Core::start(CoreConfig {
            setup: setup.clone(),
            ledger: Arc::clone(&ledger),
            beacons,
            stop: stop.clone(),
        })
        .await?;
        let blobs = start_blobs(&config, &keys).await?;
        let shared = blobs.clone().map(|blobs| Arc::new(blobs) as Arc<dyn Blobs>);
        let bundles = Bundles::new(Arc::clone(&ledger), shared.clone());
        let first_by_gossip = Arc::new(AtomicU64::new(0));
        let gossip = match shared {
            None => None,
            Some(blobs) => {
                let parts = GossipParts {
                    swarm: swarm_config(&config, &profile, &keys),
                    rules: GossipRules {
                        network: setup.network,
                        domain: setup.domain,
                        coordinator: signer.address(),
                    },
                    core: core.clone(),
                    blobs,
                    bundles: bundles.clone(),
                    signer: Arc::clone(&signer),
                    key: keys.node.clone(),
                    first: Arc::clone(&first_by_gossip),
                };
                let (gossip, events) = Gossip::start(parts).await?;
                tasks.spawn(Arc::clone(&gossip).hear(events, stop.clone()));
                tasks.spawn(Arc::clone(&gossip).say(stop.clone()));
                Some(gossip)
            }
        };
        let (claimable_sender, claimable) = watch::channel(None);
        let service = Arc::new(Link::new(
            core.clone(),
            Arc::clone(&ledger),
            Arc::clone(&signer),
            claimable.clone(),
        ));
        let server = LinkServerConfig {
            key: keys.node.clone(),
            address: config.link.address,
            limits: LinkLimits::default(),
        };
        let link = LinkServer::bind(server, Arc::clone(&service) as _).await?;
        let pushing = service.push_all(link.clone());
        tasks.spawn(until(stop.clone(), pushing));
        let settlement: Option<Arc<dyn Settlement>> = config
            .settlement
            .enabled
            .then(|| Arc::new(RewardsChain::new(chain, profile.chain.rewards)) as _);
        let settler =
            Settler::new(core.clone(), bundles.clone(), settlement, rule_set, claimable_sender);
        tasks.spawn(settler.run(stop.clone()));
        let live = Live::default();
        tasks.spawn(until(stop.clone(), tell_pages(core.clone(), live.clone())));
        let api = Api {
            core: core.clone(),
            ledger,
            bundles,
            link: link.clone(),
            signer,
            claimable: claimable.clone(),
            first_by_gossip,
            live,
            network: setup.network,
            profile: profile_text.into(),
            name: profile.name.to_string().into(),
        };
        let web = web_config(&config);
        let web = WebServer::start(web, http::routes(api, operator, config.http.metrics)).await?;
        Ok(Self { core, core_task, link, web, blobs, gossip, claimable, tasks, stop })
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

    /// Stops all parts: no new requests, then the core, which answers what it has taken.
    ///
    /// # Errors
    /// What made the core end.
    pub async fn shutdown(self) -> Result<(), CoreError> {
        let Self { core, core_task, link, web, blobs, gossip, tasks, stop, .. } = self;
        web.shutdown().await;
        link.shutdown().await;
        stop.cancel();
        drop(core);
        let ended = core_task.await.unwrap_or(Err(CoreError::Ended));
        tasks.close();
        if tokio::time::timeout(limits::STOP_GRACE, tasks.wait()).await.is_err() {
            tracing::warn!("some parts did not end in time");
        }
        if let Some(gossip) = gossip {
            gossip.shutdown().await;
        }
        if let Some(blobs) = blobs {
            blobs.shutdown().await;
        }
        ended
    }
}

fn chain_options(profile: &Profile, keys: &Keys) -> ChainOptions {
    ChainOptions {
        rpc: profile.chain.rpc.iter().map(ToString::to_string).collect(),
        chain_id: Some(profile.chain.chain_id),
        key: Some(keys.settlement.clone()),
        receipt_timeout: None,
    }
}

async fn start_blobs(config: &Config, keys: &Keys) -> Result<Option<IrohBlobs>, StoreError> {
    if !config.swarm.enabled {
        return Ok(None);
    }
    let blobs = BlobsConfig {
        key: keys.node.clone(),
        bind: config.swarm.blobs,
        public: Vec::new(),
        dir: config.data_dir.join("blobs"),
    };
    IrohBlobs::start(blobs).await.map(Some)
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

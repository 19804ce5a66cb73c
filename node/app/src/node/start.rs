//! Starting and stopping a node.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use openledger_outbox::OutboxError;
use openledger_swarm::{Blobs, BlobsConfig, IrohBlobs, LinkError, StoreError};
use openledger_vault::{FileError, IdentityLock};
use openledger_web::Token;
use thiserror::Error;
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::enrol::{Enrol, Enrolled, Starting, in_time};
use super::machine::{Machine, Slots};
use super::peers::PeersError;
use super::{Enrolment, Node, lock};
use crate::api::{Api, ApiConfig, ApiError, ApiSetup, Problem};
use crate::conduct::Conduct;
use crate::config::Config;
use crate::control::{Control, ControlError};
use crate::data_dir::{DataDir, DataDirError};
use crate::identity::{NodeKeys, Public};
use crate::limits;
use crate::network::settle_peers;
use crate::routing::{Guests, Neighbourhood, Obtain, Patience, Router};
use crate::serving::{Models, Serve};
use crate::tasks::{Sites, Turns};
use crate::time;
use crate::worker::{Program, Worker};

/// Everything that a node is started with.
#[derive(Clone)]
pub struct RunOptions {
    /// Its folder.
    pub data: DataDir,
    /// What the owner configured, flags included.
    pub config: Config,
    /// The networks to be in, at least one and each once.
    pub networks: Vec<Enrol>,
    /// Who it is.
    pub public: Public,
    /// Its keys.
    pub keys: NodeKeys,
    /// The program that workers are.
    pub program: Program,
    /// Whether to connect to the coordinators.
    pub use_link: bool,
    /// Send proofs by gossip, as a node would whose link broke after its commitments.
    pub proofs_by_gossip: bool,
    /// What the owner should know.
    pub warnings: Vec<String>,
    /// Stops the node when cancelled.
    pub stop: CancellationToken,
    /// Called when the control API answers.
    pub on_ready: OnReady,
}

/// Called once in each run, when the node's control API answers.
pub type OnReady = Arc<dyn Fn(&Control) + Send + Sync>;

/// Why a node did not start, or did not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The same identity runs already.
    #[error(transparent)]
    Lock(#[from] FileError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The blob store.
    #[error(transparent)]
    Blobs(#[from] StoreError),
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The peers.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The control API.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The API for applications.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The system gives no threads.
    #[error("start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// Something that the node cannot go on without.
    #[error("go on: {0}")]
    Fatal(String),
}

/// Runs a node until it is stopped, or has left all its networks.
///
/// # Errors
/// [`RunError`].
pub async fn run(options: RunOptions, conduct: Arc<dyn Conduct>) -> Result<(), RunError> {
    let _lock = IdentityLock::acquire(&options.public.node.0)?;
    let iroh = Arc::new(start_blobs(&options).await?);
    let ended = Box::pin(live(options, conduct, &iroh)).await;
    // After a failed start too: left alone, the store keeps its file open for minutes.
    in_time("the blob store", iroh.shutdown()).await;
    ended
}

async fn live(
    options: RunOptions,
    conduct: Arc<dyn Conduct>,
    iroh: &Arc<IrohBlobs>,
) -> Result<(), RunError> {
    let parts = Box::pin(Parts::start(options, conduct, iroh)).await?;
    let node = Arc::clone(&parts.node);
    let token = Token::generate().map_err(ControlError::from)?;
    let api = parts.api(&token).await?;
    let url = api.as_ref().map(Api::url);
    let control = Control::start(&node, &parts.data, parts.control_port, token, url).await?;
    (parts.on_ready)(&control);
    tracing::info!(
        node = %node.id().short(), networks = node.networks().join(", "), control = control.url(),
        api = control.api().unwrap_or("none"),
        "the node runs"
    );
    let mut cleaning = JoinSet::new();
    cleaning.spawn(Arc::clone(&node).keep_clean());
    cleaning.spawn(Arc::clone(&node.machine.models).keep());
    cleaning.spawn(Arc::clone(&node.machine.models).keep_devices());
    cleaning.spawn(Arc::clone(&node.machine.models.upstreams).keep());
    let (blobs, machine) = (IrohBlobs::clone(iroh), Arc::clone(&node.machine));
    cleaning.spawn(blobs.keep_open(move |problem| *lock(&machine.no_room) = problem));
    let mut lives = JoinSet::new();
    for part in parts.enrolled {
        lives.spawn(part.live());
    }
    // Each ends when the node stops, or by itself when it has finished what it began.
    while lives.join_next().await.is_some() {}

    node.stop();
    cleaning.shutdown().await;
    if let Some(api) = api {
        api.stop().await;
    }
    let stopped = async {
        for refiner in node.machine.refiners.iter() {
            if let Ok(refiner) = refiner.try_lock() {
                refiner.kill().await;
            }
        }
        node.machine.models.serve.stop().await;
    };
    in_time("the node", stopped).await;
    control.stop().await;
    tracing::info!("the node has stopped");
    match lock(&node.machine.fatal).take() {
        Some(reason) => Err(RunError::Fatal(reason)),
        None => Ok(()),
    }
}

async fn start_blobs(options: &RunOptions) -> Result<IrohBlobs, RunError> {
    let (data, network) = (&options.data, &options.config.network);
    data.make("blobs")?;
    let key = options.keys.node.clone();
    let mut config = BlobsConfig::new(key, network.bind, data.join("blobs"));
    config.bind = SocketAddr::new(network.bind, network.blob_port);
    Ok(IrohBlobs::start(config).await?)
}

/// A node and what only its shell needs.
struct Parts {
    node: Arc<Node>,
    data: DataDir,
    enrolled: Vec<Enrolled>,
    control_port: u16,
    api: ApiConfig,
    on_ready: OnReady,
}

impl Parts {
    /// Joins the networks' peers into one router and serves applications through it.
    async fn api(&self, token: &Token) -> Result<Option<Api>, ApiError> {
        let machine = &self.node.machine;
        let models = &machine.models;
        let around = |one: &Arc<Enrolment>| Neighbourhood {
            me: one.id(),
            line: one.peers.line(),
            offers: Arc::clone(&one.offers),
        };
        let is_out = self.api.forward;
        let around = self.node.enrolments.iter().filter(|_| is_out).map(around).collect();
        let obtain = self.api.fetch.then(|| Arc::new(Arc::clone(models)) as Arc<dyn Obtain>);
        let local = Arc::new(models.answers()) as Arc<dyn Serve>;
        let router = Router::new(local, around, obtain, Patience::default());
        let _ = machine.router.set(router.clone());
        if !self.api.enabled {
            return Ok(None);
        }
        let (config, base) = (self.api.clone(), models.config.base.clone());
        let library = Arc::clone(&models.library);
        let problem: Problem = Arc::new(move |name: &str| {
            let found =
                if name.is_empty() { library.default_base(name) } else { library.find(name) };
            found.ok()?.problem
        });
        let setup = ApiSetup { config, base, token: token.clone(), router, problem };
        Api::start(setup).await.map(Some)
    }

    async fn start(
        options: RunOptions,
        conduct: Arc<dyn Conduct>,
        iroh: &Arc<IrohBlobs>,
    ) -> Result<Self, RunError> {
        let RunOptions { data, config, networks, public, keys, .. } = options;
        let program = options.program;
        let store = Arc::clone(iroh) as Arc<dyn Blobs>;
        let models = open_models(&data, &config, program.clone(), store).await?;
        let mut house = config.api.house();
        house.is_open &= config.models.share;
        let guests = Guests::new(Arc::new(models.answers_to_peers()) as Arc<dyn Serve>, house);
        let refiner = |_| tokio::sync::Mutex::new(Worker::refine(program.clone()));
        let machine = Arc::new(Machine {
            public,
            key: keys.node,
            since: time::now(),
            warnings: options.warnings,
            wanted: config.kinds().into_iter().collect(),
            blobs: Arc::clone(iroh) as Arc<dyn Blobs>,
            data: data.clone(),
            blob_folder: data.join("blobs"),
            no_room: Mutex::default(),
            disk_bytes: 0.into(),
            disk_bytes_max: config.work.disk_mib_max << 20,
            refiners: (0..config.parallel()).map(refiner).collect(),
            models,
            guests,
            router: OnceLock::new(),
            slots: Slots::new(&config),
            waiting_max: limits::WAITING_MAX / networks.len().max(1),
            alone: RwLock::new(()),
            stop: options.stop,
            fatal: Mutex::default(),
        });
        machine.measure_disk().await;
        if let Some(first) = networks.first() {
            settle_peers(&data, &first.network)?;
        }
        let is_only = networks.len() == 1;
        let sites = Sites::new(if is_only { Duration::ZERO } else { limits::SITE_REST });
        let starting = Starting {
            is_only,
            machine: Arc::clone(&machine),
            config: &config,
            program,
            conduct,
            use_link: options.use_link,
            proofs_by_gossip: options.proofs_by_gossip,
        };
        let mut enrolled = Vec::with_capacity(networks.len());
        for (number, enrol) in (0u16..).zip(networks) {
            let turns = Turns::new(Arc::clone(&sites), usize::from(number));
            enrolled.push(Box::pin(starting.enrol(number, enrol, turns)).await?);
        }
        let enrolments = enrolled.iter().map(|one| Arc::clone(&one.enrolment)).collect();
        let node = Arc::new(Node { machine, enrolments });
        let (control_port, api) = (config.network.control_port, config.api);
        let on_ready = options.on_ready;
        Ok(Self { node, data, enrolled, control_port, api, on_ready })
    }
}

/// The models of this node. Files that the configuration names are hashed meanwhile.
async fn open_models(
    data: &DataDir,
    config: &Config,
    program: Program,
    blobs: Arc<dyn Blobs>,
) -> Result<Arc<Models>, DataDirError> {
    let folder = data.make("models")?;
    let (upstreams, inference) = (config.upstream.clone(), config.inference.clone());
    let config = config.models.clone();
    let opening =
        move || Models::open(&folder, config, inference, program, blobs).with_upstreams(upstreams);
    match tokio::task::spawn_blocking(opening).await {
        Ok(models) => Ok(Arc::new(models)),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

//! Starting and stopping a node.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openledger_outbox::{Judge, Outbox, OutboxError, Setup};
use openledger_rules::RuleSet;
use openledger_swarm::{
    Blobs, BlobsConfig, IrohBlobs, LinkClient, LinkClientConfig, LinkError, LinkEvent, StoreError,
};
use openledger_vault::{FileError, IdentityLock};
use openledger_wire::identity::{Delegation, Registration};
use openledger_wire::link::{LINK_VERSION, LinkRequest};
use openledger_wire::profile::Profile;
use openledger_wire::worker::FetchSetup;
use openledger_wire::{Envelope, List, NetworkId, NodeKey, Text};
use thiserror::Error;
use tokio::sync::{RwLock, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::peers::{Peers, PeersError};
use super::state::Shared;
use super::{Mode, Node, NodeOptions};
use crate::conduct::Conduct;
use crate::config::Config;
use crate::control::{Control, ControlError};
use crate::data_dir::{DataDir, DataDirError};
use crate::gossip::{Admission, address_texts};
use crate::identity::{NodeKeys, Public, Statements};
use crate::limits;
use crate::network::Network;
use crate::tasks::{Bench, Counts};
use crate::time;
use crate::worker::{Program, Worker};

/// Everything that a node is started with.
pub struct RunOptions {
    /// Its folder.
    pub data: DataDir,
    /// What the owner configured, flags included.
    pub config: Config,
    /// The network to join.
    pub network: Network,
    /// Who it is.
    pub public: Public,
    /// Its keys.
    pub keys: NodeKeys,
    /// The owner's delegation of the node key.
    pub delegation: (Envelope, Delegation),
    /// The program that workers are.
    pub program: Program,
    /// Whether to connect to the coordinator.
    pub use_link: bool,
    /// Send proofs by gossip, as a node would whose link broke after its commitments.
    pub proofs_by_gossip: bool,
    /// What the owner should know.
    pub warnings: Vec<String>,
    /// Stops the node when cancelled.
    pub stop: CancellationToken,
    /// Called once, when the control API answers.
    pub on_ready: OnReady,
}

/// Called once, when a node's control API answers.
pub type OnReady = Box<dyn FnOnce(&Control) + Send>;

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
    /// A file.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// Something that the node cannot go on without.
    #[error("go on: {0}")]
    Fatal(String),
}

/// Runs a node until it is stopped.
///
/// # Errors
/// [`RunError`].
pub async fn run(options: RunOptions, conduct: Arc<dyn Conduct>) -> Result<(), RunError> {
    let _lock = IdentityLock::acquire(&options.public.node.0)?;
    let mut parts = Box::pin(Parts::start(options, conduct)).await?;
    let node = Arc::clone(&parts.node);
    let control = Control::start(&node, &parts.data, parts.control_port).await?;
    if let Some(on_ready) = parts.on_ready.take() {
        on_ready(&control);
    }
    tracing::info!(
        node = %node.id().short(), network = node.network.name(), control = control.url(),
        "the node runs"
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&node).keep_time());
    tasks.spawn(Arc::clone(&node).send_all(parts.queue));
    if let Some(events) = parts.link_events {
        tasks.spawn(Arc::clone(&node).follow_link(events));
    }
    node.resume().await;
    node.stop.cancelled().await;

    node.set_mode(Mode::Stopping);
    tasks.shutdown().await;
    if let Some(link) = &node.link {
        link.stop();
    }
    let stopped = async {
        node.bench.stop().await;
        node.peers.stop().await;
        parts.iroh.shutdown().await;
    };
    if tokio::time::timeout(limits::STOP_GRACE, stopped).await.is_err() {
        tracing::warn!("stopping took more than {} s and was cut", limits::STOP_GRACE.as_secs());
    }
    control.stop().await;
    tracing::info!("the node has stopped");
    match node.shared().fatal.take() {
        Some(reason) => Err(RunError::Fatal(reason)),
        None => Ok(()),
    }
}

/// A node and what only its shell needs.
struct Parts {
    node: Arc<Node>,
    data: DataDir,
    iroh: Arc<IrohBlobs>,
    queue: mpsc::Receiver<super::sending::Item>,
    link_events: Option<mpsc::Receiver<LinkEvent>>,
    control_port: u16,
    on_ready: Option<OnReady>,
}

impl Parts {
    async fn start(options: RunOptions, conduct: Arc<dyn Conduct>) -> Result<Self, RunError> {
        let RunOptions { data, config, network, public, keys, .. } = options;
        let profile = Arc::clone(&network.profile);
        let outbox = open_outbox(&network, &profile, &keys.node)?;
        let bind = config.network.bind;

        data.make("blobs")?;
        let mut blobs_config = BlobsConfig::new(keys.node.clone(), bind, data.join("blobs"));
        blobs_config.bind = SocketAddr::new(bind, config.network.blob_port);
        let iroh = Arc::new(IrohBlobs::start(blobs_config).await?);
        let blobs: Arc<dyn Blobs> = Arc::clone(&iroh) as Arc<dyn Blobs>;

        let admission = Arc::new(Admission::new(
            profile.network(),
            profile.domain(),
            profile.coordinator.node,
            profile.coordinator.settlement,
        ));
        let (gate, listener) = (Arc::clone(&admission), Arc::clone(&conduct));
        let peers = Peers::start(&data, &config, &profile, &keys.node, gate, listener).await?;

        let reach = reachable(&blobs.addresses(), bind, &profile);
        let kinds: Vec<u8> = config.kinds().iter().map(|kind| kind.code()).collect();
        let registration = Registration {
            delegation: options.delegation.0.clone(),
            settlement: public.settlement,
            blob_addresses: address_texts(&reach),
            peer_addresses: peer_texts(&peers.addresses()),
            kinds: List::new(kinds.clone()).unwrap_or_default(),
            agent: Text::clipped(concat!("openledger ", env!("CARGO_PKG_VERSION"))),
        };
        let (link, link_events) = if options.use_link {
            let (link, events) = start_link(&keys.node, &profile, bind, registration)?;
            (Some(link), Some(events))
        } else {
            (None, None)
        };

        let (rules, program) = (&network.rules, &options.program);
        let bench = bench(&config, &profile, rules, program, Arc::clone(&blobs), conduct);
        let (sender, queue) = mpsc::channel(limits::SEND_QUEUE_MAX);
        let shared = Shared {
            since: time::now(),
            delegation_expires: options.delegation.1.expires,
            warnings: options.warnings,
            link: super::LinkState { used: options.use_link, ..super::LinkState::default() },
            ..Shared::default()
        };
        let node = Arc::new(Node {
            statements: Statements::of(&network),
            public,
            key: keys.node,
            outbox: Arc::new(outbox),
            bench,
            blobs,
            link,
            peers,
            admission,
            options: NodeOptions {
                kinds,
                disk_bytes_max: config.work.disk_mib_max << 20,
                proofs_by_gossip: options.proofs_by_gossip,
                reach,
                blob_folder: data.join("blobs"),
            },
            mode: watch::Sender::new(Mode::Running),
            stop: options.stop,
            sender,
            shared: Mutex::new(shared),
            in_hand: Mutex::default(),
            in_flight: Mutex::default(),
            suspects: Mutex::default(),
            alone: RwLock::new(()),
            fetch_slots: Semaphore::new(limits::FETCHES_MAX),
            refine_slots: Semaphore::new(config.parallel()),
            gossiped: 0.into(),
            disk_bytes: 0.into(),
            network,
        });
        node.disk_bytes.store(folder_bytes(&data.join("blobs")), Ordering::Relaxed);
        let control_port = config.network.control_port;
        let on_ready = Some(options.on_ready);
        Ok(Self { node, data, iroh, queue, link_events, control_port, on_ready })
    }
}

/// The outbox of this node key in this network: another key never continues its promises.
fn open_outbox(network: &Network, profile: &Profile, key: &NodeKey) -> Result<Outbox, OutboxError> {
    let judge = Judge {
        network: profile.network(),
        domain: profile.domain(),
        coordinator: profile.coordinator.settlement,
        node: key.public(),
    };
    let path = outbox_path(network, key.public());
    Outbox::open(path, Setup { judge, key: key.clone() })
}

/// Where the outbox of a node key in a network lies.
#[must_use]
pub(crate) fn outbox_path(network: &Network, node: openledger_wire::NodeId) -> std::path::PathBuf {
    network.folder.join(format!("outbox-{}.redb", node.short()))
}

fn start_link(
    key: &NodeKey,
    profile: &Profile,
    bind: IpAddr,
    registration: Registration,
) -> Result<(LinkClient, mpsc::Receiver<LinkEvent>), LinkError> {
    let network = profile.network();
    let registration = seal(&registration, network, key)?;
    let hello =
        move || LinkRequest::Hello { version: LINK_VERSION, registration: registration.clone() };
    LinkClient::start(LinkClientConfig {
        key: key.clone(),
        server_key: profile.coordinator.node,
        addresses: profile.coordinator.link.to_vec(),
        bind: Some(bind).filter(|bind| !bind.is_unspecified()),
        hello: Arc::new(hello),
    })
}

fn seal(
    registration: &Registration,
    network: NetworkId,
    key: &NodeKey,
) -> Result<Envelope, LinkError> {
    Ok(Envelope::seal(registration, network, key)?)
}

fn bench(
    config: &Config,
    profile: &Profile,
    rules: &RuleSet,
    program: &Program,
    blobs: Arc<dyn Blobs>,
    conduct: Arc<dyn Conduct>,
) -> Bench {
    let hosts = |hosts: &[String]| {
        let texts: Vec<_> = hosts.iter().map(|host| Text::clipped(host)).collect();
        List::new(texts).unwrap_or_default()
    };
    let bind = config.network.bind;
    let private_hosts: BTreeMap<_, _> =
        profile.private_hosts.iter().map(|(host, to)| (host.clone(), to.clone())).collect();
    let setup = FetchSetup {
        coordinator: plain(&profile.name),
        contact: plain(&profile.coordinator.api),
        private_hosts,
        allow: hosts(&config.hosts.allow),
        deny: hosts(&config.hosts.deny),
        bind: Some(bind).filter(|bind| !bind.is_unspecified()),
    };
    // A page that its lease no longer waits for must not hold a turn at its host.
    let time_max = Duration::from_millis(rules.lease_ms).saturating_sub(limits::DEADLINE_MARGIN);
    let time_max = time_max.clamp(limits::FETCH_TIME_MIN, limits::FETCH_TIME_MAX);
    let refiner = || Worker::refine(program.clone());
    Bench {
        fetcher: Worker::fetch(program.clone(), setup, time_max),
        refiners: (0..config.parallel()).map(|_| tokio::sync::Mutex::new(refiner())).collect(),
        blobs,
        conduct,
        counts: Counts::default(),
    }
}

/// A name as the User-Agent may hold it.
fn plain(text: &str) -> Text<128> {
    let fits = |c: &char| matches!(c, ' '..='~') && !"();\\".contains(*c);
    let plain: String = text.chars().filter(fits).take(120).collect();
    if plain.is_empty() { Text::clipped("unnamed") } else { Text::clipped(&plain) }
}

/// Addresses as others can use them: "any address" becomes the one that leads to the coordinator.
fn reachable(bound: &[SocketAddr], bind: IpAddr, profile: &Profile) -> Vec<SocketAddr> {
    if !bind.is_unspecified() {
        return bound.to_vec();
    }
    let towards = profile.coordinator.link.first().copied();
    let local = towards.and_then(|to| {
        let any: SocketAddr =
            if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        // No packet is sent; the system only picks the way.
        socket.connect(to).ok()?;
        socket.local_addr().ok()
    });
    let Some(local) = local else { return bound.to_vec() };
    let same_kind = |address: &&SocketAddr| address.is_ipv4() == local.is_ipv4();
    bound.iter().filter(same_kind).map(|at| SocketAddr::new(local.ip(), at.port())).collect()
}

fn peer_texts(addresses: &[String]) -> List<Text<128>, 8> {
    let texts: Vec<_> =
        addresses.iter().filter_map(|at| Text::new(at.as_str()).ok()).take(8).collect();
    List::new(texts).unwrap_or_default()
}

/// Bytes of the files below a folder; what cannot be read counts nothing.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(one).sum()
}

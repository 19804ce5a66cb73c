//! Entering a network, and living in it until the node stops or leaves.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openledger_outbox::{Judge, Outbox, OutboxError, Setup};
use openledger_rules::RuleSet;
use openledger_swarm::{LinkClient, LinkClientConfig, LinkError, LinkEvent};
use openledger_wire::identity::{Delegation, Registration};
use openledger_wire::profile::Profile;
use openledger_wire::worker::FetchSetup;
use openledger_wire::{Envelope, List, NodeKey, Text};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::introduction::Introduction;
use super::machine::{Machine, Slots};
use super::peers::{Hearing, Peers, Place};
use super::start::RunError;
use super::state::Shared;
use super::{Enrolment, Mode};
use crate::conduct::Conduct;
use crate::config::Config;
use crate::gossip::{Admission, address_texts};
use crate::identity::Statements;
use crate::limits;
use crate::network::Network;
use crate::serving::Offers;
use crate::tasks::{Bench, Counts, InferBench, Turns};
use crate::worker::{Program, Worker};

/// A network to be in.
#[derive(Clone)]
pub struct Enrol {
    /// The network.
    pub network: Network,
    /// The owner's delegation of the node key, for this network.
    pub delegation: (Envelope, Delegation),
    /// What the owner should know of this network.
    pub warnings: Vec<String>,
}

/// What every network of a node is started with.
pub(super) struct Starting<'a> {
    pub(super) machine: Arc<Machine>,
    pub(super) config: &'a Config,
    pub(super) program: Program,
    pub(super) conduct: Arc<dyn Conduct>,
    pub(super) is_only: bool,
    pub(super) use_link: bool,
    pub(super) proofs_by_gossip: bool,
}

impl Starting<'_> {
    /// Opens the outbox, joins the peers and begins to connect.
    ///
    /// # Errors
    /// [`RunError`].
    pub(super) async fn enrol(
        &self,
        number: u16,
        enrol: Enrol,
        turns: Turns,
    ) -> Result<Enrolled, RunError> {
        let Enrol { network, delegation: (delegation, terms), warnings } = enrol;
        let (machine, config, profile) = (&self.machine, self.config, &network.profile);
        let key = &machine.key;
        let outbox = open_outbox(&network, profile, key)?;
        let admission = Arc::new(Admission::new(
            profile.network(),
            profile.domain(),
            profile.coordinator.node,
            profile.coordinator.settlement,
        ));
        let (gate, listener) = (Arc::clone(&admission), Arc::clone(&self.conduct));
        let is_only = self.is_only;
        let place = Place { config, folder: &network.folder, number, is_only };
        let (offers, announcing) = (Arc::new(Offers::new()), Arc::new(Notify::new()));
        let hearing = Hearing {
            network: profile.network(),
            conduct: listener,
            offers: Arc::clone(&offers),
            announcing: Arc::clone(&announcing),
            guests: Arc::clone(&machine.guests),
        };
        let peers = Peers::start(&place, profile, key, gate, hearing).await?;

        let reach = reachable(&machine.blobs.addresses(), config.network.bind, profile);
        let registration = Registration {
            delegation,
            settlement: machine.public.settlement,
            blob_addresses: address_texts(&reach),
            peer_addresses: peer_texts(&peers.addresses()),
            kinds: List::default(),
            agent: Text::clipped(concat!("openledger ", env!("CARGO_PKG_VERSION"))),
        };
        let introduction = Introduction::new(machine, profile.network(), registration)?;
        let introduction = Arc::new(introduction);
        let (link, link_events) = if self.use_link {
            let greeting = Arc::clone(&introduction);
            let (link, events) = start_link(key, profile, config.network.bind, greeting)?;
            (Some(link), Some(events))
        } else {
            (None, None)
        };
        let bench = self.bench(profile, &network.rules, turns, &offers);
        let (sender, queue) = mpsc::channel(limits::SEND_QUEUE_MAX);
        let shared = Shared {
            delegation_expires: terms.expires,
            warnings,
            link: super::LinkState { used: self.use_link, ..super::LinkState::default() },
            ..Shared::default()
        };
        let enrolment = Arc::new(Enrolment {
            statements: Statements::of(&network),
            machine: Arc::clone(machine),
            outbox: Arc::new(outbox),
            bench,
            introduction,
            link,
            peers,
            admission,
            offers,
            announcing,
            reach,
            proofs_by_gossip: self.proofs_by_gossip,
            mode: watch::Sender::new(Mode::Running),
            stop: machine.stop.child_token(),
            sender,
            shared: Mutex::new(shared),
            in_hand: Mutex::default(),
            in_flight: Mutex::default(),
            suspects: Mutex::default(),
            queues: Slots::new(config),
            gossiped: 0.into(),
            network,
        });
        Ok(Enrolled { enrolment, queue, link_events })
    }

    fn bench(
        &self,
        profile: &Profile,
        rules: &RuleSet,
        turns: Turns,
        offers: &Arc<Offers>,
    ) -> Bench {
        let hosts = |hosts: &[String]| {
            let texts: Vec<_> = hosts.iter().map(|host| Text::clipped(host)).collect();
            List::new(texts).unwrap_or_default()
        };
        let config = self.config;
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
        let lease = Duration::from_millis(rules.lease_ms);
        let time_max = lease.saturating_sub(limits::DEADLINE_MARGIN);
        let time_max = time_max.clamp(limits::FETCH_TIME_MIN, limits::FETCH_TIME_MAX);
        Bench {
            fetcher: Worker::fetch(self.program.clone(), setup, time_max),
            turns,
            refiners: Arc::clone(&self.machine.refiners),
            blobs: Arc::clone(&self.machine.blobs),
            infer: Some(InferBench {
                models: Arc::clone(&self.machine.models),
                offers: Arc::clone(offers),
                classes: rules.infer.iter().flat_map(|infer| infer.classes()).collect(),
                with_evidence: rules.infer.as_ref().is_some_and(|infer| infer.wants_evidence()),
            }),
            conduct: Arc::clone(&self.conduct),
            counts: Counts::default(),
        }
    }
}

/// An enrolment with what only its own life needs.
pub(super) struct Enrolled {
    pub(super) enrolment: Arc<Enrolment>,
    queue: mpsc::Receiver<super::sending::Item>,
    link_events: Option<mpsc::Receiver<LinkEvent>>,
}

impl Enrolled {
    /// Works in the network until the node stops, or leaves it.
    pub(super) async fn live(self) {
        let own = self.enrolment;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&own).keep_time());
        tasks.spawn(Arc::clone(&own).send_all(self.queue));
        tasks.spawn(Arc::clone(&own).keep_announced());
        tasks.spawn(Arc::clone(&own).keep_base());
        tasks.spawn(Arc::clone(&own).keep_whole());
        if let Some(events) = self.link_events {
            tasks.spawn(Arc::clone(&own).follow_link(events));
            tasks.spawn(Arc::clone(&own).keep_introduced());
        }
        own.resume().await;
        own.stop.cancelled().await;

        own.set_mode(Mode::Stopping);
        tasks.shutdown().await;
        if let Some(link) = &own.link {
            link.stop();
        }
        own.link_changed(false, None);
        let stopped = async {
            own.bench.stop().await;
            own.peers.stop().await;
        };
        in_time(&format!("in network {}", own.network.name()), stopped).await;
    }
}

/// The outbox of this node key in this network: another key never continues its promises.
pub(super) fn open_outbox(
    network: &Network,
    profile: &Profile,
    key: &NodeKey,
) -> Result<Outbox, OutboxError> {
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
    introduction: Arc<Introduction>,
) -> Result<(LinkClient, mpsc::Receiver<LinkEvent>), LinkError> {
    LinkClient::start(LinkClientConfig {
        key: key.clone(),
        server_key: profile.coordinator.node,
        addresses: profile.coordinator.link.to_vec(),
        bind: Some(bind).filter(|bind| !bind.is_unspecified()),
        hello: Arc::new(move || introduction.hello()),
    })
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

/// Stops something, for a while.
pub(super) async fn in_time(what: &str, stopped: impl Future<Output = ()>) {
    if tokio::time::timeout(limits::STOP_GRACE, stopped).await.is_err() {
        let seconds = limits::STOP_GRACE.as_secs();
        tracing::warn!("stopping {what} took more than {seconds} s and was cut");
    }
}

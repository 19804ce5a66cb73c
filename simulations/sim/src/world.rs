//! A coordinator and nodes in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use openledger_rules::beacon::stub_value;
use openledger_rules::bundle::named_proofs;
use openledger_rules::state::Judge;
use openledger_rules::{Bundle, Event, Keep, Logged, Machine, Outcome, RuleSet, Setup};
use openledger_wire::eip712::{Domain, PayoutBinding, Typed};
use openledger_wire::identity::{Binding, Delegation, Registration};
use openledger_wire::log::{Beacon, BeaconProof, Entry, Lease, Line, Role, Whereabouts};
use openledger_wire::profile::BeaconSource;
use openledger_wire::proof::{Commit, FetchOutput, Proof, ProofBody, RefineOutput, proof_id};
use openledger_wire::task::{Campaign, FetchTask, RefineTask, TaskKind, TaskSpec};
use openledger_wire::{
    Blob, BlobId, Commitment, Envelope, EvmAddress, List, NetworkId, NodeId, NodeKey, OwnerKey,
    Points, ProofId, Round, SecretNonce, SettlementKey, TaskId, Text, UnixMs, decode, encode,
    limits,
};

use crate::random::Random;

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Does its work.
    Honest,
    /// Commits to nothing of its own and reveals what a neighbour revealed.
    Copier,
    /// Invents pages and documents.
    Fabricator,
    /// Invents a third of them.
    Sometimes,
    /// Commits, then never reveals.
    Silent,
}

/// Parameters of a world.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Everything random comes from it.
    pub seed: u64,
    /// Founding, honest nodes.
    pub honest: usize,
    /// Others.
    pub others: Vec<Conduct>,
    /// Pages to fetch.
    pub pages: usize,
    /// Epochs to run.
    pub epochs: u64,
    /// Messages lost, in thousandths.
    pub loss_permille: u64,
    /// Chance that the coordinator crashes in a second, in thousandths.
    pub crash_permille: u64,
    /// The rules.
    pub rules: RuleSet,
}

/// Fingerprints agree if they are equal: content is not what is simulated.
pub struct ExactJudge;

impl Judge for ExactJudge {
    fn fetch_agrees(&self, a: &[u8], b: &[u8]) -> bool {
        a == b
    }
}

struct SimNode {
    key: NodeKey,
    owner: OwnerKey,
    conduct: Conduct,
    subnet: u8,
    random: Random,
    seq: u64,
    work: BTreeMap<(TaskId, u8), Work>,
}

struct Work {
    lease: Lease,
    round: Round,
    spec: TaskSpec,
    commit: Envelope,
    proof: Proof,
    dishonest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Tick,
    Hello(usize),
    Worked { node: usize, task: TaskId, wave: u8 },
    Commit { node: usize, task: TaskId, wave: u8 },
    Proof { node: usize, task: TaskId, wave: u8 },
    Sync(usize),
}

/// What survives a crash.
#[derive(Default)]
struct Durable {
    entries: Vec<Vec<u8>>,
    commits: Vec<Envelope>,
    proofs: BTreeMap<ProofId, Envelope>,
}

/// A running world.
pub struct World {
    config: WorldConfig,
    setup: Setup,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    machine: Machine,
    durable: Durable,
    nodes: Vec<SimNode>,
    index: BTreeMap<NodeId, usize>,
    network: Random,
    history: blake3::Hasher,
    /// Proofs that were sent with something made up in them.
    pub dishonest: BTreeMap<ProofId, Conduct>,
    /// Proofs that were acknowledged.
    pub acknowledged: Vec<ProofId>,
    /// Crashes so far.
    pub crashes: u64,
    last_revealed: BTreeMap<TaskId, ProofBody>,
}

const GENESIS: u64 = 1_700_000_000_000;

impl World {
    /// A world before its first event.
    pub fn new(config: WorldConfig) -> Result<Self> {
        let mut keys = Random::new(config.seed, "keys");
        let conducts: Vec<Conduct> = std::iter::repeat_n(Conduct::Honest, config.honest)
            .chain(config.others.iter().copied())
            .collect();
        let nodes: Vec<SimNode> = conducts
            .iter()
            .zip(1u8..)
            .map(|(conduct, number)| SimNode {
                key: NodeKey::from_seed(&keys.bytes()),
                owner: OwnerKey::from_seed(&keys.bytes()),
                conduct: *conduct,
                subnet: number,
                random: Random::new(config.seed, &format!("node {number}")),
                seq: 0,
                work: BTreeMap::new(),
            })
            .collect();
        let index = nodes.iter().map(|node| node.key.public()).zip(0..).collect();
        let setup = Setup {
            network: NetworkId(keys.bytes()),
            rules: config.rules.clone(),
            genesis: UnixMs(GENESIS),
            founding: nodes.iter().take(config.honest).map(|n| n.key.public()).collect(),
            beacon: BeaconSource::Stub,
            chain_id: 31_337,
            domain: Domain { chain_id: 31_337, contract: EvmAddress([7; 20]) },
        };
        let (machine, outcome) =
            Machine::start(setup.clone(), Arc::new(ExactJudge), UnixMs(GENESIS))?;
        let mut world = Self {
            setup,
            now: GENESIS,
            sequence: 0,
            queue: BinaryHeap::new(),
            machine,
            durable: Durable::default(),
            nodes,
            index,
            network: Random::new(config.seed, "network"),
            history: blake3::Hasher::new(),
            dishonest: BTreeMap::new(),
            acknowledged: Vec::new(),
            crashes: 0,
            last_revealed: BTreeMap::new(),
            config,
        };
        world.keep(&outcome);
        world.begin()?;
        Ok(world)
    }

    fn begin(&mut self) -> Result<()> {
        let campaign = Campaign {
            name: Text::clipped("simulated"),
            contact: Text::clipped("nobody"),
            terms: Text::clipped("none"),
            budget: Points(100_000_000),
            replicas: 2,
        };
        let id = campaign.id(self.setup.network)?;
        self.feed(Event::Campaign(campaign))?;
        let tasks = (0..self.config.pages).map(|page| {
            let url = Text::clipped(&format!("http://site{}.example/{page}", page % 20));
            Ok(TaskSpec {
                campaign: id,
                kind: TaskKind::Fetch,
                version: 1,
                nonce: 0,
                value_permille: 1_000,
                body: Blob::new(encode(&FetchTask { url })?)?,
            })
        });
        let tasks = tasks.collect::<Result<Vec<_>>>()?;
        self.feed(Event::Tasks(tasks))?;
        for node in 0..self.nodes.len() {
            let delay = self.network.below(2_000);
            self.later(delay, Happening::Hello(node));
        }
        self.later(200, Happening::Tick);
        Ok(())
    }

    fn later(&mut self, delay_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay_ms, self.sequence, happening)));
    }

    /// A message: delayed, sometimes lost (then asked for again), sometimes doubled.
    fn send(&mut self, happening: Happening) {
        let delay = 5 + self.network.below(200);
        let lost = self.network.chance(self.config.loss_permille);
        let delay = if lost { delay + 1_500 } else { delay };
        if self.network.chance(self.config.loss_permille) {
            self.later(delay + 40, happening.clone());
        }
        self.later(delay, happening);
    }

    /// Runs to the end of the last epoch.
    pub fn run(&mut self) -> Result<()> {
        let end = GENESIS + self.config.epochs * self.config.rules.epoch_ms + 400;
        let mut steps = 0u64;
        while let Some(Reverse((at, _, happening))) = self.queue.pop() {
            if at > end {
                break;
            }
            steps += 1;
            ensure!(steps < 50_000_000, "the world does not come to rest");
            self.now = at;
            self.history.update(&at.to_be_bytes()).update(format!("{happening:?}").as_bytes());
            self.happen(happening)?;
        }
        // What came in since the last tick is receipted before anything is counted.
        self.feed(Event::Tick)?;
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<()> {
        match happening {
            Happening::Tick => self.tick(),
            Happening::Hello(node) => self.hello(node),
            Happening::Worked { node, task, wave } | Happening::Commit { node, task, wave } => {
                self.commit(node, task, wave)
            }
            Happening::Proof { node, task, wave } => self.reveal(node, task, wave),
            Happening::Sync(node) => self.sync(node),
        }
    }

    fn tick(&mut self) -> Result<()> {
        self.later(200, Happening::Tick);
        if self.network.chance(self.config.crash_permille / 5) {
            self.crash()?;
        }
        self.feed(Event::Tick)?;
        while let Some((round, _)) = self.machine.wants_beacon() {
            let value = stub_value(self.setup.network, round);
            self.feed(Event::Beacon(Beacon { round, value, proof: BeaconProof::Stub }))?;
        }
        Ok(())
    }

    /// The coordinator dies and comes back from what was durable.
    fn crash(&mut self) -> Result<()> {
        self.crashes += 1;
        let proofs = &self.durable.proofs;
        let lookup = |id: &ProofId| proofs.get(id).cloned();
        let mut entries = self.durable.entries.iter().cloned();
        self.machine =
            Machine::restore(self.setup.clone(), Arc::new(ExactJudge), &mut entries, &lookup)?;
        let kept: Vec<Event> = self
            .durable
            .commits
            .iter()
            .cloned()
            .map(Event::Commit)
            .chain(self.durable.proofs.values().cloned().map(Event::Proof))
            .collect();
        for event in kept {
            // Statements about tasks that are over are refused, as they should be.
            let _over = self.machine.handle(UnixMs(self.now), event);
        }
        for node in 0..self.nodes.len() {
            self.send(Happening::Sync(node));
        }
        Ok(())
    }

    fn feed(&mut self, event: Event) -> Result<bool> {
        match self.machine.handle(UnixMs(self.now), event) {
            Ok(outcome) => {
                self.keep(&outcome);
                self.tell(&outcome.logged)?;
                Ok(true)
            }
            Err(refusal) => {
                self.history.update(refusal.code.as_bytes());
                Ok(false)
            }
        }
    }

    fn keep(&mut self, outcome: &Outcome) {
        for logged in &outcome.logged {
            self.history.update(&logged.head.0);
            self.durable.entries.push(logged.bytes.clone());
        }
        for keep in &outcome.keep {
            match keep {
                Keep::Commit(envelope) => self.durable.commits.push(envelope.clone()),
                Keep::Proof(id, envelope) => {
                    self.durable.proofs.insert(*id, envelope.clone());
                }
            }
        }
    }

    fn tell(&mut self, logged: &[Logged]) -> Result<()> {
        for logged in logged {
            match &logged.entry.line {
                Line::Leases(leases) => {
                    for lease in &leases.rows {
                        self.lease(*lease, leases.round)?;
                    }
                }
                Line::Closed(closed) => {
                    for set in &closed.sets {
                        for (node, _) in &set.commits {
                            let Some(node) = self.index.get(node).copied() else { continue };
                            let (task, wave) = (set.task, set.wave);
                            self.send(Happening::Proof { node, task, wave });
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn hello(&mut self, index: usize) -> Result<()> {
        let now = UnixMs(self.now);
        let node = &self.nodes[index];
        let delegation = Delegation {
            node: node.key.public(),
            not_before: UnixMs(GENESIS - 1_000),
            expires: UnixMs(GENESIS + 90 * 86_400_000),
            serial: 1,
        };
        let registration = Registration {
            delegation: Envelope::seal_as_owner(&delegation, self.setup.network, &node.owner)?,
            settlement: EvmAddress([node.subnet; 20]),
            blob_addresses: List::default(),
            peer_addresses: List::default(),
            kinds: List::new(vec![1, 2])?,
            agent: Text::clipped("simulated"),
        };
        let registration = Envelope::seal(&registration, self.setup.network, &node.key)?;
        let subnet = [4, 127, node.subnet, 0, 0, 0, 0];
        let bind = self.binding(index)?;
        self.feed(Event::Hello { registration, whereabouts: Whereabouts { subnet, asn: 0 } })?;
        ensure!(now.0 >= GENESIS, "time runs forwards");
        self.feed(Event::Bind(bind))?;
        Ok(())
    }

    fn binding(&self, index: usize) -> Result<Envelope> {
        let node = &self.nodes[index];
        let payout = SettlementKey::from_secret(&[node.subnet.max(1); 32])?;
        let typed = PayoutBinding {
            network: self.setup.network,
            account: node.owner.public().account(),
            payout: payout.address(),
            nonce: 1,
        };
        let payout_signature = typed.sign(&self.setup.domain, &payout)?;
        let binding = Binding { typed, payout_signature, former_signature: None };
        Ok(Envelope::seal_as_owner(&binding, self.setup.network, &node.owner)?)
    }

    fn lease(&mut self, lease: Lease, round: Round) -> Result<()> {
        let Some(index) = self.index.get(&lease.node).copied() else { return Ok(()) };
        let spec = self.machine.state().task(&lease.task).context("a leased task")?.spec.clone();
        let work = self.work(index, lease, round, spec)?;
        let node = &mut self.nodes[index];
        node.work.insert((lease.task, lease.wave), work);
        let delay = 200 + node.random.below(3_000);
        self.later(delay, Happening::Worked { node: index, task: lease.task, wave: lease.wave });
        Ok(())
    }

    fn work(&mut self, index: usize, lease: Lease, round: Round, spec: TaskSpec) -> Result<Work> {
        let network = self.setup.network;
        let node = &mut self.nodes[index];
        let dishonest = match node.conduct {
            Conduct::Honest | Conduct::Silent => false,
            Conduct::Copier | Conduct::Fabricator => true,
            Conduct::Sometimes => node.random.chance(333),
        };
        let salt = if dishonest { node.random.bytes() } else { [0; 32] };
        let (body, input) = output(&spec, &salt)?;
        let nonce = SecretNonce(node.random.bytes());
        let root = body.output_root();
        let commitment = Commitment::new(&lease.task, &lease.node, &nonce, &root);
        node.seq += 1;
        let proof = Proof {
            task: lease.task,
            node: lease.node,
            wave: lease.wave,
            round,
            seq: node.seq,
            input,
            output: root,
            commitment,
            nonce,
            body,
        };
        let commit = Commit { task: lease.task, wave: lease.wave, commitment };
        let commit = Envelope::seal(&commit, network, &node.key)?;
        Ok(Work { lease, round, spec, commit, proof, dishonest })
    }

    fn commit(&mut self, index: usize, task: TaskId, wave: u8) -> Result<()> {
        let Some(work) = self.nodes[index].work.get(&(task, wave)) else { return Ok(()) };
        let (commit, round) = (work.commit.clone(), work.round);
        ensure!(round <= self.machine.state().round(UnixMs(self.now)), "a lease of the future");
        self.feed(Event::Commit(commit))?;
        Ok(())
    }

    fn reveal(&mut self, index: usize, task: TaskId, wave: u8) -> Result<()> {
        let network = self.setup.network;
        let neighbour = self.last_revealed.get(&task).cloned();
        let node = &self.nodes[index];
        if node.conduct == Conduct::Silent {
            return Ok(());
        }
        let Some(work) = node.work.get(&(task, wave)) else { return Ok(()) };
        let mut proof = work.proof.clone();
        if node.conduct == Conduct::Copier
            && let Some(body) = neighbour
        {
            proof.output = body.output_root();
            proof.body = body;
        }
        ensure!(work.lease.role == Role::Replica || wave > 0, "audits come after replicas");
        ensure!(work.spec.id(network)? == task, "the lease is for this task");
        let envelope = Envelope::seal(&proof, network, &node.key)?;
        let id = proof_id(&envelope);
        if work.dishonest {
            let conduct = node.conduct;
            self.dishonest.insert(id, conduct);
        }
        self.last_revealed.insert(task, proof.body.clone());
        if self.feed(Event::Proof(envelope))? {
            self.acknowledged.push(id);
        }
        Ok(())
    }

    /// What a node does after it lost sight of the coordinator: asks and sends again.
    fn sync(&mut self, index: usize) -> Result<()> {
        let id = self.nodes[index].key.public();
        let state = self.machine.state();
        let leases: Vec<(Lease, Round)> =
            state.open_leases(&id).into_iter().map(|(lease, round, _)| (lease, round)).collect();
        let closed: Vec<(TaskId, u8)> =
            state.closed_waiting(&id).into_iter().map(|(set, _)| (set.task, set.wave)).collect();
        for (lease, round) in leases {
            if self.nodes[index].work.contains_key(&(lease.task, lease.wave)) {
                self.send(Happening::Commit { node: index, task: lease.task, wave: lease.wave });
            } else {
                self.lease(lease, round)?;
            }
        }
        for (task, wave) in closed {
            self.send(Happening::Proof { node: index, task, wave });
        }
        Ok(())
    }

    /// The coordinator.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What the network started from.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Whether a node was made honest.
    #[must_use]
    pub fn is_honest(&self, node: &NodeId) -> bool {
        let conduct = self.index.get(node).map(|index| self.nodes[*index].conduct);
        conduct == Some(Conduct::Honest)
    }

    /// Hash of everything that happened.
    #[must_use]
    pub fn history(&self) -> String {
        self.history.finalize().to_hex().to_string()
    }

    /// Log entries so far.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        Ok(self.durable.entries.iter().map(|b| Entry::from_bytes(b)).collect::<Result<_, _>>()?)
    }

    /// The bundles of all closed epochs, as the coordinator publishes them.
    pub fn bundles(&self) -> Result<Vec<Bundle>> {
        let mut bundles = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        for entry in self.entries()? {
            let close = match &entry.line {
                Line::Epoch(close) => Some(close.epoch),
                _ => None,
            };
            entries.push(entry);
            if let Some(epoch) = close {
                let ids = named_proofs(&entries);
                let proofs = ids.iter().filter_map(|id| self.durable.proofs.get(id).cloned());
                let proofs = proofs.collect();
                let bytes =
                    entries.iter().map(|e| Ok(Blob::<{ limits::LINE_MAX }>::new(e.to_bytes()?)?));
                let bytes = bytes.collect::<Result<Vec<_>>>()?;
                bundles.push(Bundle { epoch, entries: bytes, proofs });
                entries.clear();
            }
        }
        Ok(bundles)
    }
}

/// The output of a task: a function of the task alone, unless salted.
fn output(spec: &TaskSpec, salt: &[u8; 32]) -> Result<(ProofBody, BlobId)> {
    match spec.kind {
        TaskKind::Refine => {
            let task: RefineTask = decode(&spec.body, limits::TASK_BODY_MAX)?;
            let document = BlobId::of(&[&task.page.0[..], salt].concat());
            let output =
                RefineOutput::Document { document, document_bytes: 1, bands: List::default() };
            Ok((ProofBody::of(spec.kind, &output)?, task.page))
        }
        _ => {
            let task: FetchTask = decode(&spec.body, limits::TASK_BODY_MAX)?;
            let page = BlobId::of(&[task.url.as_bytes(), salt].concat());
            let output = FetchOutput {
                final_url: task.url,
                status: 200,
                content_type: Text::clipped("text/html"),
                page,
                page_bytes: 1_000,
                fetched_at: UnixMs(GENESIS),
                signals: 0,
                warc: page,
                fingerprint: Blob::new(page.0.to_vec())?,
            };
            Ok((ProofBody::of(spec.kind, &output)?, BlobId::ZERO))
        }
    }
}

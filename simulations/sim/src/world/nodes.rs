//! The nodes of a world: what each does with a lease, honestly or not.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use openledger_rules::{Event, State};
use openledger_wire::eip712::{PayoutBinding, Typed};
use openledger_wire::identity::{Binding, Delegation, Registration};
use openledger_wire::log::{Lease, Role, Whereabouts};
use openledger_wire::proof::{Commit, FetchOutput, Proof, ProofBody, RefineOutput, proof_id};
use openledger_wire::task::{FetchTask, InferTask, RefineTask, TaskKind, TaskSpec};
use openledger_wire::{
    Blob, BlobId, Commitment, Envelope, EvmAddress, List, NodeId, NodeKey, OwnerKey, Round,
    SecretNonce, SettlementKey, TaskId, Text, UnixMs, decode, limits,
};

use super::model::{Answerer, Part};
use super::{Conduct, GENESIS, Happening, World};
use crate::random::Random;

/// A node: its keys, its ways, its work.
pub(super) struct SimNode {
    key: NodeKey,
    owner: OwnerKey,
    conduct: Conduct,
    subnet: u8,
    random: Random,
    seq: u64,
    work: BTreeMap<(TaskId, u8), Work>,
}

/// What a node did for one lease.
struct Work {
    lease: Lease,
    round: Round,
    spec: TaskSpec,
    commit: Envelope,
    proof: Proof,
    dishonest: bool,
}

impl SimNode {
    /// Node number `number` from 1, with the next two keys.
    pub(super) fn new(conduct: Conduct, number: u8, seed: u64, keys: &mut Random) -> Self {
        Self {
            key: NodeKey::from_seed(&keys.bytes()),
            owner: OwnerKey::from_seed(&keys.bytes()),
            conduct,
            subnet: number,
            random: Random::new(seed, &format!("node {number}")),
            seq: 0,
            work: BTreeMap::new(),
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> NodeId {
        self.key.public()
    }

    /// How it behaves.
    pub(super) fn conduct(&self) -> Conduct {
        self.conduct
    }
}

impl World {
    pub(super) fn hello(&mut self, index: usize) -> Result<()> {
        let now = UnixMs(self.now);
        let node = &self.nodes[index];
        let delegation = Delegation {
            node: node.key.public(),
            not_before: UnixMs(GENESIS - 1_000),
            expires: UnixMs(GENESIS + 90 * 86_400_000),
            serial: 1,
        };
        // Nodes offer what the network has rules for.
        let infer = self.setup.rules.infer.as_ref().map(|_| TaskKind::Infer);
        let kinds = [TaskKind::Fetch, TaskKind::Refine].into_iter().chain(infer);
        let kinds: Vec<u8> = kinds.map(TaskKind::code).collect();
        let registration = Registration {
            delegation: Envelope::seal_as_owner(&delegation, self.setup.network, &node.owner)?,
            settlement: EvmAddress([node.subnet; 20]),
            blob_addresses: List::default(),
            peer_addresses: List::default(),
            kinds: List::new(kinds)?,
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

    pub(super) fn lease(&mut self, lease: Lease, round: Round) -> Result<()> {
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
        let tie_permille = self.config.tie_permille;
        let node = &mut self.nodes[index];
        let dishonest = match node.conduct {
            Conduct::Honest | Conduct::Silent => false,
            Conduct::Copier | Conduct::Fabricator => true,
            Conduct::Sometimes => node.random.chance(333),
            Conduct::Prefiller
            | Conduct::AdapterSkipper
            | Conduct::OtherSeed
            | Conduct::TieForger
            | Conduct::OddVersion => spec.kind == TaskKind::Infer,
            // Who is drawn to check does so: what they save is the writing.
            Conduct::Forger | Conduct::Editor | Conduct::Scaler => {
                spec.kind == TaskKind::Infer && lease.role == Role::Replica
            }
            Conduct::OtherClass => spec.kind == TaskKind::Infer && lease.role == Role::Auditor,
        };
        let salt = if dishonest { node.random.bytes() } else { [0; 32] };
        let lie = dishonest.then_some(node.conduct);
        let part = part(self.machine.state(), &lease, lie, &salt);
        let answerer = Answerer { node: &lease.node, lie, salt: &salt, tie_permille, part: &part };
        let (body, input) = output(&spec, &answerer)?;
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

    pub(super) fn commit(&mut self, index: usize, task: TaskId, wave: u8) -> Result<()> {
        let Some(work) = self.nodes[index].work.get(&(task, wave)) else { return Ok(()) };
        let (commit, round) = (work.commit.clone(), work.round);
        ensure!(round <= self.machine.state().round(UnixMs(self.now)), "a lease of the future");
        self.feed(Event::Commit(commit))?;
        Ok(())
    }

    pub(super) fn reveal(&mut self, index: usize, task: TaskId, wave: u8) -> Result<()> {
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
    pub(super) fn sync(&mut self, index: usize) -> Result<()> {
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
}

/// How a node answers: in the class that it is told if it checks an output, else in its own of those
/// that the rule set lists. A heedless one takes the next. Half of the lies are told in a class
/// that is judged within a tolerance, where there is one: it is the loosest.
fn part(state: &State, lease: &Lease, lie: Option<Conduct>, salt: &[u8; 32]) -> Part {
    let rules = state.setup().rules.infer.as_ref();
    let listed: Vec<String> = rules.map(|infer| infer.classes().collect()).unwrap_or_default();
    let told = state.task(&lease.task).filter(|_| lease.role == Role::Auditor);
    let told = told.and_then(|task| state.check_asked(task));
    let named = |class: &str| listed.iter().position(|one| *one == *class);
    let at = told.as_ref().and_then(|told| named(&told.class));
    let mut at = at.unwrap_or_else(|| usize::from(lease.node.0[0]));
    if lie == Some(Conduct::OtherClass) {
        at += 1;
    }
    let judged = |class: &String| rules.is_some_and(|infer| infer.checked_in(class).is_some());
    if lie.is_some() && told.is_none() && salt[31].is_multiple_of(2) {
        at = listed.iter().position(judged).unwrap_or(at);
    }
    let class = listed.get(at % listed.len().max(1)).cloned().unwrap_or_default();
    Part {
        is_exact: !judged(&class),
        class: Text::clipped(&class),
        with_evidence: rules.is_some_and(|infer| infer.wants_evidence()),
        checks: told.and_then(|told| told.answer).map(|(_, tokens)| tokens.to_vec()),
    }
}

/// The output of a task: a function of the task alone, unless salted, and but for rounding.
fn output(spec: &TaskSpec, answerer: &Answerer<'_>) -> Result<(ProofBody, BlobId)> {
    let salt = answerer.salt;
    match spec.kind {
        TaskKind::Infer => {
            let task: InferTask = decode(&spec.body, limits::TASK_BODY_MAX)?;
            let output = answerer.answer(&task)?;
            let odd = answerer.lie == Some(Conduct::OddVersion);
            let version = output.version() + u16::from(odd);
            let body = ProofBody::of_version(spec.kind, version, &output)?;
            Ok((body, task.prompt))
        }
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

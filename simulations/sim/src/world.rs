//! A coordinator and nodes in virtual time: the queue of what happens, and the network between.
//!
//! What the coordinator and the nodes do when something happens is below: `coordinator`, `nodes`, `model`.

mod coordinator;
mod model;
mod nodes;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use anyhow::{Result, ensure};
use openledger_rules::state::Judge;
use openledger_rules::{Event, Machine, RuleSet, Setup};
use openledger_wire::eip712::Domain;
use openledger_wire::profile::BeaconSource;
use openledger_wire::proof::ProofBody;
use openledger_wire::task::{Campaign, FetchTask, InferTask, TaskKind, TaskSpec};
use openledger_wire::{
    Blob, BlobId, CampaignId, Envelope, EvmAddress, List, NetworkId, NodeId, Points, ProofId,
    TaskId, Text, UnixMs, encode,
};

use self::nodes::SimNode;
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
    /// Answers prompts with the right words and the log-probabilities of another model.
    Prefiller,
    /// Answers prompts without the adapters.
    AdapterSkipper,
    /// Answers prompts with a seed of its own.
    OtherSeed,
    /// Answers prompts up to the first token, which it calls a near tie, and invents the rest.
    TieForger,
    /// Answers prompts rightly, in a body of a version that the rules do not know.
    OddVersion,
    /// Does the work, but checks answers with a backend of another class than it is told.
    OtherClass,
    /// Lets another model write, and the right one read it, which gives right log-probabilities and
    /// a right fingerprint of words that are not its own.
    Forger,
    /// Answers prompts rightly but for one token, and lets the model read the rest.
    Editor,
    /// Answers prompts with the adapters at nine tenths of their weight, where words and
    /// log-probabilities hardly show it.
    Scaler,
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
    /// Prompts to answer.
    pub prompts: usize,
    /// Prompts with a near tie in their answer, in thousandths.
    pub tie_permille: u32,
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
            .map(|(conduct, number)| SimNode::new(*conduct, number, config.seed, &mut keys))
            .collect();
        let index = nodes.iter().map(|node| node.id()).zip(0..).collect();
        let setup = Setup {
            network: NetworkId(keys.bytes()),
            rules: config.rules.clone(),
            genesis: UnixMs(GENESIS),
            founding: nodes.iter().take(config.honest).map(SimNode::id).collect(),
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
        if self.config.prompts > 0 {
            let prompts = (0..self.config.prompts).map(|number| prompt(id, number));
            let prompts = prompts.collect::<Result<Vec<_>>>()?;
            ensure!(self.feed(Event::Tasks(prompts))?, "the rules take the prompts");
        }
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
        let conduct = self.index.get(node).map(|index| self.nodes[*index].conduct());
        conduct == Some(Conduct::Honest)
    }

    /// Hash of everything that happened.
    #[must_use]
    pub fn history(&self) -> String {
        self.history.finalize().to_hex().to_string()
    }
}

/// A task to answer a prompt, with one of four adapters.
fn prompt(campaign: CampaignId, number: usize) -> Result<TaskSpec> {
    let adapter = BlobId::of(format!("adapter {}", number % 4).as_bytes());
    let task = InferTask {
        model: BlobId::of(b"model"),
        adapters: List::new([(adapter, 1_000)])?,
        prompt: BlobId::of(format!("prompt {number}").as_bytes()),
        tokens_max: 8 + u32::try_from(number % 24)?,
        seed: *blake3::hash(&number.to_be_bytes()).as_bytes(),
        temperature_permille: 700,
    };
    Ok(TaskSpec {
        campaign,
        kind: TaskKind::Infer,
        version: 1,
        nonce: 0,
        value_permille: 1_000,
        body: Blob::new(encode(&task)?)?,
    })
}

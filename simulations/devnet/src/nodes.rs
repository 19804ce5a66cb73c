//! The nodes, honest ones and cheaters, each a process with a folder and an address of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use openledger_wire::link::Receipt;
use openledger_wire::{AccountId, Epoch, EvmAddress, NodeId, Open, ProofId, TaskId, UnixMs};
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::child::{Child, Spawn};
use crate::programs::Programs;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Does what it says.
    Honest,
    /// Honest, but its proofs go by gossip only.
    CutLink,
    /// Cheats with this conduct.
    Cheater(&'static str),
}

impl Part {
    /// Whether it does what it says.
    #[must_use]
    pub const fn is_honest(self) -> bool {
        !matches!(self, Self::Cheater(_))
    }
}

/// The conducts of the cheaters.
pub const CONDUCTS: [&str; 3] = ["copier", FABRICATOR, "sometimes"];
const FABRICATOR: &str = "fabricator";

/// Who a node is, as `openledger identity` prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct Identity {
    /// Who earns.
    pub account: AccountId,
    /// The node.
    pub node: NodeId,
    /// The payout address of its words, which `up` binds.
    pub default_payout: EvmAddress,
}

/// A node with its identity.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name: of its folder and log.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its folder.
    pub data: PathBuf,
    /// Who it is.
    pub identity: Identity,
    /// Settings of its own, as variables.
    pub settings: Vec<(&'static str, String)>,
}

/// What of `openledger status` is looked at.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    /// Connected peers.
    pub peers: u64,
    /// Blobs.
    pub blobs: BlobCounts,
    /// Sums over everything.
    pub totals: Totals,
    /// Model files.
    #[serde(default)]
    pub models: ModelCounts,
    /// Calls.
    #[serde(default)]
    pub calls: CallCounts,
}

/// Model files that are at a node.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ModelCounts {
    /// Base models.
    pub bases: u64,
    /// Adapters.
    pub adapters: u64,
}

/// Call counters.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CallCounts {
    /// Begun at peers.
    pub forwarded: u64,
    /// Taken up elsewhere after a peer was lost in the middle.
    pub resumed: u64,
    /// Of peers, answered.
    pub for_peers: u64,
}

/// Blob counters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct BlobCounts {
    /// Fetched from peers and verified.
    pub fetched: u64,
}

/// Lease counters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Totals {
    /// Leases.
    pub leased: u64,
    /// Given back.
    pub declined: u64,
    /// Not done in time.
    pub expired: u64,
}

/// What of `openledger earnings` is looked at.
#[derive(Clone, Debug, Deserialize)]
pub struct Earnings {
    /// All OPEN earned by the last closed epoch.
    pub cumulative: Open,
    /// What was claimed on chain.
    pub claimed: Option<Open>,
}

/// A task as a node shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct TaskRow {
    /// The task.
    pub task: TaskId,
    /// The proof, once there is one.
    pub proof: Option<ProofId>,
    /// The epoch in which it counts at the latest: there once the node holds a receipt.
    pub count_by: Option<Epoch>,
    /// How it came here.
    pub milestones: Vec<Milestone>,
    /// The signed receipt, when one task was asked for.
    pub receipt: Option<Receipt>,
}

/// When a task reached a stage.
#[derive(Clone, Debug, Deserialize)]
pub struct Milestone {
    /// Which.
    pub stage: String,
    /// When, by the node's clock.
    pub at: UnixMs,
}

impl TaskRow {
    /// The proof that the coordinator has acknowledged, if it has.
    #[must_use]
    pub fn acknowledged(&self) -> Option<ProofId> {
        self.count_by.and(self.proof)
    }

    /// When the acknowledgement came.
    #[must_use]
    pub fn acknowledged_at(&self) -> Option<UnixMs> {
        let mut reached = self.milestones.iter();
        let found = reached.find(|step| step.stage.eq_ignore_ascii_case("receipted"));
        found.map(|step| step.at)
    }
}

/// What a running node writes down for programs of its owner.
#[derive(Clone, Deserialize)]
pub struct Control {
    /// Base URL of the control API.
    pub url: String,
    /// The token that it takes.
    pub token: String,
    /// Base URL of the API for applications, which takes the same token.
    #[serde(default)]
    pub api: Option<String>,
}

#[derive(Deserialize)]
struct Cheat {
    proof: ProofId,
}

/// The cast: honest nodes, the last of them with its link cut for proofs, then the cheaters.
#[must_use]
pub fn cast(honest: usize) -> Vec<(String, Part)> {
    let honest_node = |n: usize| {
        let part = if n == honest { Part::CutLink } else { Part::Honest };
        (format!("node{n:02}"), part)
    };
    let cheater = |conduct: &'static str| (conduct.to_owned(), Part::Cheater(conduct));
    (1..=honest).map(honest_node).chain(CONDUCTS.map(cheater)).collect()
}

/// The folder of a node below the devnet's.
#[must_use]
pub fn folder(devnet: &Path, name: &str) -> PathBuf {
    devnet.join("nodes").join(name)
}

impl Member {
    /// Creates the identity of a node.
    ///
    /// # Errors
    /// What the node's program says.
    pub async fn create(
        programs: &Programs,
        folder: &Path,
        name: String,
        part: Part,
        number: u8,
    ) -> anyhow::Result<Self> {
        let data = self::folder(folder, &name);
        std::fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
        let create = Spawn::new(format!("create the identity of {name}"), &programs.node)
            .arg("--data-dir")
            .arg(data.as_os_str())
            .args(["--json", "identity", "create", "--unattended"]);
        let identity = json(&create.output().await?)?;
        let ip = Ipv4Addr::new(127, number, 0, 1);
        Ok(Self { name, part, ip, data, identity, settings: Vec::new() })
    }

    /// Starts the node and waits until it answers.
    ///
    /// # Errors
    /// The last words of its log.
    pub async fn start(
        &self,
        programs: &Programs,
        profile: &Path,
        logs: &Path,
    ) -> anyhow::Result<Child> {
        let mut spawn = match self.part {
            Part::Honest | Part::CutLink => Spawn::new(&self.name, &programs.node),
            Part::Cheater(conduct) => Spawn::new(&self.name, &programs.adversary)
                .args(["--conduct", conduct, "--record"])
                .arg(self.record().as_os_str()),
        };
        spawn = spawn.arg("--data-dir").arg(self.data.as_os_str()).args(["--json", "up"]);
        spawn = spawn.args(["--accept", "--exit-with-parent", "--bind"]).arg(self.ip.to_string());
        spawn = spawn.arg("--network").arg(profile.as_os_str());
        if self.part == Part::CutLink {
            spawn = spawn.arg("--cut-link-after-commit");
        }
        // All of this stays on this machine: nothing is announced in the local network.
        spawn = spawn.variable("OPENLEDGER_NODE_NETWORK__MDNS", "false");
        if self.part == Part::Cheater(FABRICATOR) {
            // The other cheaters lose the trust that refining takes by what they fetch.
            spawn = spawn.variable("OPENLEDGER_NODE_WORK__KINDS", "[\"refine\"]");
        }
        for (name, value) in &self.settings {
            spawn = spawn.variable(name, value);
        }
        let mut child = spawn.start(logs)?;
        child.wait_for(|line| line.contains("\"ready\"").then_some(())).await?;
        Ok(child)
    }

    /// `openledger status`.
    ///
    /// # Errors
    /// What the node says.
    pub async fn status(&self, programs: &Programs) -> anyhow::Result<NodeStatus> {
        json(&self.ask(programs, "status").output().await?)
    }

    /// `openledger earnings`.
    ///
    /// # Errors
    /// What the node says.
    pub async fn earnings(&self, programs: &Programs) -> anyhow::Result<Earnings> {
        json(&self.ask(programs, "earnings").output().await?)
    }

    /// `openledger claim`, with an account that pays the gas.
    ///
    /// # Errors
    /// What the node says.
    pub async fn claim(&self, programs: &Programs, gas_key: &str) -> anyhow::Result<()> {
        const VARIABLE: &str = "DEVNET_GAS_KEY";
        let claim = self.ask(programs, "claim").args(["--key-env", VARIABLE]);
        claim.variable(VARIABLE, gas_key).output().await.map(|_| ())
    }

    fn ask(&self, programs: &Programs, command: &str) -> Spawn {
        Spawn::new(format!("openledger {command} of {}", self.name), &programs.node)
            .arg("--data-dir")
            .arg(self.data.as_os_str())
            .args(["--json", command])
    }

    /// The newest tasks of the node, asked for as its own command line does.
    ///
    /// # Errors
    /// When no node runs, or it does not answer.
    pub async fn tasks(&self, http: &Client, rows_max: usize) -> anyhow::Result<Vec<TaskRow>> {
        self.control(http, &format!("tasks?max={rows_max}")).await
    }

    /// One task with what was signed about it.
    ///
    /// # Errors
    /// When no node runs, or it does not answer.
    pub async fn task(&self, http: &Client, task: TaskId) -> anyhow::Result<Vec<TaskRow>> {
        self.control(http, &format!("tasks?max=10&task={task}")).await
    }

    /// An answer of the node's control API.
    ///
    /// # Errors
    /// When no node runs, or it does not answer.
    pub async fn control<T: DeserializeOwned>(
        &self,
        http: &Client,
        path: &str,
    ) -> anyhow::Result<T> {
        let control = self.control_file().await?;
        let url = format!("{}/v1/{path}", control.url.trim_end_matches('/'));
        let answer = http.get(&url).bearer_auth(&control.token).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let text = answer.with_context(|| format!("ask {}", self.name))?.text().await;
        json(&text.with_context(|| format!("ask {}", self.name))?)
    }

    /// Where the running node answers, and to whom.
    ///
    /// # Errors
    /// When none runs.
    pub async fn control_file(&self) -> anyhow::Result<Control> {
        let file = self.data.join("control.json");
        let text = tokio::fs::read_to_string(&file).await;
        json(&text.with_context(|| format!("read {}", file.display()))?)
    }

    /// Dishonest proofs that a cheater noted.
    ///
    /// # Errors
    /// A record that is not readable.
    pub fn cheats(&self) -> anyhow::Result<Vec<ProofId>> {
        let path = self.record();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        text.lines().map(|line| json::<Cheat>(line).map(|cheat| cheat.proof)).collect()
    }

    fn record(&self) -> PathBuf {
        self.data.join("cheats.jsonl")
    }
}

/// A command's answer.
pub(crate) fn json<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    serde_json::from_str(text.trim()).with_context(|| format!("understand {text:?}"))
}

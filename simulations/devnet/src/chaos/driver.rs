//! Does to a running network what the plan says, and brings back what it took down.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use openledger_wire::{Epoch, UnixMs};
use reqwest::Client;
use rustix::process::Signal;
use serde_json::Value;

use super::injected::Injected;
use super::plan::{Chaos, Fault, Step, Target, plan};
use super::processes::{self, Below};
use super::promises::Promises;
use crate::disk;
use crate::launch::Network;
use crate::limits;
use crate::progress::Progress;

/// Part of the command line of every worker, and of those that compute answers.
const WORKER: &str = " worker ";
const INFER_WORKER: &str = " worker infer";

/// Goes through the whole plan; everything runs again at the end.
///
/// # Errors
/// A process that ends by itself, or does not come back.
pub async fn inject(
    network: &mut Network,
    chaos: Chaos,
    promises: &Promises,
    progress: &mut Progress,
) -> anyhow::Result<Injected> {
    let http = Client::builder().no_proxy().timeout(limits::ANSWER_TIME_MAX).build();
    let steps = plan(chaos, network.members.len());
    let mut driver = Driver {
        state: network.folder.join("chain.json"),
        logs: network.folder.join("logs"),
        network,
        http: http.context("set up the HTTP client")?,
        injected: Injected { seed: chaos.seed, ..Injected::default() },
        down: Vec::new(),
        may_end: None,
        campaigns: 1,
    };
    let total = steps.len();
    for (n, step) in steps.into_iter().enumerate() {
        driver.rest(step.pause).await?;
        let done = driver.step(step).await?;
        progress.tell(&format!(
            "fault {} of {total}: {done}; {} killed, {} receipts seen",
            n + 1,
            driver.injected.total(),
            promises.count()
        ));
    }
    while let Some(at) = driver.down.iter().map(|(at, _)| *at).min() {
        driver.rest(at.saturating_duration_since(Instant::now())).await?;
    }
    Ok(driver.injected)
}

pub(super) struct Driver<'a> {
    pub(super) network: &'a mut Network,
    pub(super) http: Client,
    /// Where the chain is kept while it is down.
    state: PathBuf,
    logs: PathBuf,
    pub(super) injected: Injected,
    /// What is down, and when it comes back.
    down: Vec<(Instant, Target)>,
    /// Who may end by itself now.
    may_end: Option<String>,
    campaigns: u32,
}

impl Driver<'_> {
    /// Lets time pass; brings back what is due, and sees to it that there is work.
    pub(super) async fn rest(&mut self, pause: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + pause;
        loop {
            let now = Instant::now();
            let due = self.down.iter().position(|(at, _)| *at <= now);
            if let Some(due) = due {
                let (_, target) = self.down.swap_remove(due);
                self.bring_back(target).await?;
                continue;
            }
            let down: Vec<String> =
                self.down.iter().map(|(_, target)| self.name(*target)).collect();
            let down: Vec<&str> = down.iter().chain(&self.may_end).map(String::as_str).collect();
            self.network.check_all_but(&down)?;
            self.top_up().await;
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            tokio::time::sleep((end - now).min(limits::LOOK_PAUSE)).await;
        }
    }

    /// Funds another campaign when there is little left to do.
    async fn top_up(&mut self) {
        if self.is_down(Target::Coordinator) {
            return;
        }
        let Ok(status) = self.network.api.status().await else { return };
        if status.tasks_open >= limits::TASKS_OPEN_MIN {
            return;
        }
        let name = format!("manuals {}", self.campaigns + 1);
        let urls = self.network.urls.iter().take(limits::TOP_UP_PAGES).cloned().collect();
        let models = self.network.models.as_ref();
        let infer = models.map(|models| models.more_work(self.campaigns)).unwrap_or_default();
        // What is refused now is asked for again at the next look.
        if self.network.fund_all(&name, urls, infer).await.is_ok() {
            self.campaigns += 1;
        }
    }

    async fn step(&mut self, step: Step) -> anyhow::Result<String> {
        match step.fault {
            Fault::Kill(target, away) => self.kill(target, away).await,
            Fault::Silence(time) => self.silence(time).await,
            Fault::FullDisk(time) => self.full_disk(time).await,
            Fault::Reorganisation(blocks) => self.reorganise(blocks).await,
            Fault::RootTakenBack => self.take_root_back().await,
            Fault::StreamCut => self.cut_stream().await,
            Fault::BaseCut => self.cut_file("gguf").await,
            Fault::AdapterCut => self.cut_file("safetensors").await,
            Fault::UnknownModels => self.call_unknown().await,
        }
    }

    async fn reorganise(&mut self, blocks: u64) -> anyhow::Result<String> {
        while self.network.chain.blocks_to_take_back().await? < blocks {
            self.rest(limits::BLOCK_TIME).await?;
        }
        self.network.chain.reorganise(blocks).await?;
        self.injected.reorganisations += 1;
        Ok(format!("the chain took back {blocks} blocks"))
    }

    /// Waits until a root is posted that the chain did not have, and takes it back.
    async fn take_root_back(&mut self) -> anyhow::Result<String> {
        let before = self.newest_root().await?;
        let deadline = Instant::now() + limits::ROOT_TIME_MAX;
        while self.newest_root().await? == before {
            if Instant::now() > deadline {
                return Ok("no root was posted that could be taken back".to_owned());
            }
            self.rest(limits::LOOK_PAUSE / 4).await?;
        }
        // It may be looked at before its block is made, as it may be by everybody.
        self.rest(limits::BLOCK_TIME * 2).await?;
        let epoch = self.newest_root().await?;
        let done = self.reorganise(limits::REORG_BLOCKS_MAX).await?;
        if self.newest_root().await? < epoch {
            self.injected.roots_taken_back += 1;
        }
        Ok(done)
    }

    /// The highest epoch that has a root on chain.
    async fn newest_root(&self) -> anyhow::Result<Option<Epoch>> {
        let status = self.network.contracts.rewards.status().await?;
        let anchors = status.last_good.into_iter().chain(status.pending);
        Ok(anchors.map(|anchor| anchor.epoch).max())
    }

    async fn kill(&mut self, target: Target, away: Duration) -> anyhow::Result<String> {
        match target {
            Target::Worker(node) => self.kill_worker(node, WORKER).await,
            Target::InferWorker(node) => self.kill_worker(node, INFER_WORKER).await,
            Target::Chain => self.kill_chain().await,
            Target::Coordinator if self.is_down(target) => {
                self.kill_one(Target::Node(0), away).await
            }
            Target::Coordinator | Target::Node(_) => self.kill_one(target, away).await,
        }
    }

    /// Kills a node or the coordinator.
    pub(super) async fn kill_one(
        &mut self,
        target: Target,
        away: Duration,
    ) -> anyhow::Result<String> {
        let name = self.name(target);
        self.network.child_mut(&name)?.kill().await?;
        self.injected.count(if target == Target::Coordinator { "coordinator" } else { "nodes" });
        self.injected.away = self.injected.away.max(away);
        if away.is_zero() {
            self.bring_back(target).await?;
            return Ok(format!("killed {name}"));
        }
        self.down.push((Instant::now() + away, target));
        Ok(format!("killed {name}, which stays away for {} ms", away.as_millis()))
    }

    async fn kill_chain(&mut self) -> anyhow::Result<String> {
        self.network.chain.save(&self.state).await?;
        let (guard, anvil) = self.anvil()?;
        processes::send(anvil.pid, Signal::KILL)?;
        // The guard ends with what it guards.
        tokio::time::timeout(limits::STOP_TIME_MAX, self.network.chain.child.wait())
            .await
            .with_context(|| format!("end the chain's guard {guard}: it does not end"))?;
        self.injected.count("the chain");
        self.bring_back(Target::Chain).await?;
        Ok("killed the chain".to_owned())
    }

    /// Kills a worker of this kind of this node or of the next one that has one.
    async fn kill_worker(&mut self, first: usize, kind: &str) -> anyhow::Result<String> {
        let members = self.network.members.len();
        let deadline = Instant::now() + limits::VICTIM_TIME_MAX;
        while Instant::now() < deadline {
            for n in 0..members {
                let name = self.name(Target::Node((first + n) % members));
                let Some(node) = self.network.child_mut(&name)?.pid() else { continue };
                let mut workers = processes::children(node)?;
                workers.retain(|below| below.command.contains(kind));
                let nth = self.injected.restarts.len() % workers.len().max(1);
                let Some(worker) = workers.get(nth) else { continue };
                // It may have ended by itself in between.
                if processes::is_same(worker, node)
                    && processes::send(worker.pid, Signal::KILL).is_ok()
                {
                    let is_infer = worker.command.contains(INFER_WORKER);
                    self.injected.count(if is_infer { "infer workers" } else { "other workers" });
                    return Ok(format!("killed a worker of {name} ({})", worker.command));
                }
            }
            self.rest(limits::LOOK_PAUSE / 4).await?;
        }
        if kind == INFER_WORKER {
            return Box::pin(self.kill_worker(first, WORKER)).await;
        }
        self.kill_one(Target::Node(first), Duration::ZERO).await
    }

    async fn silence(&mut self, time: Duration) -> anyhow::Result<String> {
        let (_, anvil) = self.anvil()?;
        processes::send(anvil.pid, Signal::STOP)?;
        let rested = self.rest(time).await;
        processes::send(anvil.pid, Signal::CONT)?;
        rested?;
        self.injected.silences += 1;
        Ok(format!("the chain was silent for {} s", time.as_secs()))
    }

    /// Fills the small disk; its node may end, and comes back when there is room again.
    async fn full_disk(&mut self, time: Duration) -> anyhow::Result<String> {
        let Some(member) = self.network.small_disk.and_then(|n| self.network.members.get(n)) else {
            return Ok("no node has a small disk".to_owned());
        };
        let (name, folder) = (member.name.clone(), member.data.clone());
        let said_before = self.network.child_mut(&name)?.log_text().len();
        let ballast = disk::fill(&folder)?;
        self.may_end = Some(name.clone());
        let rested = self.rest(time).await;
        self.may_end = None;
        std::fs::remove_file(&ballast).context("empty the small disk")?;
        rested?;
        let child = self.network.child_mut(&name)?;
        let has_ended = child.check().is_err();
        let said = child.log_text().get(said_before..).unwrap_or_default().to_lowercase();
        let is_named =
            ["no space left", "free some space"].iter().any(|words| said.contains(words));
        self.injected.full_disks += 1;
        self.injected.full_disks_silent += u64::from(!is_named);
        self.injected.full_disks_ended += u64::from(has_ended);
        let node = self.network.small_disk.context("find the node with the small disk")?;
        if has_ended {
            self.bring_back(Target::Node(node)).await?;
        }
        let has_room = self.until_room(node).await?;
        self.injected.full_disks_lasting += u64::from(!has_room);
        self.injected.up_since.insert(name.clone(), now()?);
        let then = if has_ended { "ended, and was started again" } else { "went on" };
        Ok(format!("the disk of {name} was full for {} s; it {then}", time.as_secs()))
    }

    /// Whether a node says in time that its disk is not full any more. Meanwhile it may start again
    /// by itself.
    async fn until_room(&mut self, node: usize) -> anyhow::Result<bool> {
        let deadline = Instant::now() + limits::ROOM_TIME_MAX;
        while Instant::now() < deadline {
            let member = self.network.members.get(node).context("find a node")?;
            if let Ok(status) = member.control::<Value>(&self.http, "status").await
                && !status.to_string().contains("the disk is full")
            {
                return Ok(true);
            }
            self.rest(limits::LOOK_PAUSE / 4).await?;
        }
        Ok(false)
    }

    /// The guard's number, and the process that it guards.
    fn anvil(&self) -> anyhow::Result<(u32, Below)> {
        let guard = self.network.chain.child.pid().context("find the chain's guard")?;
        let mut below = processes::children(guard)?.into_iter();
        Ok((guard, below.next().context("find the chain's process")?))
    }

    /// Starts a process again, and waits until it answers.
    pub(super) async fn bring_back(&mut self, target: Target) -> anyhow::Result<()> {
        let name = self.name(target);
        let started = Instant::now();
        if target == Target::Chain {
            let network = &mut *self.network;
            network.chain.start_again(&network.programs, &self.logs, &self.state).await?;
        } else {
            let child = self.network.child_mut(&name)?;
            child.start_again()?;
            child.wait_for(|line| line.contains("\"ready\"").then_some(())).await?;
        }
        let deadline = started + limits::READY_TIME_MAX;
        while let Err(error) = self.answers(target).await {
            if Instant::now() > deadline {
                bail!("start {name} again: it does not answer: {error:#}");
            }
            tokio::time::sleep(limits::ANSWER_PAUSE).await;
        }
        self.injected.restarts.push((name.clone(), started.elapsed()));
        self.injected.up_since.insert(name, now()?);
        Ok(())
    }

    async fn answers(&self, target: Target) -> anyhow::Result<()> {
        match target {
            Target::Coordinator => self.network.api.status().await.map(|_| ()),
            Target::Chain => self.network.chain.block().await.map(|_| ()),
            Target::Node(n) | Target::Worker(n) | Target::InferWorker(n) => {
                let member = self.network.members.get(n).context("find a node")?;
                member.control::<Value>(&self.http, "status").await.map(|_| ())
            }
        }
    }

    fn is_down(&self, target: Target) -> bool {
        self.down.iter().any(|(_, down)| *down == target)
    }

    fn name(&self, target: Target) -> String {
        match target {
            Target::Coordinator => "coordinator".to_owned(),
            Target::Chain => "chain".to_owned(),
            Target::Node(n) | Target::Worker(n) | Target::InferWorker(n) => {
                let member = self.network.members.get(n);
                member.map(|member| member.name.clone()).unwrap_or_default()
            }
        }
    }
}

pub(super) fn now() -> anyhow::Result<UnixMs> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    Ok(UnixMs(u64::try_from(since.as_millis()).context("read the clock")?))
}

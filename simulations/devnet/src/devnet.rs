//! A run: start, watch until everybody is paid, count, show, stay or end.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use openledger_sim::Figures;
use openledger_wire::ProofId;
use openledger_wire::task::TaskKind;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{Documents, Stats, Status};
use crate::chaos::{self, Chaos, Promises};
use crate::chats::{self, Chats};
use crate::launch::{Network, Size};
use crate::limits;
use crate::money::{self, Claims};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::report::{self, Findings};
use crate::tally::Tally;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// End when all honest accounts were paid.
    pub once: bool,
    /// How large.
    pub size: Size,
    /// The folder for everything.
    pub folder: PathBuf,
    /// Anvil, if it is named.
    pub anvil: Option<PathBuf>,
    /// Faults to inject before everybody is paid.
    pub chaos: Option<Chaos>,
}

impl Options {
    /// When a run that ends by itself gives up.
    fn time_max(&self) -> Duration {
        let Some(chaos) = self.chaos else { return limits::ONCE_TIME_MAX };
        let kills = u32::try_from(chaos.kills).unwrap_or(u32::MAX);
        limits::CHAOS_TIME_MAX.saturating_add(limits::CHAOS_TIME_EACH.saturating_mul(kills))
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ending {
    /// The figures; `None` if it was interrupted before there were any.
    pub figures: Option<Figures>,
}

/// What the run still waits for.
struct Waiting(String);

/// Runs a network; `show` gets figures and summary once there are any.
///
/// # Errors
/// What did not start, or stopped working.
pub async fn run(
    options: &Options,
    show: impl FnOnce(&Figures, &str) -> anyhow::Result<()>,
) -> anyhow::Result<Ending> {
    let started = Instant::now();
    let mut interrupted = Interrupted::watch()?;
    let mut progress = Progress::start();
    let programs = Programs::find(options.anvil.as_deref())?;
    let starting = Network::start(programs, &options.folder, &options.size, &mut progress);
    let mut network = tokio::select! {
        network = Box::pin(starting) => network?,
        // What was started so far ends with its handles.
        () = interrupted.wait() => return Ok(Ending { figures: None }),
    };
    let outcome = tokio::select! {
        outcome = Box::pin(follow(&mut network, options, started, &mut progress)) => outcome.map(Some),
        () = interrupted.wait() => Ok(None),
    };
    progress.end();
    let result = match outcome {
        Ok(Some(findings)) => {
            let figures = report::figures(&network, &findings);
            let shown = show(&figures, &report::summary(&network, &findings));
            if shown.is_ok() && !options.once {
                interrupted.wait().await;
            }
            shown.map(|()| Ending { figures: Some(figures) })
        }
        Ok(None) => Ok(Ending { figures: None }),
        Err(error) => Err(error),
    };
    network.stop().await;
    result
}

/// Follows the network until all honest accounts were paid, or time is up.
async fn follow(
    network: &mut Network,
    options: &Options,
    started: Instant,
    progress: &mut Progress,
) -> anyhow::Result<Findings> {
    let network_id = network.api.status().await?.network;
    let mut tally = Tally::new(network_id);
    let chaos = match options.chaos {
        None => None,
        Some(chaos) => {
            let promises = Promises::collect(&network.members)?;
            let injected = chaos::inject(network, chaos, &promises, progress).await?;
            Some((promises, injected))
        }
    };
    let mut waiting = Waiting("anything".to_owned());
    let mut chats = None;
    let claims = loop {
        network.check()?;
        tokio::time::sleep(limits::LOOK_PAUSE).await;
        if options.once && started.elapsed() > options.time_max() {
            progress.step(&format!(
                "gave up after {} s, still waiting for: {}",
                started.elapsed().as_secs(),
                waiting.0
            ));
            break None;
        }
        match look(network, &mut tally, &mut chats, progress).await {
            Ok(ControlFlow::Break(claims)) => break Some(claims),
            Ok(ControlFlow::Continue(next)) => waiting = next,
            // An answer that does not come is asked for again; a process that ended is noticed.
            Err(error) => waiting = Waiting(format!("{error:#}")),
        }
    };
    let time = started.elapsed();
    progress.step("counting and auditing");
    let mut findings = findings(network, tally, claims, time).await?;
    findings.chats = chats;
    if let Some((promises, injected)) = chaos {
        let kept = promises.compare(&network.members, &findings.tally).await?;
        findings.chaos = Some((injected, kept));
    }
    Ok(findings)
}

/// Looks at the network once: shows how it stands, and claims when the time has come.
async fn look(
    network: &Network,
    tally: &mut Tally,
    chats: &mut Option<Chats>,
    progress: &mut Progress,
) -> anyhow::Result<ControlFlow<Claims, Waiting>> {
    let status = network.api.status().await?;
    let stats = network.api.stats().await?;
    progress.tell(&standing(&status, &stats, network.urls.len()));
    let later = |text: String| Ok(ControlFlow::Continue(Waiting(text)));
    tally.catch_up(&network.api).await?;
    // Who asks for traps waits long; the real pages are what is waited for.
    let pages = network.urls.iter().map(String::as_str).collect();
    let tasks = tally.unjudged(&pages) + tally.unjudged_of(TaskKind::Infer);
    let tasks = tasks.min(status.tasks_open);
    if tasks > 0 || stats.waiting > 0 {
        let proofs = stats.waiting;
        return later(format!("{tasks} tasks to be done and {proofs} proofs to be judged"));
    }
    if let Some(missing) = missing_documents(&stats.documents, tally) {
        return later(missing);
    }
    // Once there is no work left, so that whatever is earned is earned by calls.
    if let (Some(models), None) = (&network.models, &chats) {
        progress.step("chatting with every adapter");
        *chats = Some(chats::chat(network, models, tally.points()).await?);
    }
    Ok(match money::claim_all(network).await? {
        ControlFlow::Break(claims) => ControlFlow::Break(claims),
        ControlFlow::Continue(missing) => ControlFlow::Continue(Waiting(missing)),
    })
}

/// What is waited for until enough documents are collected, as long as more can come.
fn missing_documents(documents: &Documents, tally: &Tally) -> Option<String> {
    let Documents { collected, waiting, next_height, .. } = documents;
    let may_come = *waiting > 0 || *next_height < tally.next_height();
    let is_missing = *collected < limits::BAR_DOCUMENTS && may_come;
    is_missing.then(|| format!("{waiting} documents to be collected beside {collected}"))
}

fn standing(status: &Status, stats: &Stats, pages: usize) -> String {
    let verdicts = |end: &str| -> u64 {
        let of = stats.verdicts.iter().filter(|(name, _)| name.ends_with(end));
        of.map(|(_, count)| count).sum()
    };
    let tasks: u64 = stats.tasks.values().sum();
    format!(
        "epoch {}, round {}: {} nodes, {}/{pages} pages refined, {} of {tasks} tasks open, \
         {} proofs accepted, {} rejected, {} waiting, {} documents collected, epoch {} claimable",
        status.epoch,
        status.round,
        status.connected,
        stats.urls_refined,
        status.tasks_open,
        verdicts(" accepted"),
        verdicts(" rejected"),
        stats.waiting,
        stats.documents.collected,
        status.claimable.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string()),
    )
}

async fn findings(
    network: &Network,
    mut tally: Tally,
    claims: Option<Claims>,
    time: Duration,
) -> anyhow::Result<Findings> {
    tally.catch_up(&network.api).await?;
    let mut noted: BTreeSet<ProofId> = BTreeSet::new();
    let (mut blobs_from_peers, mut models_here, mut forwarded) = (0, 0, 0);
    for member in &network.members {
        if member.part.is_honest() {
            let status = member.status(&network.programs).await?;
            blobs_from_peers += status.blobs.fetched;
            models_here += status.models.bases + status.models.adapters;
            forwarded += status.calls.forwarded;
        } else {
            noted.extend(member.cheats()?);
        }
    }
    let stats = network.api.stats().await?;
    let (first_by_gossip, documents) = (stats.proofs_first_seen_by_gossip, stats.documents);
    let audited = match &claims {
        Some(claims) => Some(money::audit(network, claims.epoch).await?),
        None => None,
    };
    Ok(Findings {
        tally,
        noted,
        blobs_from_peers,
        models_here,
        forwarded,
        documents,
        first_by_gossip,
        claims,
        audited,
        time,
        chaos: None,
        chats: None,
    })
}

/// Ctrl-C and the polite signal of other programs.
struct Interrupted {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupted {
    fn watch() -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("watch for signals");
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Refuses sizes that cannot work.
///
/// # Errors
/// Names the option and what fits.
pub fn check_size(size: &Size, chaos: Option<&Chaos>) -> anyhow::Result<()> {
    if size.nodes == 0 || size.nodes > limits::NODES_MAX {
        bail!("start {} nodes: --nodes takes 1 to {}", size.nodes, limits::NODES_MAX);
    }
    if let Some(Chaos { kills, .. }) = chaos
        && (*kills == 0 || *kills > limits::KILLS_MAX)
    {
        bail!("kill {kills} processes: --kills takes 1 to {}", limits::KILLS_MAX);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::{Height, NetworkId};

    #[test]
    fn documents_are_waited_for_until_there_are_enough_or_no_more_can_come() {
        let tally = Tally::new(NetworkId([1; 32]));
        let missing = |collected, waiting, next_height| {
            let next_height = Height(next_height);
            let documents = Documents { collected, waiting, next_height, ..Documents::default() };
            missing_documents(&documents, &tally).is_some()
        };
        assert!(missing(limits::BAR_DOCUMENTS - 1, 1, 9));
        assert!(!missing(limits::BAR_DOCUMENTS, 1, 9));
        assert!(!missing(3, 0, 0), "the log has no more");
    }
}

//! A run: start, watch until everybody is paid, count, show, stay or end.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use openledger_sim::Figures;
use openledger_wire::ProofId;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{Stats, Status};
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
    let mut waiting = Waiting("anything".to_owned());
    let claims = loop {
        network.check()?;
        tokio::time::sleep(limits::LOOK_PAUSE).await;
        if options.once && started.elapsed() > limits::ONCE_TIME_MAX {
            progress.step(&format!(
                "gave up after {} s, still waiting for: {}",
                started.elapsed().as_secs(),
                waiting.0
            ));
            break None;
        }
        match look(network, &mut tally, progress).await {
            Ok(ControlFlow::Break(claims)) => break Some(claims),
            Ok(ControlFlow::Continue(next)) => waiting = next,
            // An answer that does not come is asked for again; a process that ended is noticed.
            Err(error) => waiting = Waiting(format!("{error:#}")),
        }
    };
    let time = started.elapsed();
    progress.step("counting and auditing");
    findings(network, tally, claims, time).await
}

/// Looks at the network once: shows how it stands, and claims when the time has come.
async fn look(
    network: &Network,
    tally: &mut Tally,
    progress: &mut Progress,
) -> anyhow::Result<ControlFlow<Claims, Waiting>> {
    let status = network.api.status().await?;
    let stats = network.api.stats().await?;
    progress.tell(&standing(&status, &stats, network.urls.len()));
    let later = |text: String| Ok(ControlFlow::Continue(Waiting(text)));
    tally.catch_up(&network.api).await?;
    // Who asks for traps waits long; the real pages are what is waited for.
    let pages = network.urls.iter().map(String::as_str).collect();
    let tasks = tally.unjudged(&pages).min(status.tasks_open);
    if tasks > 0 || stats.waiting > 0 {
        let proofs = stats.waiting;
        return later(format!("{tasks} tasks to be done and {proofs} proofs to be judged"));
    }
    Ok(match money::claim_all(network).await? {
        ControlFlow::Break(claims) => ControlFlow::Break(claims),
        ControlFlow::Continue(missing) => ControlFlow::Continue(Waiting(missing)),
    })
}

fn standing(status: &Status, stats: &Stats, pages: usize) -> String {
    let verdicts = |end: &str| -> u64 {
        let of = stats.verdicts.iter().filter(|(name, _)| name.ends_with(end));
        of.map(|(_, count)| count).sum()
    };
    let tasks: u64 = stats.tasks.values().sum();
    format!(
        "epoch {}, round {}: {} nodes, {}/{pages} pages refined, {} of {tasks} tasks open, \
         {} proofs accepted, {} rejected, {} waiting, epoch {} claimable",
        status.epoch,
        status.round,
        status.connected,
        stats.urls_refined,
        status.tasks_open,
        verdicts(" accepted"),
        verdicts(" rejected"),
        stats.waiting,
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
    let mut blobs_from_peers = 0;
    for member in &network.members {
        if member.part.is_honest() {
            blobs_from_peers += member.status(&network.programs).await?.blobs.fetched;
        } else {
            noted.extend(member.cheats()?);
        }
    }
    let first_by_gossip = network.api.stats().await?.proofs_first_seen_by_gossip;
    let audited = match &claims {
        Some(claims) => Some(money::audit(network, claims.epoch).await?),
        None => None,
    };
    Ok(Findings { tally, noted, blobs_from_peers, first_by_gossip, claims, audited, time })
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
pub fn check_size(size: &Size) -> anyhow::Result<()> {
    if size.nodes == 0 || size.nodes > limits::NODES_MAX {
        bail!("start {} nodes: --nodes takes 1 to {}", size.nodes, limits::NODES_MAX);
    }
    Ok(())
}

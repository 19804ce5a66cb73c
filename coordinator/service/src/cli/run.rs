//! `run`: the coordinator until a signal, the end of its parent, or a failing ledger.
//!
//! A ledger that a full disk ended is no reason to come back for: the program waits until there is
//! room and starts itself anew, in its own process, so that nothing of before is still open.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::Context as _;
use openledger_swarm::lack_of_room;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use super::{RunArgs, print};
use crate::config::Config;
use crate::limits;
use crate::parts::Parts;
use crate::service::Coordinator;

pub(super) async fn run(args: RunArgs) -> anyhow::Result<()> {
    log_to_stderr();
    let config = Config::load(&args.config)?;
    let folder = config.data_dir.clone();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("make the data folder {}", folder.display()))?;
    let mut parent = args.exit_with_parent.then(parent_gone);
    let Err(error) = Box::pin(until_stopped(config, &mut parent, args.json)).await else {
        return Ok(());
    };
    let Some(lack) = lack_of_room(&folder) else { return Err(error) };
    tracing::error!("failed to {error:#}");
    tracing::error!("{lack}");
    tokio::select! {
        why = told_to_stop(&mut parent) => {
            tracing::info!(why = why?, "stopping");
            return Ok(());
        }
        () = until_room(&folder) => tracing::info!("there is room again: the coordinator starts again"),
    }
    let program = std::env::current_exe().context("find this program's file")?;
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    Err(error).context("start the coordinator again")
}

async fn until_room(folder: &Path) {
    while lack_of_room(folder).is_some() {
        tokio::time::sleep(limits::ROOM_PAUSE).await;
    }
}

async fn until_stopped(
    config: Config,
    parent: &mut Option<oneshot::Receiver<()>>,
    is_json: bool,
) -> anyhow::Result<()> {
    let parts = tokio::task::spawn_blocking(move || Parts::load(config))
        .await
        .context("load the configuration")??;
    let coordinator = Box::pin(Coordinator::start(parts)).await?;
    let ready = json!({
        "ready": true,
        "api": coordinator.url(),
        "link": coordinator.link_address(),
        "gossip": coordinator.gossip_addresses(),
        "pid": std::process::id(),
    });
    tracing::info!(api = coordinator.url(), link = %coordinator.link_address(), "the coordinator runs");
    print(&ready, is_json)?;
    tokio::select! {
        why = told_to_stop(parent) => tracing::info!(why = why?, "stopping"),
        () = coordinator.ended() => tracing::error!("the core has ended"),
    }
    coordinator.shutdown().await?;
    Ok(())
}

async fn told_to_stop(parent: &mut Option<oneshot::Receiver<()>>) -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let parent = async {
        let Some(gone) = parent else { return std::future::pending().await };
        // An error means that the thread which watches is gone; then nobody watches.
        if gone.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("listen for signals").map(|()| "interrupted"),
        _ = terminate.recv() => Ok("terminated"),
        () = parent => Ok("the parent process is gone"),
    }
}

/// Resolves at the end of standard input. A thread, because reads of it cannot be cancelled.
fn parent_gone() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut piece = [0; 256];
        let mut input = std::io::stdin().lock();
        while matches!(input.read(&mut piece), Ok(count) if count > 0) {}
        let _ = sender.send(());
    });
    receiver
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("OPENLEDGER_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,iroh=warn,libp2p=warn"));
    // A second call, from a test in the same process, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}

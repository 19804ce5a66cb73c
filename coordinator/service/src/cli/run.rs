//! `run`: the coordinator until a signal, the end of its parent, or a failing ledger.

use std::io::Read as _;

use anyhow::Context as _;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use super::{RunArgs, print};
use crate::config::Config;
use crate::parts::Parts;
use crate::service::Coordinator;

pub(super) async fn run(args: RunArgs) -> anyhow::Result<()> {
    log_to_stderr();
    let config = Config::load(&args.config)?;
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("make the data folder {}", config.data_dir.display()))?;
    let parent = args.exit_with_parent.then(parent_gone);
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
    print(&ready, args.json)?;
    tokio::select! {
        why = told_to_stop(parent) => tracing::info!(why = why?, "stopping"),
        () = coordinator.ended() => tracing::error!("the core has ended"),
    }
    coordinator.shutdown().await?;
    Ok(())
}

async fn told_to_stop(parent: Option<oneshot::Receiver<()>>) -> anyhow::Result<&'static str> {
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

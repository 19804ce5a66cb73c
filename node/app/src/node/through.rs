//! A node through full disks: what a lack of room ended waits for room, and runs again.
//!
//! A node works as long as its promises can be kept on disk, and ends when they cannot. Its owner
//! should not have to come back for that: once there is room, it goes on with what it had promised.
//! Each run has a runtime of its own, so that nothing of the one before still holds a file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openledger_swarm::lack_of_room;
use tokio_util::sync::CancellationToken;

use super::start::{RunError, RunOptions, run};
use crate::conduct::Conduct;
use crate::limits;

/// Between two looks at the disk.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs a node until it is stopped, has left all its networks, or fails by something else than a
/// full disk. Must not be called inside a runtime.
///
/// # Errors
/// [`RunError`].
pub fn run_through(options: &RunOptions, conduct: &Arc<dyn Conduct>) -> Result<(), RunError> {
    let stop = &options.stop;
    let mut held_until = Instant::now();
    loop {
        // A failure ends this run only.
        let attempt = RunOptions { stop: stop.child_token(), ..options.clone() };
        let Err(error) = run_once(attempt, Arc::clone(conduct)) else { return Ok(()) };
        if stop.is_cancelled() {
            return Err(error);
        }
        let Some(lack) = lack_of_room(options.data.path()) else {
            if Instant::now() > held_until {
                return Err(error);
            }
            // What the run before had open is closed in the background.
            std::thread::sleep(PAUSE);
            continue;
        };
        tracing::error!("failed to {error}");
        tracing::error!("{lack}");
        if !wait_for_room(options.data.path(), stop) {
            return Ok(());
        }
        tracing::info!("there is room again: the node starts again");
        held_until = Instant::now() + limits::REOPEN_TIME_MAX;
    }
}

fn run_once(options: RunOptions, conduct: Arc<dyn Conduct>) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let cut = runtime.spawn(cut_off(options.stop.clone()));
    let ended = runtime.block_on(Box::pin(run(options, conduct)));
    cut.abort();
    runtime.shutdown_timeout(limits::RUNTIME_STOP_TIME_MAX);
    ended
}

/// Ends the process if a run does not end within its time after it was told to.
async fn cut_off(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(limits::STOP_TIME_MAX).await;
    tracing::error!("the node did not stop in time and is ended");
    std::process::exit(1);
}

/// Whether there came to be room before the node was stopped.
pub(crate) fn wait_for_room(folder: &Path, stop: &CancellationToken) -> bool {
    while !stop.is_cancelled() {
        if lack_of_room(folder).is_none() {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

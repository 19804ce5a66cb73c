//! Starting a worker process on one end of a socket pair.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::child::WorkerKind;
use super::process::Program;

/// A process of this kind, and the socket to it. It is killed when its handle is dropped, and ends
/// by itself when the socket closes.
///
/// # Errors
/// The system's.
pub(crate) fn spawn(
    program: &Program,
    kind: WorkerKind,
    time_max: Duration,
) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = std::process::Command::new(&program.path);
    command
        .args(["worker", kind.name(), "--time-ms", &time_max.as_millis().to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        // A Ctrl-C is for the node, which then stops its workers in order.
        .process_group(0);
    let child = Command::from(command).kill_on_drop(true).spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

//! Starting a worker process on one end of a socket pair.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::child::WorkerKind;
use super::process::Program;

/// Variables by which systems say where drivers of devices are, and which device a program may
/// use. They hold no secrets.
const OF_DRIVERS: [&str; 9] = [
    "LD_LIBRARY_PATH",
    "VK_ICD_FILENAMES",
    "VK_DRIVER_FILES",
    "VK_ADD_DRIVER_FILES",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "XDG_DATA_DIRS",
];

/// What a worker that may use a device is told of its drivers; others are told nothing.
fn of_drivers(kind: WorkerKind) -> Vec<(&'static str, std::ffi::OsString)> {
    if kind != WorkerKind::Infer {
        return Vec::new();
    }
    let mut all: Vec<_> =
        OF_DRIVERS.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
    // Nothing is shown on a screen; without such a folder some drivers complain to the terminal.
    const NO_SCREEN: &str = "XDG_RUNTIME_DIR";
    all.push((NO_SCREEN, std::env::var_os(NO_SCREEN).unwrap_or_else(|| "/nonexistent".into())));
    all
}

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
        .envs(of_drivers(kind))
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        // A Ctrl-C is for the node, which then stops its workers in order.
        .process_group(0);
    let child = Command::from(command).kill_on_drop(true).spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

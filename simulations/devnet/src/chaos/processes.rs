//! Finding processes of processes, and signals to them.
//!
//! Through `/proc`, so on Linux only; elsewhere there is an error that says so.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A process below another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// Its number.
    pub pid: u32,
    /// Its command line, arguments separated by spaces.
    pub command: String,
}

/// The processes that a process has started and that still run.
///
/// # Errors
/// Where there is no `/proc`.
pub fn children(parent: u32) -> anyhow::Result<Vec<Below>> {
    let all = Path::new("/proc");
    let entries = fs::read_dir(all).context("look for processes in /proc; use Linux for this")?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let of_parent = numbers.filter(|pid| parent_of(*pid) == Some(parent));
    Ok(of_parent.map(|pid| Below { pid, command: command_of(pid) }).collect())
}

/// Whether this is still that process: numbers are given out again.
#[must_use]
pub fn is_same(process: &Below, parent: u32) -> bool {
    parent_of(process.pid) == Some(parent) && command_of(process.pid) == process.command
}

/// Sends a signal.
///
/// # Errors
/// When the process is gone.
pub fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(number) = number else { bail!("signal process {pid}: there is no such number") };
    kill_process(number, signal).with_context(|| format!("signal process {pid}"))
}

/// The parent of a process that runs: a zombie has ended.
fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, brackets and spaces included.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z")
}

fn command_of(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_child_is_found_and_killed() {
        let mut child = Command::new("sleep").arg("1001").stdin(Stdio::null()).spawn().unwrap();
        let own = std::process::id();
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = loop {
            let found = children(own).unwrap().into_iter().find(|below| below.pid == child.id());
            // Between fork and exec it has the parent's command line.
            match found.filter(|below| below.command == "sleep 1001") {
                Some(found) => break found,
                None => assert!(Instant::now() < deadline),
            }
        };
        assert!(is_same(&found, own) && !is_same(&found, 1));
        send(found.pid, Signal::KILL).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!is_same(&found, own));
        assert!(send(0, Signal::KILL).is_err());
    }
}

//! `openledger-guard PROGRAM...`: runs a program that knows nothing of its parent, and ends it when
//! standard input ends, which it does however the parent ends.
//!
//! A program of its own, so that nobody who ends the devnet by name ends the guard with it. Should
//! the guard itself be killed, the system kills what it guards: the program is started by a second
//! copy of the guard, which asks for that (`PR_SET_PDEATHSIG`, prctl(2)) and becomes the program.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};

use thiserror::Error;

use crate::limits;

/// The first argument of the copy that becomes the program; the guard's process number follows.
const BOUND: &str = "--bound-to";

/// Why a program is not guarded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GuardError {
    /// No program was named.
    #[error("guard a program: name it with its arguments")]
    Nothing,
    /// It did not start.
    #[error("start {program}: {source}; check the path")]
    Start {
        /// Its name.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The guard ended before the program started.
    #[error("guard a program: its guard has ended")]
    Orphan,
    /// The system does not say how it is.
    #[error("watch a program: {0}")]
    Watch(#[from] io::Error),
}

/// Runs a command until it ends or standard input does; gives its status in the first case.
///
/// # Errors
/// [`GuardError`].
pub fn run(arguments: &[OsString]) -> Result<Option<ExitStatus>, GuardError> {
    match arguments {
        [] => Err(GuardError::Nothing),
        [first, guard, command @ ..] if first == BOUND => Err(become_bound(guard, command)),
        command => watch(command),
    }
}

/// Starts the copy that becomes the program, and waits for its end or that of standard input.
fn watch(command: &[OsString]) -> Result<Option<ExitStatus>, GuardError> {
    let own = std::env::current_exe()?;
    let mut child = Command::new(own)
        .arg(BOUND)
        .arg(std::process::id().to_string())
        .args(command)
        .stdin(Stdio::null())
        .spawn()?;
    let (sender, parent) = channel::<()>();
    std::thread::spawn(move || {
        let mut piece = [0; 256];
        let mut input = io::stdin().lock();
        while matches!(input.read(&mut piece), Ok(count) if count > 0) {}
        drop(sender);
    });
    loop {
        match parent.recv_timeout(limits::GUARD_PAUSE) {
            Err(RecvTimeoutError::Timeout) | Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
        }
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
    }
}

/// Becomes the program, which then ends with its guard. Comes back with an error only.
fn become_bound(guard: &OsString, command: &[OsString]) -> GuardError {
    let Some((program, arguments)) = command.split_first() else { return GuardError::Nothing };
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
            return GuardError::Watch(error.into());
        }
    }
    // The guard may have ended before the wish was made known.
    let parent = std::os::unix::process::parent_id().to_string();
    if guard.to_str() != Some(&*parent) {
        return GuardError::Orphan;
    }
    let source = Command::new(program).args(arguments).exec();
    GuardError::Start { program: program.to_string_lossy().into_owned(), source }
}

//! `openledger-devnet guard -- COMMAND…`: runs a program that knows nothing of its parent, and ends
//! it when standard input ends, which it does however the parent ends.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};

use thiserror::Error;

use crate::limits;

/// Why a program is not guarded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GuardError {
    /// No program was named.
    #[error("guard a program: name it after --")]
    Nothing,
    /// It did not start.
    #[error("start {program}: {source}; check the path")]
    Start {
        /// Its name.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system does not say how it is.
    #[error("watch a program: {0}")]
    Watch(#[from] io::Error),
}

/// Runs a command until it ends or standard input does; gives its status in the first case.
///
/// # Errors
/// [`GuardError`].
pub fn run(command: &[OsString]) -> Result<Option<ExitStatus>, GuardError> {
    let (program, arguments) = command.split_first().ok_or(GuardError::Nothing)?;
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::null()).spawn().map_err(|source| {
            GuardError::Start { program: program.to_string_lossy().into_owned(), source }
        })?;
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

//! Where the vault's passphrase comes from: a program of the owner's choice (which may ask the
//! system's key ring), a file, systemd, the environment, a key file, or a person.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use openledger_vault::{Passphrase, UnlockSource};

/// Variable with the passphrase of the vault.
pub const PASSPHRASE_VARIABLE: &str = "OPENLEDGER_PASSPHRASE";

/// Variable with a shell command that prints the passphrase: `keyctl pipe %user:openledger` for the
/// kernel's key ring, `secret-tool lookup service openledger` for a desktop's.
pub const PASSPHRASE_COMMAND_VARIABLE: &str = "OPENLEDGER_PASSPHRASE_COMMAND";
/// Variable with the path of a file that holds the passphrase and that only its owner may read.
pub const PASSPHRASE_FILE_VARIABLE: &str = "OPENLEDGER_PASSPHRASE_FILE";

/// The source that needs nobody: the owner's program or file where one is named, then what
/// [`UnlockSource::detect`] finds; `None` when somebody must be asked.
///
/// # Errors
/// That the owner's program failed.
pub fn found_source(vault: &Path) -> io::Result<Option<UnlockSource>> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(command) = set(PASSPHRASE_COMMAND_VARIABLE) {
        return passphrase_of(&command).map(Some);
    }
    if let Some(path) = set(PASSPHRASE_FILE_VARIABLE) {
        return Ok(Some(UnlockSource::File(PathBuf::from(path))));
    }
    Ok(UnlockSource::detect(vault, PASSPHRASE_VARIABLE))
}

/// What the owner's program prints, up to the end of its first line.
fn passphrase_of(command: &std::ffi::OsStr) -> io::Result<UnlockSource> {
    let failed = |reason: String| {
        let text = format!(
            "run the command in {PASSPHRASE_COMMAND_VARIABLE}: {reason}; try it in a shell: it must print the passphrase"
        );
        io::Error::other(text)
    };
    let shell = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let mut output = shell.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("it ended with {}", output.status)));
    }
    let end = output.stdout.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    output.stdout.truncate(end.unwrap_or(output.stdout.len()));
    Ok(UnlockSource::Passphrase(Passphrase::new(output.stdout)))
}

/// The source of an existing vault's passphrase; asks when somebody is there to ask.
///
/// # Errors
/// The terminal's, or that there is nobody to ask.
pub fn unlock_source(vault: &Path) -> io::Result<UnlockSource> {
    if let Some(source) = found_source(vault)? {
        return Ok(source);
    }
    let passphrase = ask_passphrase("Passphrase of this node's keys: ")?;
    Ok(UnlockSource::Passphrase(Passphrase::new(passphrase)))
}

/// Asks for a passphrase without showing it.
///
/// # Errors
/// The terminal's, or that there is none.
pub fn ask_passphrase(prompt: &str) -> io::Result<String> {
    if !io::stdin().is_terminal() {
        let reason = format!(
            "a passphrase is needed and there is no terminal to ask for it; set {PASSPHRASE_VARIABLE}"
        );
        return Err(io::Error::new(io::ErrorKind::NotConnected, reason));
    }
    let mut terminal = io::stderr();
    terminal.write_all(prompt.as_bytes())?;
    terminal.flush()?;
    let _quiet = Quiet::begin();
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    terminal.write_all(b"\n")?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Switches the terminal's echo off until it is dropped.
struct Quiet;

impl Quiet {
    fn begin() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        stty("echo");
    }
}

/// Best effort: where there is no `stty`, what is typed shows.
fn stty(argument: &str) {
    let _ = Command::new("stty").arg(argument).stderr(Stdio::null()).status();
}

//! Where the vault's passphrase comes from: systemd, the environment, a key file, or a person.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use openledger_vault::{Passphrase, UnlockSource};

/// Variable with the passphrase of the vault.
pub const PASSPHRASE_VARIABLE: &str = "OPENLEDGER_PASSPHRASE";

/// The source of an existing vault's passphrase; asks when somebody is there to ask.
///
/// # Errors
/// The terminal's, or that there is nobody to ask.
pub fn unlock_source(vault: &Path) -> io::Result<UnlockSource> {
    if let Some(source) = UnlockSource::detect(vault, PASSPHRASE_VARIABLE) {
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

//! A local chain for tests and devnets: Foundry's anvil as a child process.
//!
//! It listens on loopback only, keeps nothing on disk, and ends with the handle. Never meant for
//! anything that has worth.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use alloy::providers::Provider;
use alloy_primitives::hex;
use openledger_wire::SettlementKey;
use thiserror::Error;

use crate::error::ChainError;
use crate::limits::{ANVIL_LINES_MAX, ANVIL_START};
use crate::rpc::Rpc;

/// Names the binary, before any other place is looked at.
const VARIABLE: &str = "OPENLEDGER_ANVIL";
/// Where `npm ci` puts it.
const INSTALLED: &str = "contracts/solidity/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil";

/// Why a local chain did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AnvilError {
    /// The binary is not there.
    #[error(
        "find anvil: {tried} does not exist; run `npm ci` in contracts/solidity, or name the binary in {VARIABLE}"
    )]
    NotFound {
        /// The path that was looked at last.
        tried: String,
    },
    /// The process could not be started.
    #[error("start {path}: {source}")]
    Spawn {
        /// The binary.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It ended before it listened.
    #[error("start anvil: it ended before it listened: {last}")]
    Ended {
        /// Its last words.
        last: String,
    },
    /// It did not listen in time.
    #[error("start anvil: it does not listen after {waited:?}; is the machine overloaded?")]
    Slow {
        /// How long it was waited for.
        waited: Duration,
    },
    /// It printed something unexpected.
    #[error("start anvil: {line:?} is not what this version expects; use anvil 1.7")]
    Output {
        /// The line.
        line: String,
    },
}

/// Finds the binary: `OPENLEDGER_ANVIL`, else the one that `npm ci` installs, looked for from the
/// current folder upwards.
pub fn find_anvil() -> Result<PathBuf, AnvilError> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { Err(not_found(&path)) };
    }
    let start = std::env::current_dir().unwrap_or_default();
    start
        .ancestors()
        .map(|folder| folder.join(INSTALLED))
        .find(|path| path.is_file())
        .ok_or_else(|| not_found(Path::new(INSTALLED)))
}

fn not_found(path: &Path) -> AnvilError {
    AnvilError::NotFound { tried: path.display().to_string() }
}

/// How to run a local chain.
#[derive(Clone, Debug)]
pub struct AnvilOptions {
    /// The binary; see [`find_anvil`].
    pub binary: PathBuf,
    /// EIP-155 id: one of the local ones, else the contracts want long windows.
    pub chain_id: u64,
    /// Port on loopback; 0 lets the system choose.
    pub port: u16,
    /// Seconds between blocks; `None` makes a block per transaction.
    pub block_time: Option<Duration>,
    /// Accounts that start with a balance.
    pub accounts: u8,
}

impl AnvilOptions {
    /// A block per transaction, chain 31337, a free port, ten accounts.
    #[must_use]
    pub fn new(binary: PathBuf) -> Self {
        Self { binary, chain_id: 31337, port: 0, block_time: None, accounts: 10 }
    }
}

/// A running local chain; it is killed when this is dropped.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    url: String,
    chain_id: u64,
    keys: Vec<SettlementKey>,
}

impl Anvil {
    /// Starts it and waits until it listens. Blocks for about a second.
    pub fn start(options: &AnvilOptions) -> Result<Self, AnvilError> {
        let mut command = Command::new(&options.binary);
        command
            .args(["--host", "127.0.0.1", "--port"])
            .arg(options.port.to_string())
            .arg("--chain-id")
            .arg(options.chain_id.to_string())
            .arg("--accounts")
            .arg(options.accounts.to_string())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(time) = options.block_time {
            command.arg("--block-time").arg(time.as_secs_f64().to_string());
        }
        let path = options.binary.display().to_string();
        let child = command.spawn().map_err(|source| AnvilError::Spawn { path, source })?;
        // From here on the handle owns the process, so that every way out ends it.
        let mut anvil =
            Self { child, url: String::new(), chain_id: options.chain_id, keys: Vec::new() };
        anvil.read_banner()?;
        Ok(anvil)
    }

    fn read_banner(&mut self) -> Result<(), AnvilError> {
        let (sender, lines) = sync_channel(ANVIL_LINES_MAX);
        if let Some(out) = self.child.stdout.take() {
            drain(out, sender.clone());
        }
        if let Some(err) = self.child.stderr.take() {
            drain(err, sender);
        }
        let started = Instant::now();
        let mut last = "it said nothing".to_owned();
        loop {
            let left = ANVIL_START.saturating_sub(started.elapsed());
            let line = next_line(&lines, left, &last)?;
            if let Some(address) = line.strip_prefix("Listening on ") {
                self.url = format!("http://{}", address.trim());
                return Ok(());
            }
            if let Some((_, digits)) =
                line.split_once("0x").filter(|(_, digits)| digits.trim().len() == 64)
            {
                self.keys.push(read_key(digits.trim(), &line)?);
            }
            if !line.trim().is_empty() {
                last = line;
            }
        }
    }

    /// Its JSON-RPC URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// EIP-155 id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The keys of the accounts that start with 10,000 of the native currency. Everybody knows them.
    #[must_use]
    pub fn keys(&self) -> &[SettlementKey] {
        &self.keys
    }

    /// Sets the chain's clock forward and makes a block.
    pub async fn advance(&self, by: Duration) -> Result<(), ChainError> {
        let rpc = Rpc::new(std::slice::from_ref(&self.url), Some(self.chain_id))?;
        let what = "advance the local chain's clock";
        // A repeated step would only move the clock further, which no window minds.
        let _: serde_json::Value = rpc
            .run(what, None, |p| async move {
                p.raw_request("evm_increaseTime".into(), (by.as_secs(),)).await
            })
            .await?;
        let _: serde_json::Value = rpc
            .run(what, None, |p| async move { p.raw_request("evm_mine".into(), ()).await })
            .await?;
        Ok(())
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, but still something to reap.
        if let Err(error) = self.child.kill() {
            tracing::debug!(%error, "anvil was already gone");
        }
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "could not wait for anvil");
        }
    }
}

/// Reads a stream to its end on a thread of its own, so that the child never blocks on a full pipe.
fn drain(stream: impl Read + Send + 'static, lines: SyncSender<String>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
            // Nobody listens once the chain is up; the reading goes on all the same.
            if let Err(error) =
                lines.try_send(String::from_utf8_lossy(&bytes).trim_end().to_owned())
            {
                tracing::trace!(%error, "anvil's output is not kept");
            }
            bytes.clear();
        }
    });
}

fn next_line(lines: &Receiver<String>, left: Duration, last: &str) -> Result<String, AnvilError> {
    lines.recv_timeout(left).map_err(|error| match error {
        RecvTimeoutError::Timeout => AnvilError::Slow { waited: ANVIL_START },
        RecvTimeoutError::Disconnected => AnvilError::Ended { last: last.to_owned() },
    })
}

fn read_key(digits: &str, line: &str) -> Result<SettlementKey, AnvilError> {
    let mut secret = [0u8; 32];
    hex::decode_to_slice(digits, &mut secret)
        .ok()
        .and_then(|()| SettlementKey::from_secret(&secret).ok())
        .ok_or_else(|| AnvilError::Output { line: line.to_owned() })
}

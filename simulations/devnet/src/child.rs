//! One process of the network: started with its standard input held open, logged to a file, and
//! ended by closing that input.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::limits;

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Spawn {
    /// Its name in messages and of its log file.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables on top of the inherited ones.
    pub variables: Vec<(String, OsString)>,
}

impl Spawn {
    /// A process of a program.
    #[must_use]
    pub fn new(name: impl Into<String>, program: &Path) -> Self {
        let (arguments, variables) = (Vec::new(), Vec::new());
        Self { name: name.into(), program: program.to_owned(), arguments, variables }
    }

    /// With another argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        // What the devnet's owner configured for a node or coordinator of their own is not meant
        // for these; and loopback is not asked for through a proxy.
        for name in std::env::vars_os().map(|(name, _)| name) {
            if name.to_str().is_some_and(|name| name.starts_with("OPENLEDGER_")) {
                command.env_remove(name);
            }
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command.env("NO_PROXY", "*").env("no_proxy", "*");
        command
    }

    /// Runs the command to its end; gives its standard output.
    ///
    /// # Errors
    /// Its words on standard error.
    pub async fn output(&self) -> anyhow::Result<String> {
        let mut command = self.command();
        // Nobody waits for it any more when this is dropped. A started process, in contrast, ends by
        // itself when its input does, and in order.
        command.stdin(Stdio::null()).kill_on_drop(true);
        let run = timeout(limits::COMMAND_TIME_MAX, command.output()).await;
        let name = &self.name;
        let run = run.with_context(|| format!("run {name}: it does not end"))?;
        let run = run.with_context(|| format!("run {name} ({})", self.program.display()))?;
        if !run.status.success() {
            let words = String::from_utf8_lossy(&run.stderr);
            let shown: Vec<&str> = words.lines().rev().take(limits::LOG_LINES_SHOWN).collect();
            let shown: Vec<&str> = shown.into_iter().rev().collect();
            bail!("run {name}: it ended with {}: {}", run.status, shown.join("\n"));
        }
        String::from_utf8(run.stdout).with_context(|| format!("read what {name} says"))
    }

    /// Starts the process; its words go to a file in `logs`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, logs: &Path) -> anyhow::Result<Child> {
        let log = logs.join(format!("{}.log", self.name));
        let mut command = self.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(append(&log)?)
            // Ctrl-C is for the devnet, which then ends the others in order.
            .process_group(0);
        let mut process = command
            .spawn()
            .with_context(|| format!("start {} ({})", self.name, self.program.display()))?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let output = output.map(BufReader::new);
        let (spawn, logs) = (self.clone(), logs.to_owned());
        Ok(Child { spawn, logs, log, process, input, output })
    }
}

/// A running process.
#[derive(Debug)]
pub struct Child {
    spawn: Spawn,
    logs: PathBuf,
    log: PathBuf,
    process: Process,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Child {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spawn.name
    }

    /// Its process number, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Kills it as a power cut would: it learns nothing of it. Comes back when it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await.with_context(|| format!("kill {}", self.name()))
    }

    /// Waits until it has ended by itself.
    pub async fn wait(&mut self) {
        // A process that cannot be waited for is not there.
        let _ = self.process.wait().await;
    }

    /// Starts it again as it was started, after it has ended; its output is to be read anew.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        *self = self.spawn.start(&self.logs)?;
        Ok(())
    }

    /// Reads lines of its standard output until one is what is looked for; later ones go to its
    /// log.
    ///
    /// # Errors
    /// When it ends before, or takes too long, with the last words of its log.
    pub async fn wait_for<T>(
        &mut self,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let Some(mut output) = self.output.take() else {
            bail!("wait for {}: its output is read already", self.name());
        };
        let mut seen = Vec::new();
        let found = async {
            let mut line = String::new();
            loop {
                line.clear();
                if output.read_line(&mut line).await? == 0 {
                    return Ok::<_, std::io::Error>(None);
                }
                seen.extend_from_slice(line.as_bytes());
                if let Some(found) = wanted(line.trim_end()) {
                    return Ok(Some(found));
                }
            }
        };
        let found = timeout(limits::READY_TIME_MAX, found).await;
        let mut log = tokio::fs::File::from_std(append(&self.log)?);
        log.write_all(&seen).await.context("write a log")?;
        match found {
            Ok(Ok(Some(found))) => {
                tokio::spawn(async move {
                    // What a process says after it is ready is of use in its log only.
                    let _ = tokio::io::copy(&mut output, &mut log).await;
                });
                Ok(found)
            }
            Ok(Ok(None)) => bail!("start {}: it ended at once: {}", self.name(), self.last_words()),
            Ok(Err(error)) => Err(error).with_context(|| format!("read what {} says", self.name())),
            Err(_) => bail!("start {}: it does not get ready: {}", self.name(), self.last_words()),
        }
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// The last words of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait().context("watch a process")? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", self.name(), self.last_words()),
        }
    }

    /// Asks it to end, by closing its standard input.
    pub fn release(&mut self) {
        drop(self.input.take());
    }

    /// Waits until it has ended; kills it if that takes too long.
    pub async fn reap(mut self) {
        self.release();
        if timeout(limits::STOP_TIME_MAX, self.process.wait()).await.is_err() {
            // It may have ended in between.
            let _ = self.process.kill().await;
        }
    }

    /// Everything in its log, of earlier processes of its name too.
    #[must_use]
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn last_words(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().rev().take(limits::LOG_LINES_SHOWN).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        if lines.is_empty() {
            return format!("it said nothing; see {}", self.log.display());
        }
        format!("\n{}\n(all of it: {})", lines.join("\n"), self.log.display())
    }
}

fn append(log: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(log);
    file.with_context(|| format!("write the log {}", log.display()))
}

//! The built program as a running node, and as the commands that talk to it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use openledger_wire::NodeId;
use serde_json::Value;

/// How long something may take that is waited for.
const TIME: Duration = Duration::from_secs(60);

/// A node that ends with the test.
pub(crate) struct NodeProcess {
    child: Child,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl NodeProcess {
    /// Starts a node and waits until it is ready.
    pub(crate) fn up(data: &Path, arguments: &[&str]) -> Self {
        let up = ["--json", "up", "--accept", "--exit-with-parent", "--bind", "127.0.0.1"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_openledger"))
            .args(up)
            .args(arguments)
            .env_clear()
            .env("OPENLEDGER_DATA", data)
            .env("OPENLEDGER_NODE_NETWORK__MDNS", "false")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if !line.contains("\"ready\"") {
            let mut error = line;
            let _ = child.stderr.take().unwrap().read_to_string(&mut error);
            panic!("the node did not start: {error}");
        }
        let ready = serde_json::from_str(&line).unwrap();
        Self { child, ready }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.ready["node"].as_str().unwrap().parse().unwrap()
    }

    /// Ends the process as a crash of the machine would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn ended(mut self) {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < TIME, "the node does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Runs a command of the program with this data folder.
pub(crate) fn command(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(arguments)
        .env_clear()
        .env("OPENLEDGER_DATA", data)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a command printed, all of it.
pub(crate) fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

/// The JSON that a command gives.
pub(crate) fn json(data: &Path, arguments: &[&str]) -> Value {
    let output = command(data, &[&["--json"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIME, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! A node whose disk runs full: it says so, takes no work, and goes on by itself once there is room.
//!
//! The data folder is a real file system of limited size, in a mount namespace of its own; where
//! none is to be had, as in some containers, the tests say so and end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::doctor::plant::Plant;
use crate::process;

const TIME: Duration = Duration::from_secs(60);
/// Fills whatever is there; ends when nothing more fits.
const FILL: &str = "dd if=/dev/zero bs=64k of=\"$OPENLEDGER_DATA/ballast\" 2>/dev/null || true";

/// A node on a small disk; it ends with the test, and the disk with it.
struct OnSmallDisk {
    child: Child,
    data: PathBuf,
    said: PathBuf,
    _elsewhere: tempfile::TempDir,
}

impl OnSmallDisk {
    /// Puts the planted folder on a small disk, does something else, and starts the node.
    fn up(plant: &Plant, before: &str) -> Option<Self> {
        let elsewhere = tempfile::tempdir().unwrap();
        let said = elsewhere.path().join("said");
        let script = format!(
            "set -e; cp -a \"$OPENLEDGER_DATA\" \"$OPENLEDGER_DATA.copy\"; \
             mount -t tmpfs -o size=96m,mode=700 tmpfs \"$OPENLEDGER_DATA\"; \
             cp -a \"$OPENLEDGER_DATA.copy/.\" \"$OPENLEDGER_DATA\"; rm -r \"$OPENLEDGER_DATA.copy\"; \
             {before}; exec \"$0\" --json up --accept --exit-with-parent --bind 127.0.0.1"
        );
        let in_namespace = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["-rm", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_openledger"));
            command.env("OPENLEDGER_DATA", plant.data());
            command
        };
        let possible = in_namespace("mount -t tmpfs tmpfs /mnt").output();
        if !possible.is_ok_and(|output| output.status.success()) {
            eprintln!("no mount namespace to be had: no disk was filled");
            return None;
        }
        let file = File::create(&said).unwrap();
        let child = in_namespace(&script)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        // The process has its own view of the same path.
        let root = PathBuf::from(format!("/proc/{}/root", child.id()));
        let data = root.join(plant.data().strip_prefix("/").unwrap());
        Some(Self { child, data, said, _elsewhere: elsewhere })
    }

    fn until_said(&self, words: &str) {
        let start = Instant::now();
        while !self.said().contains(words) {
            assert!(start.elapsed() < TIME, "it does not say {words:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// What `openledger status` warns of.
    fn warnings(&self) -> String {
        process::json(&self.data, &["status"])["warnings"].to_string()
    }

    fn sh(&self, script: &str) {
        let status = Command::new("sh")
            .args(["-c", script])
            .env("OPENLEDGER_DATA", &self.data)
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn until_warned(&self, wanted: bool) {
        let start = Instant::now();
        while self.warnings().contains("the disk is full") != wanted {
            assert!(start.elapsed() < TIME, "status warns: {}", self.warnings());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks it to stop; it must end well.
    fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
    }
}

impl Drop for OnSmallDisk {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn empty(data: &Path) {
    std::fs::remove_file(data.join("ballast")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_names_a_full_disk_and_goes_on_when_there_is_room() {
    let plant = Plant::healthy().await;
    let Some(mut node) = OnSmallDisk::up(&plant, "true") else { return };
    node.until_said("\"ready\"");
    node.until_warned(false);
    for _ in 0..2 {
        node.sh(FILL);
        node.until_said("the disk is full");
        node.until_warned(true);
        let warnings = node.warnings();
        assert!(warnings.contains("0 MiB free") && warnings.contains("free some space"));
        empty(&node.data);
        node.until_warned(false);
    }
    assert!(node.said().contains("there is room again"), "{}", node.said());
    assert!(node.child.try_wait().unwrap().is_none(), "{}", node.said());
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_on_a_full_disk_waits_for_room() {
    let plant = Plant::healthy().await;
    // Nobody agreed to anything yet, and there is no identity.
    let first =
        format!("rm -rf \"$OPENLEDGER_DATA/identity\" \"$OPENLEDGER_DATA/consent.json\"; {FILL}");
    let Some(mut node) = OnSmallDisk::up(&plant, &first) else { return };
    node.until_said("the node waits: the disk is full");
    assert!(node.child.try_wait().unwrap().is_none(), "{}", node.said());
    assert!(!node.data.join("consent.json").exists());
    empty(&node.data);
    node.until_said("\"ready\"");
    assert!(node.said().contains("a new account was created"), "{}", node.said());
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_a_full_disk_keeps_from_running_waits_for_room() {
    let plant = Plant::healthy().await;
    // What the first start asks and notes is there.
    process::NodeProcess::up(&plant.data(), &[]).kill();
    let Some(mut node) = OnSmallDisk::up(&plant, FILL) else { return };
    node.until_said("the disk is full");
    assert!(node.child.try_wait().unwrap().is_none(), "{}", node.said());
    empty(&node.data);
    node.until_said("\"ready\"");
    assert!(node.said().contains("the node starts again"), "{}", node.said());
    node.until_warned(false);
    node.stop();

    // Who does not want to wait stops it.
    let Some(node) = OnSmallDisk::up(&plant, FILL) else { return };
    node.until_said("the disk is full");
    node.stop();
}

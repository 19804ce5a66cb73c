//! A coordinator whose disk runs full: it says so, waits, and goes on with its log once there is room.
//!
//! Its folder is a real file system of limited size, in a mount namespace of its own; where none is
//! to be had, as in some containers, the test says so and ends.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::{PROGRAM, add_campaign, json, profile_for, run};

const TIME: Duration = Duration::from_secs(60);

fn in_namespace(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(PROGRAM).env("FOLDER", folder);
    command.env("OPENLEDGER_COORDINATOR_SETTLEMENT__ENABLED", "false");
    for section in ["LINK__ADDRESS", "HTTP__ADDRESS", "SWARM__BLOBS"] {
        command.env(format!("OPENLEDGER_COORDINATOR_{section}"), "127.0.0.1:0");
    }
    command.env("OPENLEDGER_COORDINATOR_SWARM__ADDRESS", "127.0.0.1");
    command.env("OPENLEDGER_COORDINATOR_SWARM__PORT", "0");
    command
}

fn prepare(folder: &Path) {
    let at = |name: &str| folder.join(name).display().to_string();
    let made = json(&["init", "--json", "--dir", folder.to_str().unwrap()]);
    let word = |name: &str| made[name].as_str().unwrap().to_owned();
    let profile = profile_for(&word("node"), &word("settlement"));
    std::fs::write(at("unsigned.toml"), toml::to_string(&profile).unwrap()).unwrap();
    let sign = ["profile", "sign", &at("unsigned.toml"), "--vault", &word("vault")];
    let (ok, text) = run(&[&sign[..], &["--out", &at("network.toml")]].concat());
    assert!(ok, "{text}");
}

fn until(said: &Path, what: &str, holds: impl Fn(&str) -> bool) {
    let start = Instant::now();
    loop {
        let said = std::fs::read_to_string(said).unwrap();
        if holds(&said) {
            return;
        }
        assert!(start.elapsed() < TIME, "waited in vain: {what}: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The API of the last start.
fn api(said: &Path) -> String {
    let said = std::fs::read_to_string(said).unwrap();
    let ready = said.lines().rev().find(|line| line.contains("\"ready\"")).unwrap();
    let ready: Value = serde_json::from_str(ready).unwrap();
    ready["api"].as_str().unwrap().to_owned()
}

fn tasks_open(said: &Path) -> Option<u64> {
    let (ok, text) = run(&["status", "--json", "--api", &api(said)]);
    ok.then(|| serde_json::from_str::<Value>(&text).unwrap()["tasks_open"].as_u64().unwrap())
}

#[test]
fn a_coordinator_waits_while_its_disk_is_full_and_goes_on_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, said) = (dir.path().join("coordinator"), dir.path().join("said"));
    std::fs::create_dir(&folder).unwrap();
    prepare(&folder);
    let possible = in_namespace(&folder, "mount -t tmpfs tmpfs /mnt").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("no mount namespace to be had: no disk was filled");
        return;
    }
    let script = "set -e; cp -a \"$FOLDER\" \"$FOLDER.copy\"; \
        mount -t tmpfs -o size=96m,mode=700 tmpfs \"$FOLDER\"; \
        cp -a \"$FOLDER.copy/.\" \"$FOLDER\"; \
        exec \"$0\" run --json --exit-with-parent --config \"$FOLDER/coordinator.toml\"";
    let file = File::create(&said).unwrap();
    let mut child = in_namespace(&folder, script)
        .stdin(Stdio::piped())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    until(&said, "it is ready", |said| said.contains("\"ready\""));
    // The process has its own view of the same path.
    let root = Path::new("/proc").join(child.id().to_string()).join("root");
    let seen = root.join(folder.strip_prefix("/").unwrap());
    let (token, urls) = (seen.join("operator.token"), dir.path().join("urls.txt"));
    let add = |number: u32| {
        let lines = (0..200).map(|page| format!("http://site{page}.test/{number}\n"));
        std::fs::write(&urls, lines.collect::<String>()).unwrap();
        let (token, urls) = (token.display().to_string(), urls.display().to_string());
        let (api, name) = (api(&said), format!("docs {number}"));
        let mut arguments = add_campaign(&api, &token, &urls);
        for argument in arguments.iter_mut().filter(|argument| **argument == "docs") {
            *argument = &name;
        }
        run(&arguments).0
    };
    assert!(add(0));
    let ballast = seen.join("ballast");
    let fill = format!("dd if=/dev/zero bs=64k of={} 2>/dev/null || true", ballast.display());
    assert!(Command::new("sh").args(["-c", &fill]).status().unwrap().success());
    until(&said, "the full disk is named", |said| said.contains("the disk is full"));
    // What the log cannot hold is not acknowledged.
    let taken = (1..1_000).take_while(|number| add(*number)).count();
    until(&said, "the ledger has ended", |said| said.contains("the core has ended"));
    assert!(child.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(&said).unwrap());
    std::fs::remove_file(&ballast).unwrap();
    until(&said, "it is ready again", |said| said.matches("\"ready\"").count() == 2);
    let tasks = tasks_open(&said).unwrap();
    let acknowledged = (taken as u64 + 1) * 200;
    // The last one may be in the log although nobody was told so.
    assert!([acknowledged, acknowledged + 200].contains(&tasks), "{tasks}, {acknowledged}");
    assert!(add(2_000));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "{}", std::fs::read_to_string(&said).unwrap());
}

//! The command line as people and programs meet it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn openledger(data: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(arguments)
        .env_clear()
        .env("OPENLEDGER_DATA", data)
        .env("OPENLEDGER_EXPORT_PASSPHRASE", "carried by hand")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Commands that read nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn help_and_usage() {
    let folder = tempfile::tempdir().unwrap();
    let help = openledger(folder.path(), &["--help"], "");
    assert!(help.status.success());
    for command in ["up", "status", "receipts", "earnings", "claim", "audit", "identity"] {
        assert!(text(&help).contains(command), "{command} is not in the help");
    }
    assert!(!text(&help).contains("worker"), "workers are not for people");
    let wrong = openledger(folder.path(), &["frobnicate"], "");
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn commands_for_a_running_node_say_that_none_runs() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["status", "pause", "resume", "stop", "finish", "earnings", "claim"] {
        let output = openledger(folder.path(), &[command], "");
        assert_eq!(output.status.code(), Some(3), "{command}: {}", text(&output));
        assert!(text(&output).contains("openledger up"), "{command}: {}", text(&output));
    }
    let output = openledger(folder.path(), &["--json", "status"], "");
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().starts_with("failed to reach the node"));
}

#[test]
fn a_bad_configuration_names_key_file_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), "[work]\nparalel = 2\n").unwrap();
    let output = openledger(folder.path(), &["config", "show"], "");
    assert_eq!(output.status.code(), Some(1));
    for part in ["work.paralel", "config.toml", "config show"] {
        assert!(text(&output).contains(part), "{part}: {}", text(&output));
    }
    assert!(!text(&output).contains("Error {"), "a debug dump: {}", text(&output));
}

#[test]
fn values_are_set_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    json(&openledger(folder.path(), &["--json", "config", "set", "work.parallel", "3"], ""));
    let shown = json(&openledger(folder.path(), &["--json", "config", "show"], ""));
    assert_eq!(shown["work"]["parallel"], 3);
    let wrong = openledger(folder.path(), &["config", "set", "work.parallel", "x"], "");
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(shown, json(&openledger(folder.path(), &["--json", "config", "show"], "")));
}

#[test]
fn keys_of_the_api_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let key = "sk-0123456789abcdef";
    let keys = format!("[{key:?}]");
    let set = openledger(folder.path(), &["--json", "config", "set", "api.keys", &keys], "");
    let shown = openledger(folder.path(), &["config", "show"], "");
    let as_json = openledger(folder.path(), &["--json", "config", "show"], "");
    for output in [&set, &shown, &as_json] {
        assert!(output.status.success() && !text(output).contains(key), "{}", text(output));
        assert!(text(output).contains("hidden, blake3"), "{}", text(output));
    }
    assert_eq!(json(&as_json)["api"]["keys"].as_array().unwrap().len(), 1);
    let kept = std::fs::read_to_string(folder.path().join("config.toml")).unwrap();
    assert!(kept.contains(key), "{kept}");
}

#[test]
fn an_identity_moves_with_its_words_and_with_its_file() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, third] = folders.each_ref().map(tempfile::TempDir::path);
    let created = json(&openledger(first, &["--json", "identity", "create", "--unattended"], ""));
    let shown = json(&openledger(first, &["--json", "identity", "show"], ""));
    assert_eq!(created, shown);
    let words = json(&openledger(first, &["--json", "identity", "words"], ""));
    let words = words["words"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 24);

    let restored =
        json(&openledger(second, &["--json", "identity", "restore", "--unattended"], words));
    for same in ["account", "owner", "default_payout"] {
        assert_eq!(restored[same], created[same], "{same}");
    }
    assert_ne!(restored["node"], created["node"], "another machine is another node");

    let file = first.join("keys");
    let file = file.to_str().unwrap();
    json(&openledger(first, &["--json", "identity", "export", file], ""));
    let imported = json(&openledger(third, &["--json", "identity", "import", file], ""));
    assert_eq!(imported, created);

    json(&openledger(third, &["--json", "identity", "words", "--remove"], ""));
    let output = openledger(third, &["identity", "words"], "");
    assert!(text(&output).contains("identity restore"), "{}", text(&output));
    let again = json(&openledger(third, &["--json", "identity", "restore"], words));
    assert_eq!(again, created);
    let rotated = json(&openledger(third, &["--json", "identity", "rotate"], ""));
    assert_eq!(rotated["account"], created["account"]);
    assert_ne!(rotated["node"], created["node"]);
}

#[test]
fn an_identity_is_not_overwritten_and_wrong_words_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let none = openledger(data, &["identity", "show"], "");
    assert!(text(&none).contains("openledger up"), "{}", text(&none));
    let wrong = openledger(data, &["identity", "restore"], "abandon abandon");
    assert!(text(&wrong).contains("24 words"), "{}", text(&wrong));
    json(&openledger(data, &["--json", "identity", "create", "--unattended"], ""));
    let again = openledger(data, &["identity", "create", "--unattended"], "");
    assert_eq!(again.status.code(), Some(1));
    let other = format!("{}art", "abandon ".repeat(23));
    let other = openledger(data, &["identity", "restore"], &other);
    assert!(text(&other).contains("another --data-dir"), "{}", text(&other));
}

#[test]
fn starting_needs_consent_and_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let output = openledger(data, &["up"], "");
    assert_eq!(output.status.code(), Some(1));
    for part in ["This node will use", "processor", "disk", "--accept"] {
        assert!(text(&output).contains(part), "{part}: {}", text(&output));
    }
    let output = openledger(data, &["up", "--accept"], "");
    assert!(text(&output).contains("--network FILE"), "{}", text(&output));
    let output = openledger(data, &["up", "--network", "nowhere"], "");
    assert!(text(&output).contains("\"nowhere\""), "{}", text(&output));
    let output = openledger(data, &["audit", "--network", "nowhere"], "");
    assert_eq!(output.status.code(), Some(1));
}

//! Where the passphrase of the keys may come from, how it changes, and how keys are revoked.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use openledger_wire::Envelope;
use openledger_wire::identity::Revocation;
use serde_json::Value;

use crate::coordinator::Coordinator;
use crate::process::text;

/// Runs a command with these variables alone.
fn with(data: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_openledger"))
        .arg("--json")
        .args(arguments)
        .env_clear()
        .env("OPENLEDGER_DATA", data)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn works(data: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Value {
    let output = with(data, variables, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fails(data: &Path, variables: &[(&str, &str)], arguments: &[&str], part: &str) {
    let output = with(data, variables, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
    assert!(text(&output).contains(part), "{part}: {}", text(&output));
}

#[test]
fn an_unattended_passphrase_comes_from_systemd_a_file_a_command_or_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let credentials = path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(format!("{credentials}/openledger-passphrase"), "correct horse\n").unwrap();
    let file = path("passphrase");
    std::fs::write(&file, "correct horse\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let command = format!("cat '{file}'");

    let data = folder.path().join("data");
    let systemd = [("CREDENTIALS_DIRECTORY", credentials.as_str())];
    works(&data, &systemd, &["identity", "create", "--unattended"]);
    assert!(!data.join("identity/vault.key").exists(), "no key lies beside the vault");
    let words = works(&data, &systemd, &["identity", "words"]);
    for variables in [
        [("OPENLEDGER_PASSPHRASE_FILE", file.as_str())],
        [("OPENLEDGER_PASSPHRASE_COMMAND", command.as_str())],
        [("OPENLEDGER_PASSPHRASE", "correct horse")],
    ] {
        assert_eq!(works(&data, &variables, &["identity", "words"]), words, "{variables:?}");
    }
    let words = ["identity", "words"];
    fails(&data, &[], &words, "a passphrase is needed");
    fails(&data, &[("OPENLEDGER_PASSPHRASE", "wrong horse")], &words, "passphrase");
    fails(&data, &[("OPENLEDGER_PASSPHRASE_COMMAND", "exit 3")], &words, "exit status: 3");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    fails(&data, &[("OPENLEDGER_PASSPHRASE_FILE", &file)], &words, "passphrase");
}

#[test]
fn a_passphrase_is_changed_and_the_former_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let words = ["identity", "words"];
    works(data, &[], &["identity", "create", "--unattended"]);
    let same = works(data, &[], &words);
    let new = [("OPENLEDGER_NEW_PASSPHRASE", "battery staple")];
    works(data, &new, &["identity", "passphrase"]);
    assert!(!data.join("identity/vault.key").exists(), "the key file is of no use any more");
    let by_hand = [("OPENLEDGER_PASSPHRASE", "battery staple")];
    assert_eq!(works(data, &by_hand, &words), same);
    fails(
        data,
        &[("OPENLEDGER_NEW_PASSPHRASE", "short"), by_hand[0]],
        &["identity", "passphrase"],
        "8",
    );
    works(data, &by_hand, &["identity", "passphrase", "--unattended"]);
    assert_eq!(works(data, &[], &words), same, "a key file again");
    fails(data, &by_hand, &words, "passphrase");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_and_lost_keys_are_revoked_in_every_network() {
    let coordinators = [
        Coordinator::start("one", 43, Default::default()).await,
        Coordinator::start("two", 44, Default::default()).await,
    ];
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    works(&data, &[], &["identity", "create", "--unattended"]);
    fails(&data, &[], &["identity", "revoke"], "joined no network yet");
    for one in &coordinators {
        let file = folder.path().join("profile.toml");
        one.publish(&file);
        works(&data, &[], &["network", "add", file.to_str().unwrap()]);
    }
    let before = works(&data, &[], &["identity", "show"]);
    let after = works(&data, &[], &["identity", "rotate"]);
    assert_ne!(before["node"], after["node"]);
    let lost = "ab".repeat(32);
    let revoked = works(&data, &[], &["identity", "revoke", &lost]);
    assert_eq!(revoked["networks"], serde_json::json!(["one", "two"]));
    for one in &coordinators {
        let outgoing = data.join("networks").join(&*one.profile.name).join("outgoing");
        let mut nodes: Vec<String> = std::fs::read_dir(outgoing)
            .unwrap()
            .map(|file| {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                let envelope = Envelope::from_bytes(&bytes).unwrap();
                envelope.open::<Revocation>(one.network()).unwrap().value.node.to_string()
            })
            .collect();
        nodes.sort();
        let mut wanted = vec![before["node"].as_str().unwrap().to_owned(), lost.clone()];
        wanted.sort();
        assert_eq!(nodes, wanted, "in {}, for that network only", one.profile.name);
    }
}

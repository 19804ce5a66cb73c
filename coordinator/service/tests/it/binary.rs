//! The program as an operator uses it: init, sign, run, status, campaign, and a restart after a
//! kill.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_service::clock;
use openledger_wire::profile::Profile;
use openledger_wire::{List, Text};
use serde_json::Value;

use crate::network::Network;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_openledger-coordinator");

pub(crate) fn run(args: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub(crate) fn json(args: &[&str]) -> Value {
    let (ok, text) = run(args);
    assert!(ok, "{args:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
}

/// Starts the coordinator; returns when it says that it runs.
fn start(config: &Path) -> (Child, Value) {
    let mut child = Command::new(PROGRAM)
        .args(["run", "--json", "--exit-with-parent", "--config"])
        .arg(config)
        .env("OPENLEDGER_COORDINATOR_SETTLEMENT__ENABLED", "false")
        .env("OPENLEDGER_COORDINATOR_SWARM__ENABLED", "false")
        .env("OPENLEDGER_COORDINATOR_LINK__ADDRESS", "127.0.0.1:0")
        .env("OPENLEDGER_COORDINATOR_HTTP__ADDRESS", "127.0.0.1:0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    (child, ready)
}

pub(crate) fn profile_for(node: &str, settlement: &str) -> Profile {
    let rules = RuleSet::devnet_v4(PROFILE_V1.profile_id());
    let mut profile = Network::new(&[]).profile;
    profile.rule_set = rules.id().unwrap();
    profile.rule_set_name = rules.name;
    profile.genesis = clock::now();
    profile.coordinator.node = node.parse().unwrap();
    profile.coordinator.settlement = settlement.parse().unwrap();
    profile.coordinator.api = Text::clipped("http://127.0.0.1");
    profile.bootstrap = List::default();
    profile
}

/// Inference work, which a coordinator without blobs does not take.
const ANSWERS: &str = r#"
    name = "answers"
    contact = "abuse@a.test"
    terms = "CC0"
    budget = 1000
    [[infer]]
    model = "00000000000000000000000000000000000000000000000000000000000000aa"
    prompts = ["What is a harbour?", { messages = [{ role = "user", content = "Hi" }] }]
    tokens_max = 8
"#;

pub(crate) fn add_campaign<'a>(api: &'a str, token: &'a str, urls: &'a str) -> Vec<&'a str> {
    let mut args = vec!["campaign", "add", "--json", "--api", api, "--token-file", token];
    args.extend(["--urls", urls, "--name", "docs", "--contact", "abuse@a.test"]);
    args.extend(["--budget", "1000"]);
    args
}

#[test]
fn an_operator_gets_from_nothing_to_a_funded_campaign_and_through_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let folder = dir.path().display().to_string();
    let made = json(&["init", "--json", "--dir", &folder]);
    assert_eq!(json(&["init", "--json", "--dir", &folder])["node"], made["node"], "made once");
    let config = dir.path().join("coordinator.toml");
    let (ok, text) = run(&["run", "--config", config.to_str().unwrap()]);
    assert!(!ok && text.contains("network.toml"), "{text}");

    assert_eq!(made["rule_set_name"], "main-4");
    let word = |name: &str| made[name].as_str().unwrap().to_owned();
    let profile = profile_for(&word("node"), &word("settlement"));
    std::fs::write(at("unsigned.toml"), toml::to_string(&profile).unwrap()).unwrap();
    let sign = ["profile", "sign", &at("unsigned.toml"), "--vault", &word("vault")];
    let (ok, text) = run(&[&sign[..], &["--out", &at("network.toml")]].concat());
    assert!(ok, "{text}");
    Profile::open(&std::fs::read_to_string(at("network.toml")).unwrap()).unwrap();

    let (mut child, ready) = start(&config);
    let api = ready["api"].as_str().unwrap().to_owned();
    std::fs::write(at("urls.txt"), "# pages\nhttp://a.test/1\n\nhttp://a.test/2\n").unwrap();
    let token = at("operator.token");
    let urls = at("urls.txt");
    assert_eq!(json(&add_campaign(&api, &token, &urls))["tasks"], 2);
    let file = at("answers.toml");
    std::fs::write(&file, ANSWERS).unwrap();
    let (ok, text) =
        run(&["campaign", "add", &file, "--json", "--api", &api, "--token-file", &token]);
    assert!(!ok && text.contains("no-store") && text.contains("swarm.enabled"), "{text}");
    let before = json(&["status", "--json", "--api", &api]);
    let out = at("documents.jsonl");
    let export = ["documents", "--json", "--api", &api, "--out", &out, "--campaign"];
    let exported = json(&[&export[..], &["docs"]].concat());
    assert_eq!((&exported["documents"], exported["file"].as_str()), (&0.into(), Some(&*out)));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "", "nothing was refined yet");
    let (ok, text) = run(&[&export[..], &["manuals"]].concat());
    assert!(!ok && text.contains("manuals") && text.contains("/api/v1/campaigns"), "{text}");
    let wrong = at("wrong.token");
    std::fs::write(&wrong, "a-token-of-somebody-else\n").unwrap();
    let (ok, text) = run(&add_campaign(&api, &wrong, &urls));
    assert!(!ok && text.contains("unauthorized"), "{text}");

    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, ready) = start(&config);
    let api = ready["api"].as_str().unwrap().to_owned();
    let after = json(&["status", "--json", "--api", &api]);
    assert!(after["height"].as_u64() >= before["height"].as_u64(), "{before} then {after}");
    assert_eq!(after["tasks_open"], 2, "{after}");
    // The parent's end of standard input is closed: the program stops by itself.
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let (ok, text) = run(&["status", "--api", &api]);
    assert!(!ok && text.contains("check that it runs"), "{text}");
}

#[test]
fn a_bad_configuration_is_named_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("coordinator.toml");
    std::fs::write(&config, "data_dir = '.'\nnetwork = 'n'\n[link]\nadress = '1'\n").unwrap();
    let (ok, text) = run(&["run", "--config", config.to_str().unwrap()]);
    assert!(!ok && text.contains("adress") && text.contains("correct it"), "{text}");
    let (ok, text) = run(&["run", "--config", "/nonexistent/file"]);
    assert!(!ok && text.contains("/nonexistent/file") && text.contains("check the path"), "{text}");
}

//! `init` and `profile sign`: what an operator does once.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_wire::profile::Profile;
use serde_json::json;

use super::{InitArgs, print};
use crate::config::{self, Config};
use crate::keys::Keys;

pub(super) fn init(args: &InitArgs) -> anyhow::Result<()> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("make the folder {}", dir.display()))?;
    let (vault, config) = (dir.join("keys.vault"), dir.join("coordinator.toml"));
    let is_new = !vault.exists();
    let keys = if is_new { Keys::create(&vault) } else { Keys::open(&vault) }?;
    if !config.exists() {
        write_new(&config, Config::template())?;
    }
    let rules = RuleSet::main_v4(PROFILE_V1.profile_id());
    let answer = json!({
        "node": keys.node.public(),
        "settlement": format!("0x{}", keys.settlement.address()),
        "config": config.display().to_string(),
        "vault": vault.display().to_string(),
        "rule_set": rules.id()?,
        "rule_set_name": &*rules.name,
        "new": is_new,
    });
    print(&answer, args.json)?;
    if !args.json {
        let next = "next: put node and settlement into the profile's [coordinator], rule_set and \
                    rule_set_name into the profile, sign it with openledger-coordinator profile \
                    sign, and start with run --config";
        writeln!(std::io::stdout().lock(), "{next}").context("print the answer")?;
    }
    Ok(())
}

pub(super) fn sign_profile(file: &Path, vault: &Path, out: Option<&Path>) -> anyhow::Result<()> {
    let text = config::read_bounded(file, openledger_wire::limits::PROFILE_MAX as u64)?;
    let profile: Profile =
        toml::from_str(&text).with_context(|| format!("read the profile {}", file.display()))?;
    let keys = Keys::open(vault)?;
    if profile.coordinator.node != keys.node.public() {
        bail!(
            "sign the profile {}: it names coordinator {}, the vault holds {}; correct [coordinator] \
             node",
            file.display(),
            profile.coordinator.node,
            keys.node.public()
        );
    }
    let signed = profile.sign(&keys.node)?;
    // What nodes would refuse is not published.
    Profile::open(&signed)?;
    match out {
        Some(path) => std::fs::write(path, signed)
            .with_context(|| format!("write the signed profile to {}", path.display())),
        None => std::io::stdout().write_all(signed.as_bytes()).context("print the profile"),
    }
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

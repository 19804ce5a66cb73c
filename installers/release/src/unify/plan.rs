//! What Cargo would build, from its unit graph: the features of each foreign crate, for the target
//! and for the host (macros and build scripts) apart.
//!
//! The unit graph is an unstable output, so this runs Cargo with `RUSTC_BOOTSTRAP`. Only the one who
//! changes a dependency runs it; nothing is built by it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A foreign crate on one of the two sides of a build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    /// The package's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it is built for macros and build scripts.
    pub host: bool,
}

/// Features by crate.
pub type Features = BTreeMap<Foreign, BTreeSet<String>>;

#[derive(Deserialize)]
struct Graph {
    units: Vec<Unit>,
}

#[derive(Deserialize)]
struct Unit {
    pkg_id: String,
    target: Target,
    platform: Option<String>,
    features: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// The features of every foreign crate that `cargo build` with these arguments would build.
pub fn read(root: &Path, arguments: &[&str]) -> Result<Features> {
    let output = Command::new("cargo")
        .current_dir(root)
        .env("RUSTC_BOOTSTRAP", "1")
        .arg("build")
        .args(arguments)
        .args(["--offline", "--target", &host_triple()?, "--unit-graph", "-Zunstable-options"])
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        bail!("cargo gave no unit graph: {}", String::from_utf8_lossy(&output.stderr));
    }
    features(&output.stdout)
}

/// Reads a unit graph.
fn features(json: &[u8]) -> Result<Features> {
    let graph: Graph = serde_json::from_slice(json).context("read cargo's unit graph")?;
    let mut found = Features::new();
    for unit in graph.units {
        // A build script has the features of its package, on whichever side that is.
        if unit.pkg_id.starts_with("path+") || unit.target.kind == ["custom-build"] {
            continue;
        }
        let (_, name) = unit.pkg_id.rsplit_once('#').context("a package id without a name")?;
        let (name, version) = name.split_once('@').context("a package id without a version")?;
        let (name, version) = (name.to_owned(), version.to_owned());
        let foreign = Foreign { name, version, host: unit.platform.is_none() };
        found.entry(foreign).or_default().extend(unit.features);
    }
    Ok(found)
}

/// The triple of this machine.
fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc does not say its host")?.to_owned())
}

/// What must be asked for so that each of `alone` has the features of `whole`: every crate that one
/// of them would build with other features, with those of `whole`.
#[must_use]
pub fn differing(whole: &Features, alone: &[Features]) -> Features {
    let differs = |(foreign, features): &(&Foreign, &BTreeSet<String>)| {
        alone.iter().any(|one| one.get(foreign).is_some_and(|found| found != *features))
    };
    whole.iter().filter(differs).map(|(a, b)| (a.clone(), b.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(serde: &str) -> Features {
        let text = format!(
            r#"{{"version":1,"roots":[],"units":[
            {{"pkg_id":"registry+https://a#serde@1.0.1","target":{{"kind":["lib"]}},"platform":"x","features":{serde}}},
            {{"pkg_id":"registry+https://a#serde@1.0.1","target":{{"kind":["custom-build"]}},"platform":null,"features":{serde}}},
            {{"pkg_id":"registry+https://a#syn@2.0.0","target":{{"kind":["lib"]}},"platform":null,"features":["full"]}},
            {{"pkg_id":"path+file:///a#openledger-a@0.1.0","target":{{"kind":["lib"]}},"platform":"x","features":[]}}]}}"#
        );
        features(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_what_differs_is_asked_for() {
        let whole = graph(r#"["derive","std"]"#);
        assert_eq!(whole.len(), 2, "build scripts and our own crates do not count");
        let alone = graph(r#"["std"]"#);
        let asked = differing(&whole, &[whole.clone(), alone]);
        let names: Vec<(&str, bool)> = asked.keys().map(|f| (f.name.as_str(), f.host)).collect();
        assert_eq!(names, [("serde", false)]);
        assert_eq!(asked.values().next().unwrap().len(), 2);
    }

    #[test]
    fn another_output_is_an_error() {
        assert!(features(b"{}").is_err());
    }
}

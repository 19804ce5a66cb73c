//! The proof: after the workspace was built, each crate of ours is built alone, and what foreign is
//! built again is counted. The right answer is nothing.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::arrows::Arrows;

/// What building one crate built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    /// The crate's package.
    pub package: String,
    /// Foreign crates that were there already.
    pub fresh: usize,
    /// Foreign crates that were built again.
    pub rebuilt: Vec<String>,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    fresh: bool,
}

/// Builds the workspace, then each of its crates alone, with and without its tests.
pub fn prove(root: &Path) -> Result<Vec<Alone>> {
    build(root, &["--workspace", "--all-targets"])?;
    let mut all = Vec::new();
    for folder in Arrows::read(root)?.0.0.keys() {
        let name = format!("openledger-{}", folder.rsplit('/').next().unwrap_or(folder));
        for tests in [&["--lib", "--bins"][..], &["--all-targets"]] {
            let arguments = [&["-p", &name], tests].concat();
            let Ok(messages) = build(root, &arguments) else {
                bail!(
                    "{name} does not build alone; try `cargo build -p {name} {}`",
                    tests.join(" ")
                )
            };
            all.push(count(&format!("{name} {}", tests.join(" ")), &messages)?);
        }
    }
    Ok(all)
}

fn build(root: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--locked", "--quiet", "--message-format", "json"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        bail!("cargo build {} failed", arguments.join(" "));
    }
    Ok(output.stdout)
}

fn count(package: &str, messages: &[u8]) -> Result<Alone> {
    let mut alone = Alone { package: package.to_owned(), fresh: 0, rebuilt: Vec::new() };
    for line in messages.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Message = serde_json::from_slice(line).context("read cargo's messages")?;
        if message.reason != "compiler-artifact" || message.package_id.starts_with("path+") {
            continue;
        }
        if message.fresh {
            alone.fresh += 1;
        } else {
            let (_, name) = message.package_id.rsplit_once('#').unwrap_or_default();
            alone.rebuilt.push(name.to_owned());
        }
    }
    Ok(alone)
}

impl fmt::Display for Alone {
    /// One line: `openledger-wire --all-targets: 120 foreign, 0 built again`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, again) = (self.fresh + self.rebuilt.len(), self.rebuilt.len());
        write!(f, "{:<44} {all:>4} foreign, {again} built again", self.package)?;
        if again > 0 {
            write!(f, ": {}", self.rebuilt.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_again_is_named() {
        let messages = br#"{"reason":"compiler-artifact","package_id":"registry+https://a#serde@1.0.1","fresh":true}
{"reason":"compiler-artifact","package_id":"registry+https://a#syn@2.0.0","fresh":false}
{"reason":"compiler-artifact","package_id":"path+file:///a#openledger-a@0.1.0","fresh":false}
{"reason":"build-finished","success":true}
"#;
        let alone = count("openledger-a", messages).unwrap();
        assert_eq!((alone.fresh, alone.rebuilt.as_slice()), (1, &["syn@2.0.0".to_owned()][..]));
        assert!(alone.to_string().ends_with("2 foreign, 1 built again: syn@2.0.0"), "{alone}");
    }
}

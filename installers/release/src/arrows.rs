//! The arrows between crates as `cargo metadata` tells them, and which of them should not be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{MetadataCommand, Package};

use crate::layers::{fence_of, layer_of};

/// The union of features, which every crate asks for.
const UNIFY: &str = "installers/unify";

/// What a crate depends on. Normal, build and test dependencies are all arrows: what a test needs
/// from above comes in through a trait, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Crates of ours, by folder.
    pub ours: BTreeSet<String>,
    /// Foreign packages, by their real names.
    pub foreign: BTreeSet<String>,
}

/// Every crate of the workspace by its folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrows(pub BTreeMap<String, Uses>);

/// A rule that the workspace breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A crate that the table does not know.
    UnknownCrate {
        /// Its folder.
        folder: String,
    },
    /// A crate whose name does not follow its folder.
    Name {
        /// Its folder.
        folder: String,
        /// Its name.
        found: String,
    },
    /// An arrow that the table does not allow.
    Arrow {
        /// From this folder.
        from: String,
        /// To this one.
        to: String,
    },
    /// A foreign library that belongs to other crates.
    Fenced {
        /// Who depends on it.
        from: String,
        /// The library.
        package: String,
        /// Who may.
        by: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCrate { folder } => {
                write!(f, "{folder} is not in the table of crates; add it there with its arrows")
            }
            Self::Name { folder, found } => {
                write!(f, "{folder} is named {found}; name it openledger- and its folder's name")
            }
            Self::Arrow { from, to } => {
                write!(f, "{from} -> {to} is not allowed; take it through a trait instead")
            }
            Self::Fenced { from, package, by } => {
                write!(f, "{from} names {package}, which only {by} may; use that crate instead")
            }
        }
    }
}

impl Arrows {
    /// Reads the workspace at a root: offline, without resolving.
    pub fn read(root: &Path) -> Result<(Self, Vec<Violation>)> {
        let metadata = MetadataCommand::new()
            .current_dir(root)
            .no_deps()
            .other_options(vec!["--offline".to_owned()])
            .exec()
            .context("read the workspace with `cargo metadata`")?;
        let root = metadata.workspace_root.as_std_path();
        let folder_of = |package: &Package| -> Result<String> {
            let folder = package.manifest_path.as_std_path().parent().unwrap_or(root);
            let folder = folder.strip_prefix(root).context("a crate outside the workspace")?;
            Ok(folder.to_string_lossy().replace('\\', "/"))
        };
        let mut folders = BTreeMap::new();
        let mut violations = Vec::new();
        for package in &metadata.packages {
            let folder = folder_of(package)?;
            let name = folder.rsplit('/').next().unwrap_or(&folder);
            if package.name.as_str() != format!("openledger-{name}") {
                let found = package.name.to_string();
                violations.push(Violation::Name { folder: folder.clone(), found });
            }
            folders.insert(package.name.to_string(), folder);
        }
        let mut arrows = Self::default();
        for package in &metadata.packages {
            let uses = arrows.0.entry(folder_of(package)?).or_default();
            for dependency in &package.dependencies {
                match folders.get(&dependency.name) {
                    // It holds no code, only a list of features: that is no arrow.
                    Some(folder) if folder == UNIFY => continue,
                    Some(folder) => uses.ours.insert(folder.clone()),
                    None => uses.foreign.insert(dependency.name.clone()),
                };
            }
        }
        violations.extend(arrows.violations());
        Ok((arrows, violations))
    }

    /// What the table does not allow.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for (from, uses) in &self.0 {
            match layer_of(from) {
                None => found.push(Violation::UnknownCrate { folder: from.clone() }),
                Some(layer) => {
                    let extra = uses.ours.iter().filter(|to| !layer.may_use(to));
                    found.extend(
                        extra.map(|to| Violation::Arrow { from: from.clone(), to: to.clone() }),
                    );
                }
            }
            let name = from.rsplit('/').next().unwrap_or(from);
            // The union of features names what others use; it has no code that could use it.
            let fenced = uses.foreign.iter().filter(|_| from != UNIFY);
            for package in fenced {
                if let Some(fence) = fence_of(package).filter(|fence| !fence.by.contains(&name)) {
                    let (from, package) = (from.clone(), package.clone());
                    found.push(Violation::Fenced { from, package, by: fence.by.join(", ") });
                }
            }
        }
        found
    }
}

impl fmt::Display for Arrows {
    /// One line per crate: `protocols/rules -> wire`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (from, uses) in &self.0 {
            let names = uses.ours.iter().map(|to| to.rsplit('/').next().unwrap_or(to));
            let names: Vec<&str> = names.collect();
            let to = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
            writeln!(f, "{from:<24} -> {to}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(of: &[(&str, &[&str], &[&str])]) -> Arrows {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let uses =
            |ours: &[&str], foreign: &[&str]| Uses { ours: own(ours), foreign: own(foreign) };
        Arrows(of.iter().map(|(from, o, f)| ((*from).to_owned(), uses(o, f))).collect())
    }

    #[test]
    fn allowed_arrows_pass() {
        let house = arrows(&[
            ("protocols/wire", &[], &["alloy-primitives", "serde"]),
            (
                "protocols/swarm",
                &["protocols/wire", "protocols/rules"],
                &["libp2p", "iroh", "quinn"],
            ),
            ("contracts", &["protocols/wire"], &["alloy", "alloy-primitives"]),
            (
                "simulations/devnet",
                &["protocols/wire", "contracts", "simulations/sim"],
                &["reqwest"],
            ),
        ]);
        assert_eq!(house.violations(), []);
    }

    #[test]
    fn each_kind_of_violation_is_named() {
        let house = arrows(&[
            ("protocols/rules", &["protocols/swarm"], &[]),
            ("node/app", &["coordinator/ledger"], &["libp2p", "redb"]),
            ("cellar/wine", &[], &[]),
        ]);
        let said: Vec<String> = house.violations().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 5, "{said:?}");
        for part in [
            "protocols/rules -> protocols/swarm",
            "node/app -> coordinator/ledger",
            "node/app names libp2p",
            "only tables",
            "cellar/wine is not in the table",
        ] {
            assert!(said.iter().any(|line| line.contains(part)), "{part} in {said:?}");
        }
    }
}

//! The table of crates: where each lives, and what of ours it may depend on.
//!
//! A crate that is in the table and not in the workspace is fine: it appears with the work that
//! needs it. A crate that is in the workspace and not in the table is not.

/// What of ours a crate may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// These crates alone.
    Only(&'static [&'static str]),
    /// Everything but crates in these top-level folders.
    AllBut(&'static [&'static str]),
}

/// A crate of the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its folder, from the root.
    pub folder: &'static str,
    /// What it may depend on.
    pub below: Below,
}

const fn only(folder: &'static str, below: &'static [&'static str]) -> Layer {
    Layer { folder, below: Below::Only(below) }
}

const fn all_but(folder: &'static str, but: &'static [&'static str]) -> Layer {
    Layer { folder, below: Below::AllBut(but) }
}

/// Every crate, from the bottom up.
pub const LAYERS: &[Layer] = &[
    only("protocols/wire", &[]),
    only("protocols/rules", &["wire"]),
    only("protocols/swarm", &["wire", "rules"]),
    only("protocols/web", &["wire"]),
    only("compute/fetch", &["wire"]),
    only("compute/refine", &["wire"]),
    only("compute/models", &["wire"]),
    only("compute/kernels", &[]),
    only("compute/gpu", &["kernels"]),
    only("compute/inference", &["models", "kernels", "gpu", "wire"]),
    only("compute/training", &["models", "kernels", "gpu", "inference", "wire"]),
    only("compute/retrieval", &["inference", "models", "wire"]),
    only("compute/attribution", &["training", "retrieval", "inference", "models", "wire"]),
    only("storage/tables", &["wire"]),
    only("storage/vault", &["wire"]),
    only("storage/datanets", &["tables", "wire"]),
    only("contracts", &["wire"]),
    only("coordinator/ledger", &["rules", "tables", "wire"]),
    all_but("coordinator/portal", &["node", "simulations"]),
    all_but("coordinator/service", &["node", "simulations"]),
    all_but("node/governor", &["coordinator", "simulations"]),
    all_but("node/outbox", &["coordinator", "simulations"]),
    all_but("node/console", &["coordinator", "simulations"]),
    all_but("node/app", &["coordinator", "simulations"]),
    only("simulations/sim", &["wire", "rules"]),
    // The figures of `sim` are how every program here shows a number.
    // The files that it plants for nodes to serve are made by `models`.
    only("simulations/devnet", &["wire", "contracts", "sim", "models"]),
    all_but("simulations/bench-", &[]),
    all_but("simulations/crash", &[]),
    all_but("simulations/fuzz", &[]),
    all_but("simulations/adversary", &["coordinator"]),
    only("installers/release", &["wire"]),
    only("installers/unify", &[]),
];

/// A foreign library that few may name, because its types must not spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The package, and with `prefix` all packages whose names start so.
    pub package: &'static str,
    /// Whether `package` is the start of a name.
    pub prefix: bool,
    /// Who may depend on it.
    pub by: &'static [&'static str],
}

/// Foreign libraries behind one crate of ours each.
pub const FENCED: &[Fenced] = &[
    Fenced { package: "libp2p", prefix: true, by: &["swarm"] },
    Fenced { package: "iroh", prefix: true, by: &["swarm"] },
    Fenced { package: "quinn", prefix: true, by: &["swarm"] },
    Fenced { package: "alloy-primitives", prefix: false, by: &["contracts", "wire", "rules"] },
    Fenced { package: "alloy", prefix: true, by: &["contracts"] },
    Fenced { package: "redb", prefix: false, by: &["tables"] },
    Fenced { package: "wgpu", prefix: true, by: &["gpu"] },
    Fenced { package: "ort", prefix: false, by: &["inference"] },
];

impl Layer {
    /// The crate's name without the prefix that all of ours have.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.folder.rsplit('/').next().unwrap_or(self.folder)
    }

    /// Whether this row is about the crate in that folder. A folder that ends in a dash stands for
    /// a family.
    #[must_use]
    pub fn is_of(&self, folder: &str) -> bool {
        if self.folder.ends_with('-') {
            folder.starts_with(self.folder)
        } else {
            folder == self.folder
        }
    }

    /// Whether the arrow to a crate of ours is allowed; crates are given by their folders.
    #[must_use]
    pub fn may_use(&self, folder: &str) -> bool {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        let top = folder.split('/').next().unwrap_or(folder);
        match self.below {
            Below::Only(names) => names.contains(&name),
            Below::AllBut(tops) => !tops.contains(&top),
        }
    }
}

/// The row of a folder.
#[must_use]
pub fn layer_of(folder: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.is_of(folder))
}

/// The fence around a package, if there is one.
#[must_use]
pub fn fence_of(package: &str) -> Option<&'static Fenced> {
    FENCED.iter().find(|fenced| {
        let family = fenced.prefix
            && package.strip_prefix(fenced.package).is_some_and(|rest| rest.starts_with('-'));
        package == fenced.package || family
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_points_downwards_only() {
        for (at, layer) in LAYERS.iter().enumerate() {
            let Below::Only(names) = layer.below else { continue };
            for name in names {
                let below = LAYERS.iter().position(|other| other.name() == *name);
                assert!(below.is_some_and(|below| below < at), "{} -> {name}", layer.folder);
            }
        }
    }

    #[test]
    fn rows_allow_what_they_say() {
        let may = |from: &str, to: &str| layer_of(from).unwrap().may_use(to);
        assert!(may("protocols/rules", "protocols/wire"));
        assert!(!may("protocols/rules", "protocols/swarm"));
        assert!(!may("protocols/wire", "protocols/rules"));
        assert!(may("coordinator/service", "contracts"));
        assert!(!may("coordinator/service", "node/outbox"));
        assert!(!may("node/app", "coordinator/ledger"));
        assert!(may("simulations/adversary", "node/app"));
        assert!(!may("simulations/adversary", "coordinator/service"));
        assert!(may("simulations/bench-ingest", "coordinator/ledger"));
        assert!(layer_of("compute/unheard-of").is_none());
    }

    #[test]
    fn fences_hold_families() {
        assert_eq!(fence_of("libp2p-core").unwrap().by, ["swarm"]);
        assert_eq!(fence_of("iroh-blobs").unwrap().by, ["swarm"]);
        assert_eq!(fence_of("alloy-primitives").unwrap().by, ["contracts", "wire", "rules"]);
        assert_eq!(fence_of("alloy-sol-types").unwrap().by, ["contracts"]);
        assert!(fence_of("serde").is_none());
        assert!(fence_of("orthogonal").is_none());
    }
}

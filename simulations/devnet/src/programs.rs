//! The binaries of the network, found beside this one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// What ends the chain with this program.
    pub guard: PathBuf,
    /// The node.
    pub node: PathBuf,
    /// The coordinator.
    pub coordinator: PathBuf,
    /// Nodes that cheat.
    pub adversary: PathBuf,
    /// The chain.
    pub anvil: PathBuf,
}

impl Programs {
    /// Finds all of them.
    ///
    /// # Errors
    /// Names the one that is missing and how to get it.
    pub fn find(anvil: Option<&Path>) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("find this program's file")?;
        let folder = own.parent().unwrap_or(Path::new("."));
        let anvil = match anvil {
            Some(path) if path.is_file() => path.to_owned(),
            Some(path) => bail!("find anvil: {} does not exist", path.display()),
            None => openledger_contracts::find_anvil()?,
        };
        Ok(Self {
            node: beside(folder, "openledger", "openledger-app")?,
            coordinator: beside(folder, "openledger-coordinator", "openledger-service")?,
            adversary: beside(folder, "openledger-adversary", "openledger-adversary")?,
            guard: beside(folder, "openledger-guard", "openledger-devnet")?,
            anvil,
        })
    }
}

fn beside(folder: &Path, name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    if !path.is_file() {
        bail!(
            "find {name}: there is none in {}; build it with `cargo build -p {package}` or run \
             ./installers/devnet.sh, which builds all",
            folder.display()
        );
    }
    Ok(path)
}

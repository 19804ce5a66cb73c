//! Other people's programs that benchmarks measure ours against: setting them up, finding them.
//!
//! The setting up itself is a script, `installers/peers.sh`, which shares the ways of the other
//! installers; its list says which peers there are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::figures::{Figures, Kind};

/// llama.cpp, with the Python interface that its package brings.
pub const LLAMA_CPP: &str = "llama-cpp-python";

/// Sets up the named peers, all of them if none is named; shows versions and what it took. What
/// happens meanwhile is said on standard error.
///
/// # Errors
/// When this is no clone of the repository, or the script fails, which says why itself.
pub fn setup(names: &[String]) -> Result<Figures> {
    let script = script()?;
    let run = Command::new("sh")
        .arg(&script)
        .args(names)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", script.display()))?;
    ensure!(run.status.success(), "set up the peers: {} says why above", script.display());
    read(&String::from_utf8_lossy(&run.stdout))
}

/// The Python that has a peer.
///
/// # Errors
/// When it is not set up, with the command that does it.
pub fn python(name: &str) -> Result<PathBuf> {
    let folder = cache()?.join("peers").join(name);
    let python = folder.join("bin/python");
    if !python.is_file() || !folder.join(".complete").is_file() {
        bail!("find the peer {name}: run `openledger-sim setup peers {name}` first");
    }
    Ok(python)
}

/// Lines of the script: name, version, Python, seconds, with tabs between.
fn read(lines: &str) -> Result<Figures> {
    let mut figures = Figures::new("setup peers");
    for line in lines.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(version), Some(_), Some(seconds), None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            bail!("read what installers/peers.sh says: {line:?} is no line of a peer");
        };
        let seconds: u64 = seconds.parse().with_context(|| format!("read {line:?}"))?;
        figures.show(&format!("{name}: version"), version, "", Kind::Exact);
        figures.show(&format!("{name}: set up in"), seconds, "s", Kind::Timed);
    }
    Ok(figures)
}

/// The script of the clone that this was built from, else of the folder that it is run in.
fn script() -> Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    [built, PathBuf::from(".")]
        .iter()
        .map(|root| root.join("installers/peers.sh"))
        .find_map(|path| path.canonicalize().ok())
        .context("find installers/peers.sh: run this in a clone of the repository")
}

/// The folder in which the installers keep what they fetch, as `installers/setup.sh` has it.
///
/// # Errors
/// When no variable says where it is.
pub fn cache() -> Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    folder("OPENLEDGER_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(folder("XDG_CACHE_HOME")?).join("openledger")))
        .or_else(|| Some(PathBuf::from(folder("HOME")?).join(".cache/openledger")))
        .context("find the cache of the installers: set HOME or OPENLEDGER_CACHE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_script_become_figures() {
        let figures = read("a-peer\t1.2\t/x y/bin/python\t360\nother\t3\t/z\t0\n").unwrap();
        let shown: Vec<&str> = figures.figures.iter().map(|figure| &*figure.name).collect();
        let named = ["a-peer: version", "a-peer: set up in", "other: version", "other: set up in"];
        assert_eq!(shown, named);
        for bad in ["a-peer 1.2\n", "a\tb\tc\tsoon\n", "a\tb\tc\t1\t2\n"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_script_is_found_and_lists_each_peer_that_is_used() {
        let text = std::fs::read_to_string(script().unwrap()).unwrap();
        let list = text.lines().find_map(|line| line.strip_prefix("peers=")).unwrap();
        assert!(list.contains(LLAMA_CPP), "{list}");
    }
}

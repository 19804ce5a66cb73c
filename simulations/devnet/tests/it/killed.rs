//! `kill -9` of a devnet, by number or by name, leaves nothing running. Needs the other binaries of the workspace beside
//! the devnet's, which building the workspace's tests puts there.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::procs::{below, survivors};

#[test]
fn nothing_survives_a_killed_devnet() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("pages");
    std::fs::create_dir(&pages).unwrap();
    for n in 0..4 {
        let words = format!("<p>The {n}. page has some words about the weather. </p>").repeat(400);
        std::fs::write(pages.join(format!("page{n}.html")), words).unwrap();
    }
    let mut devnet = Command::new(env!("CARGO_BIN_EXE_openledger-devnet"))
        .args(["--nodes", "2", "--pages", "4", "--site-root"])
        .arg(&pages)
        .arg("--dir")
        .arg(folder.path().join("devnet"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    // Progress lines: the first about epochs comes when every process runs and is connected.
    for line in BufReader::new(devnet.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        let runs = line.contains(": epoch ");
        said.push(line);
        if runs {
            break;
        }
    }
    let processes = below(devnet.id());
    devnet.kill().unwrap();
    devnet.wait().unwrap();
    let count = |part: &str| processes.values().filter(|name| name.starts_with(part)).count();
    // Names are cut to 15 letters: chain, its guard, coordinator, two nodes, three cheaters.
    assert_eq!(count("anvil"), 1, "{processes:?}\n{}", said.join("\n"));
    assert_eq!(count("openledger-guar"), 1, "{processes:?}");
    // Whoever kills by name kills the devnet alone: what ends the chain has another name.
    assert_eq!(count("openledger-devn"), 0, "{processes:?}");
    assert!(count("openledger-coor") == 1 && count("openledger-adve") >= 3, "{processes:?}");
    assert_eq!(survivors(&processes, Duration::from_secs(60)), []);
}

//! Benchmarks: of the rules themselves, and the programs that have those of other areas.
//!
//! Figures of the rules are timed and decide nothing. The other programs depend on crates that the
//! simulator must not, so they are started as processes; they lie beside this one, and show their
//! figures themselves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use openledger_rules::assign::{self, Constraints};
use openledger_rules::nodeset::{NodeRow, NodeSet};
use openledger_rules::sumtree::SumTree;
use openledger_wire::log::Whereabouts;
use openledger_wire::{AccountId, EvmAddress, NodeId, Open};

use crate::figures::{Figures, Kind};
use crate::random::Random;

/// The names of the benchmarks that run in this process.
pub const NAMES: &[&str] = &["rules"];

/// The others, each with the program that has it.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("accuracy", "openledger-bench-inference"),
    ("adapters", "openledger-bench-inference"),
    ("fingerprints", "openledger-bench-inference"),
    ("gpu", "openledger-bench-inference"),
    ("inference", "openledger-bench-inference"),
    ("memory", "openledger-bench-inference"),
    ("parity", "openledger-bench-inference"),
    ("soak", "openledger-bench-inference"),
];

/// How much a benchmark is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What the benchmark does by itself.
    Default,
    /// It ends within 50 seconds.
    Quick,
    /// Production sizes.
    Full,
}

/// The program that has a benchmark, beside this one; `None` if the benchmark is none of a
/// program.
///
/// # Errors
/// When the program is not there, with the command that builds it.
pub fn program(name: &str) -> Result<Option<PathBuf>> {
    let Some((_, program)) = PROGRAMS.iter().find(|(known, _)| *known == name) else {
        return Ok(None);
    };
    let this = std::env::current_exe().context("find this program")?;
    let path = this.with_file_name(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    ensure!(
        path.is_file(),
        "run benchmark {name}: there is no {}; build it with `cargo build -p {program}`",
        path.display()
    );
    Ok(Some(path))
}

/// Runs a benchmark of another program, on a model file if one is named; it shows its figures
/// itself. Gives its exit code.
///
/// # Errors
/// When it does not start, or is killed.
pub fn start(
    program: &Path,
    name: &str,
    size: Size,
    model: Option<&Path>,
    json: bool,
) -> Result<u8> {
    let mut command = Command::new(program);
    command.arg(name);
    match size {
        Size::Default => &mut command,
        Size::Quick => command.arg("--quick"),
        Size::Full => command.arg("--full"),
    };
    if let Some(model) = model {
        command.arg("--model").arg(model);
    }
    if json {
        command.arg("--json");
    }
    let status = command.status().with_context(|| format!("start {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.with_context(|| {
        format!("finish benchmark {name}: {} ended by {status}", program.display())
    })
}

/// Runs a benchmark; `full` takes production sizes, else it ends within seconds.
///
/// # Errors
/// A name that no benchmark here has.
pub fn run(name: &str, full: bool) -> Result<Figures> {
    match name {
        "rules" => rules(if full { 1_000_000 } else { 100_000 }),
        _ => {
            let programs = PROGRAMS.iter().map(|(name, _)| *name);
            let known: Vec<&str> = NAMES.iter().copied().chain(programs).collect();
            bail!("run benchmark {name:?}: there is none of this name; known: {}", known.join(", "))
        }
    }
}

fn rules(nodes: u32) -> Result<Figures> {
    let mut figures = Figures::new("rules");
    let mut random = Random::new(1, "bench");
    let rows: Vec<NodeRow> = (0..nodes)
        .map(|number| {
            let subnet = number.to_be_bytes();
            NodeRow {
                node: NodeId(random.bytes()),
                account: AccountId(random.bytes()),
                weight_milli: 1_000,
                vetted: true,
                whereabouts: Whereabouts {
                    subnet: [4, subnet[0], subnet[1], subnet[2], subnet[3], 0, 0],
                    asn: 0,
                },
                cohort: u64::from(number),
                founding: false,
            }
        })
        .collect();
    let set = NodeSet::new(rows);
    let begun = Instant::now();
    let draws = 20;
    for draw in 0..draws {
        let seed = [draw; 32];
        let drawn = assign::draw(&seed, &set, 2, &Default::default(), &[], &Constraints::STRICT);
        ensure!(drawn.len() == 2, "a draw found too few nodes");
    }
    let per_draw = begun.elapsed().as_secs_f64() / f64::from(draws);
    figures.show(&format!("one draw of 2 among {nodes} nodes"), per_draw * 1e3, "ms", Kind::Timed);
    let leaves = (0..nodes).map(|_| {
        let bytes = random.bytes();
        let mut address = [0u8; 20];
        address.copy_from_slice(&bytes[..20]);
        (EvmAddress(address), Open(1_000))
    });
    let leaves = leaves.collect();
    let begun = Instant::now();
    let tree = SumTree::build(leaves)?;
    let built = begun.elapsed().as_secs_f64();
    figures.show(&format!("settlement tree of {nodes} accounts"), built, "s", Kind::Timed);
    figures.equals(
        "settlement tree: total",
        tree.total().0.to_string(),
        (u128::from(nodes) * 1_000).to_string(),
    );
    Ok(figures)
}

//! `openledger-fuzz`: runs every decoder on hostile input.
#![expect(clippy::print_stdout, reason = "a command-line program")]
#![expect(clippy::print_stderr, reason = "a command-line program")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use openledger_fuzz::engine::{self, Budget, Crash, Report};
use openledger_fuzz::{TARGETS, Target, corpus, seeds, targets};

/// Runs every decoder on hostile input: the committed corpus, and inputs derived from it by seed.
#[derive(Parser)]
#[command(name = "openledger-fuzz", version)]
struct Arguments {
    /// Folder of the corpus; the source tree's by default.
    #[arg(long, global = true)]
    corpus: Option<PathBuf>,
    /// Where inputs that crash a target are written, as hex.
    #[arg(long, global = true, default_value = "fuzz-crashes")]
    crashes: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay the corpus and go on with derived inputs.
    Run {
        /// Targets; all if none is named.
        targets: Vec<String>,
        /// Derived inputs per target.
        #[arg(long, default_value_t = 2_000, conflicts_with = "seconds")]
        iterations: u64,
        /// Time for all targets together, instead of a number of inputs.
        #[arg(long)]
        seconds: Option<u64>,
        /// Another seed, other inputs.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Replay the corpus, or one file.
    Replay {
        /// Targets; all if none is named.
        targets: Vec<String>,
        /// One input: its bytes, or hex in a file that ends in `.hex`.
        #[arg(long, requires = "targets")]
        input: Option<PathBuf>,
    },
    /// List the targets with the size of their corpus.
    List,
    /// Write the corpus of the golden vectors, web samples and model files anew.
    SeedCorpus {
        /// The source tree that holds them.
        #[arg(long, default_value = ".")]
        tree: PathBuf,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = arguments.corpus.clone().unwrap_or_else(corpus::folder);
    match &arguments.command {
        Command::Run { targets, iterations, seconds, seed } => {
            let chosen = choose(targets)?;
            let budget = match seconds {
                None => Budget::Iterations(*iterations),
                Some(seconds) => Budget::Time(share(*seconds, chosen.len())),
            };
            run(&arguments, &folder, &chosen, *seed, Some(budget))
        }
        Command::Replay { targets, input: None } => {
            run(&arguments, &folder, &choose(targets)?, 0, None)
        }
        Command::Replay { targets, input: Some(path) } => {
            let inputs = [corpus::read(path)?];
            for (name, target) in choose(targets)? {
                if let Err(crash) = engine::run(name, target, &inputs, 0, None) {
                    return report_crash(&arguments, &crash);
                }
                println!("{name}: fine");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::List => {
            for (name, _) in TARGETS {
                println!("{name:<16} {} inputs", corpus::load(&folder, name)?.len());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::SeedCorpus { tree } => {
            println!("{} seeds", seeds::write(tree, &folder)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Each target's part of the time.
fn share(seconds: u64, targets: usize) -> Duration {
    Duration::from_secs(seconds) / u32::try_from(targets.max(1)).unwrap_or(u32::MAX)
}

fn choose(names: &[String]) -> Result<Vec<(&str, Target)>> {
    if names.is_empty() {
        return Ok(TARGETS.to_vec());
    }
    let mut chosen = Vec::new();
    for name in names {
        let Some(target) = targets::named(name) else {
            bail!("there is no target {name:?}; `openledger-fuzz list` shows them");
        };
        chosen.push((name.as_str(), target));
    }
    Ok(chosen)
}

fn run(
    arguments: &Arguments,
    folder: &Path,
    chosen: &[(&str, Target)],
    seed: u64,
    budget: Option<Budget>,
) -> Result<ExitCode> {
    let mut all = Report::default();
    for (name, target) in chosen {
        let inputs = corpus::load(folder, name)?;
        let report = match engine::run(name, *target, &inputs, seed, budget) {
            Ok(report) => report,
            Err(crash) => return report_crash(arguments, &crash),
        };
        let Report { replayed, derived, slowest_us, slowest_bytes } = report;
        println!(
            "{name:<16} {replayed:>4} replayed {derived:>8} derived, slowest {slowest_us:>7} us ({slowest_bytes} bytes)"
        );
        all.replayed += replayed;
        all.derived += derived;
    }
    println!(
        "no crash: {} targets, {} replayed, {} derived",
        chosen.len(),
        all.replayed,
        all.derived
    );
    Ok(ExitCode::SUCCESS)
}

fn report_crash(arguments: &Arguments, crash: &Crash) -> Result<ExitCode> {
    let path = corpus::store_hex(&arguments.crashes, &crash.target, &crash.input)
        .context("keep the input of a crash")?;
    eprintln!("crash: {crash}");
    eprintln!("input: {}", path.display());
    eprintln!("again: openledger-fuzz replay {} --input {}", crash.target, path.display());
    Ok(ExitCode::FAILURE)
}

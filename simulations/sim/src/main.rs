//! `openledger-sim`: runs scenarios by seed and benchmarks by name.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use openledger_sim::figures::{Figures, Kind};
use openledger_sim::scenario::{SCENARIOS, Scenario};
use openledger_sim::{bench, peers};

/// Replays the swarm's rules in simulated worlds, and runs benchmarks.
#[derive(Parser)]
#[command(name = "openledger-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario, or all.
    Run {
        /// The scenario's name; `list` shows them.
        scenario: Option<String>,
        /// Run every scenario.
        #[arg(long, conflicts_with = "scenario")]
        all: bool,
        /// Seeds 1 to N of each.
        #[arg(long, default_value_t = 4)]
        seeds: u64,
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Run one seed of one scenario again.
    Replay {
        /// The scenario's name.
        scenario: String,
        /// The seed.
        #[arg(long)]
        seed: u64,
    },
    /// Run a benchmark.
    Bench {
        /// Its name.
        name: String,
        /// Small sizes: ends within 50 seconds.
        #[arg(long, conflicts_with = "full")]
        quick: bool,
        /// Production sizes.
        #[arg(long)]
        full: bool,
        /// The model file of a benchmark that has one.
        #[arg(long, value_name = "FILE")]
        model: Option<PathBuf>,
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Set up what benchmarks need.
    Setup {
        #[command(subcommand)]
        what: Setup,
    },
    /// List scenarios and benchmarks.
    List,
}

#[derive(Subcommand)]
enum Setup {
    /// The programs that ours are measured against, in ~/.cache/openledger/peers
    Peers {
        /// Some of them; all if none is named.
        names: Vec<String>,
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match command(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Nowhere else to say it if standard error is closed.
            let _ = writeln!(std::io::stderr(), "openledger-sim: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> Result<ExitCode> {
    let figures = match command {
        Command::Run { scenario, all, seeds, json } => {
            let chosen: Vec<&Scenario> = match (&scenario, all) {
                (Some(name), _) => vec![find(name)?],
                (None, true) => SCENARIOS.iter().collect(),
                (None, false) => anyhow::bail!(
                    "run: name a scenario or say --all; `openledger-sim list` shows them"
                ),
            };
            (run(&chosen, seeds), json)
        }
        Command::Replay { scenario, seed } => {
            let report = find(&scenario)?.run(seed)?;
            println!("{report:#?}");
            return Ok(ExitCode::SUCCESS);
        }
        Command::Bench { name, quick, full, model, json } => match bench::program(&name)? {
            Some(program) => {
                let size = match (quick, full) {
                    (true, _) => bench::Size::Quick,
                    (_, true) => bench::Size::Full,
                    _ => bench::Size::Default,
                };
                return Ok(ExitCode::from(bench::start(
                    &program,
                    &name,
                    size,
                    model.as_deref(),
                    json,
                )?));
            }
            None => (bench::run(&name, full)?, json),
        },
        Command::Setup { what: Setup::Peers { names, json } } => (peers::setup(&names)?, json),
        Command::List => {
            for scenario in SCENARIOS {
                println!("run {:<16} {}", scenario.name, scenario.about);
            }
            let programs = bench::PROGRAMS.iter().map(|(name, _)| name);
            for name in bench::NAMES.iter().chain(programs) {
                println!("bench {name}");
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    let (figures, json) = figures;
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        print!("{}", figures.lines());
    }
    Ok(if figures.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn find(name: &str) -> Result<&'static Scenario> {
    Scenario::named(name).with_context(|| {
        format!("find scenario {name:?}: there is none; `openledger-sim list` shows them")
    })
}

fn run(scenarios: &[&Scenario], seeds: u64) -> Figures {
    let mut figures = Figures::new("scenarios");
    for scenario in scenarios {
        let mut failed: Vec<String> = Vec::new();
        let (mut accepted, mut dishonest, mut unchecked, mut crashes) = (0, 0, 0, 0);
        let (mut answered, mut ties) = (0, 0);
        for seed in 1..=seeds {
            match (scenario.run(seed), scenario.run(seed)) {
                (Ok(report), Ok(again)) if report.history == again.history => {
                    accepted += report.accepted;
                    dishonest += report.dishonest;
                    unchecked += report.dishonest_unchecked;
                    crashes += report.crashes;
                    answered += report.answered;
                    ties += report.ties;
                }
                (Ok(_), Ok(_)) => failed.push(format!("seed {seed}: two runs differ")),
                (Err(error), _) | (_, Err(error)) => failed.push(format!("seed {seed}: {error:#}")),
            }
        }
        let name = scenario.name;
        figures.equals(&format!("{name}: failed seeds of {seeds}"), failed.len() as u64, 0u64);
        figures.show(&format!("{name}: proofs accepted"), accepted, "", Kind::Exact);
        figures.show(&format!("{name}: dishonest proofs"), dishonest, "", Kind::Exact);
        let drawn = format!("{name}: of them accepted, no check being drawn");
        figures.show(&drawn, unchecked, "", Kind::Exact);
        figures.show(&format!("{name}: coordinator crashes"), crashes, "", Kind::Exact);
        if answered > 0 {
            figures.show(&format!("{name}: prompts answered"), answered, "", Kind::Exact);
            let open = format!("{name}: honest answers left open at near ties");
            figures.show(&open, ties, "", Kind::Exact);
        }
        for failure in failed.iter().take(3) {
            figures.show(&format!("{name}: {failure}; replay with that seed"), 1, "", Kind::Exact);
        }
    }
    figures
}

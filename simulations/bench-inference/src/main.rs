//! `openledger-bench-inference`: the engine beside llama.cpp. `openledger-sim bench parity` and
//! `openledger-sim bench inference` start it.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use openledger_bench_inference::fingerprints::{self, Part};
use openledger_bench_inference::memory::held::{self, Holding};
use openledger_bench_inference::subject::Choice;
use openledger_bench_inference::{
    MissingError, Subject, accuracy, gpu, memory, parity, soak, speed, tiers,
};
use openledger_sim::Figures;
use openledger_sim::figures::Kind;

/// Compares the inference engine with llama.cpp on one model file.
#[derive(Parser)]
#[command(name = "openledger-bench-inference", version)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// A part of it: ends within 50 seconds.
    #[arg(long, global = true, conflicts_with = "full")]
    quick: bool,
    /// All of it. The default.
    #[arg(long, global = true)]
    full: bool,
    /// One JSON object instead of lines.
    #[arg(long, global = true)]
    json: bool,
    /// The model file; OPENLEDGER_MODEL, or the one that the installers bring, without.
    #[arg(long, global = true, value_name = "FILE")]
    model: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Token ids and likeliest tokens, held against llama.cpp's.
    Parity,
    /// Tokens a second, beside llama.cpp's.
    Inference {
        /// What computes.
        #[arg(long, value_enum, default_value_t = Choice::Cpu)]
        backend: Choice,
    },
    /// Logits held against the model's definition in 64 bits, beside llama.cpp's.
    Accuracy {
        /// One backend; all that this machine has without.
        #[arg(long, value_enum)]
        backend: Option<Choice>,
        /// A context of thousands of tokens, in place of the rest.
        #[arg(long, conflicts_with = "quick")]
        long: bool,
    },
    /// Adapters from disk into memory and out, a thousand held, ten thousand stored.
    Adapters {
        /// What computes.
        #[arg(long, value_enum, default_value_t = Choice::Cpu)]
        backend: Choice,
    },
    /// Bytes of an engine with 32 adapters and 32 long sequences, beside llama.cpp's.
    Memory,
    /// Twice the load that the engine can carry, for ten minutes.
    Soak {
        /// What computes.
        #[arg(long, value_enum, default_value_t = Choice::Cpu)]
        backend: Choice,
    },
    /// Honest answers and cheats, told apart by what they claim to have computed.
    Fingerprints {
        /// Part K of N alone; what it found is JSON on standard output, to be kept in a file.
        #[arg(long, value_name = "K/N")]
        part: Option<Part>,
        /// Puts parts together that were run before.
        #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "part")]
        merge: Vec<PathBuf>,
    },
    /// A graphics processor: its bandwidth, and what decoding makes of it.
    Gpu {
        /// Takes one that is software, too.
        #[arg(long)]
        software: bool,
    },
    /// Holds an engine and says what it takes: a part of `memory`.
    #[command(hide = true)]
    Hold(Holding),
}

/// The code of an exit for want of the model or the peer.
const MISSING: u8 = 2;

fn main() -> ExitCode {
    match command(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("failed to {error:#}"));
            let missing = error.downcast_ref::<MissingError>().is_some();
            if missing { ExitCode::from(MISSING) } else { ExitCode::FAILURE }
        }
    }
}

/// Standard error is where it is said what happens; if it is closed, there is nowhere else.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "openledger-bench-inference: {text}");
}

fn command(arguments: &Arguments) -> Result<ExitCode> {
    let (model, quick) = (arguments.model.as_deref(), arguments.quick);
    let beside = || Subject::find(model);
    let alone = || Subject::alone(model);
    let figures = match &arguments.benchmark {
        Benchmark::Parity => parity::run(&beside()?, quick, &mut say)?,
        Benchmark::Inference { backend } => {
            speed::run(&beside()?.with(Some(*backend)), quick, backend.kind(), &mut say)?
        }
        Benchmark::Accuracy { backend, long } => {
            let asked = accuracy::Asked { quick, backend: backend.map(Choice::kind), long: *long };
            let subjects = accuracy_subjects(model, &asked)?.into_iter();
            let subjects: Vec<Subject> = subjects.map(|subject| subject.with(*backend)).collect();
            accuracy::run(&subjects, &asked, &mut say)?
        }
        Benchmark::Adapters { backend } => {
            tiers::run(&alone()?.with(Some(*backend)), quick, backend.kind(), &mut say)?
        }
        Benchmark::Memory => memory::run(&beside()?, quick, &mut say)?,
        Benchmark::Soak { backend } => {
            soak::run(&alone()?.with(Some(*backend)), quick, backend.kind(), &mut say)?
        }
        Benchmark::Fingerprints { part: Some(part), .. } => {
            let found = fingerprints::run_part(&alone()?, quick, *part, &mut say)?;
            println!("{}", serde_json::to_string(&found)?);
            return Ok(ExitCode::SUCCESS);
        }
        Benchmark::Fingerprints { merge, .. } if !merge.is_empty() => {
            fingerprints::merge(&alone()?, merge)?
        }
        Benchmark::Fingerprints { .. } => fingerprints::run(&alone()?, quick, &mut say)?,
        Benchmark::Gpu { software } => gpu::run(&alone()?, quick, *software, &mut say)?,
        Benchmark::Hold(holding) => {
            println!("{}", serde_json::to_string(&held::run(&alone()?, holding)?)?);
            return Ok(ExitCode::SUCCESS);
        }
    };
    show(&figures, arguments.json)
}

/// The model, and in whole runs that name none the second one too, where it was set up.
fn accuracy_subjects(model: Option<&Path>, asked: &accuracy::Asked) -> Result<Vec<Subject>> {
    let mut subjects = vec![Subject::find(model)?];
    if model.is_none() && !asked.quick && !asked.long {
        match Subject::second() {
            Some(path) => subjects.push(Subject::find(Some(&path))?),
            None => {
                say("without the second model: `openledger-sim setup peers gemma3-270m` brings it")
            }
        }
    }
    Ok(subjects)
}

/// Shows figures. Times have bars to stand beside; they decide nothing.
fn show(figures: &Figures, json: bool) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string(figures)?);
    } else {
        print!("{}", figures.lines());
    }
    let fine = figures.figures.iter().all(|figure| figure.ok || figure.kind == Kind::Timed);
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

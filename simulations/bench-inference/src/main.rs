//! `openledger-bench-inference`: the engine beside llama.cpp. `openledger-sim bench parity` and
//! `openledger-sim bench inference` start it.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use openledger_bench_inference::{
    MissingError, Subject, accuracy, fingerprints, memory, parity, soak, speed, tiers,
};

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

#[derive(Clone, Copy, Subcommand)]
enum Benchmark {
    /// Token ids and likeliest tokens, held against llama.cpp's.
    Parity,
    /// Tokens a second, beside llama.cpp's.
    Inference,
    /// Logits held against the model's definition in 64 bits, beside llama.cpp's.
    Accuracy,
    /// Adapters from disk into memory and out, a thousand held, ten thousand stored.
    Adapters,
    /// Bytes of an engine with 32 adapters and 32 long sequences, beside llama.cpp's.
    Memory,
    /// Twice the load that the engine can carry, for ten minutes.
    Soak,
    /// Honest answers and cheats, told apart by what they claim to have computed.
    Fingerprints,
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
    let run = match arguments.benchmark {
        Benchmark::Parity => parity::run,
        Benchmark::Inference => speed::run,
        Benchmark::Accuracy => accuracy::run,
        Benchmark::Fingerprints => fingerprints::run,
        Benchmark::Adapters => tiers::run,
        Benchmark::Memory => memory::run,
        Benchmark::Soak => soak::run,
    };
    let model = arguments.model.as_deref();
    let subject = match arguments.benchmark {
        Benchmark::Parity | Benchmark::Inference | Benchmark::Accuracy | Benchmark::Memory => {
            Subject::find(model)?
        }
        Benchmark::Adapters | Benchmark::Fingerprints | Benchmark::Soak => Subject::alone(model)?,
    };
    let figures = run(&subject, arguments.quick, &mut say)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        print!("{}", figures.lines());
    }
    Ok(if figures.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! `openledger-bench-inference`: the engine beside llama.cpp. `openledger-sim bench parity` and
//! `openledger-sim bench inference` start it.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use openledger_bench_inference::{MissingError, Subject, parity, speed};

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
}

#[derive(Clone, Copy, Subcommand)]
enum Benchmark {
    /// Token ids and likeliest tokens, held against llama.cpp's.
    Parity,
    /// Tokens a second, beside llama.cpp's.
    Inference,
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
    let subject = Subject::find()?;
    let run = match arguments.benchmark {
        Benchmark::Parity => parity::run,
        Benchmark::Inference => speed::run,
    };
    let figures = run(&subject, arguments.quick, &mut say)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        print!("{}", figures.lines());
    }
    Ok(if figures.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! `openledger-release`: looks at the tree before it is released.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use openledger_release::arrows::Arrows;
use openledger_release::tidy::{Tree, check};

/// Looks at the tree: which crate depends on which, and how the files read.
#[derive(Parser)]
#[command(name = "openledger-release", version)]
struct Arguments {
    /// The root of the source tree.
    #[arg(long, global = true, default_value = ".")]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the arrows between the crates; fails if one should not be.
    Arrows,
    /// Check how the tree reads; fails if a rule is broken.
    Tidy,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let lines: Vec<String> = match arguments.command {
        Command::Arrows => {
            let (arrows, violations) = Arrows::read(&arguments.root)?;
            print!("{arrows}");
            violations.iter().map(ToString::to_string).collect()
        }
        Command::Tidy => {
            check(&Tree::read(&arguments.root)?).iter().map(ToString::to_string).collect()
        }
    };
    for line in &lines {
        println!("{line}");
    }
    if lines.is_empty() {
        println!("nothing to complain about");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} found", lines.len());
    Ok(ExitCode::FAILURE)
}

//! `openledger-release`: looks at the tree before it is released.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use openledger_release::arrows::Arrows;
use openledger_release::tidy::{Tree, check};
use openledger_release::unify::{manifest, rebuilds};

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
    /// Find what must be asked for so that building one crate of ours builds nothing foreign again.
    Unify {
        /// Write it to the manifest of `installers/unify`.
        #[arg(long)]
        write: bool,
    },
    /// Build the workspace, then each crate alone; fails if anything foreign is built again.
    Rebuilds,
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
        Command::Unify { write } => unify(&arguments.root, write)?,
        Command::Rebuilds => {
            let all = rebuilds::prove(&arguments.root)?;
            for alone in &all {
                println!("{alone}");
            }
            all.iter().filter(|alone| !alone.rebuilt.is_empty()).map(ToString::to_string).collect()
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

/// What is missing in the manifest of the union; with `write` nothing is afterwards.
fn unify(root: &std::path::Path, write: bool) -> Result<Vec<String>> {
    let path = root.join(manifest::PATH);
    if write {
        let asked = manifest::refresh(root, |text| Ok(std::fs::write(&path, text)?))?;
        println!("{asked} crates were added or changed in {}", manifest::PATH);
        return Ok(Vec::new());
    }
    let missing = manifest::missing(root)?;
    Ok(missing
        .keys()
        .map(|foreign| format!("{} {} is built in two ways", foreign.name, foreign.version))
        .collect())
}

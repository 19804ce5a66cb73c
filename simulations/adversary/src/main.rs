//! `openledger-adversary --conduct NAME --record FILE ARGUMENTS…`: the `openledger` command line
//! with another conduct. The program runs itself again with the two options in its environment, so
//! that the rest of the command line is parsed, and shown in errors, as the node's own.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use openledger_adversary::named;
use openledger_app::conduct::{Conduct, Honest};

const CONDUCT: &str = "OPENLEDGER_ADVERSARY_CONDUCT";
const RECORD: &str = "OPENLEDGER_ADVERSARY_RECORD";

fn main() -> ExitCode {
    match conduct() {
        Ok(conduct) => openledger_app::cli::main(conduct),
        Err(error) => {
            // Nowhere else to say it if standard error is closed.
            let _ = writeln!(std::io::stderr(), "openledger-adversary: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn conduct() -> anyhow::Result<Arc<dyn Conduct>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--conduct") {
        return Err(run_again(arguments));
    }
    let is_node = arguments.iter().any(|argument| argument == "up");
    match (std::env::var(CONDUCT), std::env::var_os(RECORD)) {
        (Ok(name), Some(record)) if is_node => Ok(named(&name, record.as_ref())?),
        _ if is_node => bail!("choose a conduct: give --conduct NAME --record FILE first"),
        // Workers and other commands behave as everybody's.
        _ => Ok(Arc::new(Honest)),
    }
}

/// Replaces this process; comes back only with an error.
fn run_again(arguments: Vec<OsString>) -> anyhow::Error {
    let mut rest = arguments.into_iter().skip(1);
    let (Some(name), Some(flag), Some(record)) = (rest.next(), rest.next(), rest.next()) else {
        return anyhow::anyhow!("read the arguments: --conduct NAME --record FILE come first");
    };
    if flag != "--record" {
        return anyhow::anyhow!("read the arguments: --record FILE comes after --conduct NAME");
    }
    match std::env::current_exe().context("find this program") {
        Ok(program) => {
            let mut again = Command::new(program);
            let error = again.args(rest).env(CONDUCT, name).env(RECORD, record).exec();
            anyhow::Error::new(error).context("start again with the conduct")
        }
        Err(error) => error,
    }
}

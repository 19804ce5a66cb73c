//! `openledger-coordinator`: the command line of the coordinator.

use std::io::Write as _;
use std::process::ExitCode;

use openledger_service::cli;

fn main() -> ExitCode {
    match cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere else to say it if standard error is closed.
            let _ = writeln!(std::io::stderr(), "openledger-coordinator: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

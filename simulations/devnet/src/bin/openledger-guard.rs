//! `openledger-guard`: ends a program when its own standard input ends; see [`guard`].

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use openledger_devnet::guard;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match guard::run(&arguments) {
        Ok(status) if status.is_none_or(|status| status.success()) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // Nowhere else to say it if standard error is closed.
            let _ = writeln!(std::io::stderr(), "openledger-guard: failed to {error}");
            ExitCode::FAILURE
        }
    }
}

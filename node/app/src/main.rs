//! `openledger`: the node and its command line.

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    openledger_app::cli::main(Arc::new(openledger_app::Honest))
}

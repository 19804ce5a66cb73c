//! The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no node runs.

mod args;
mod audit;
mod doctor;
mod identity;
mod model;
mod money;
mod network;
mod out;
mod receipts;
mod running;
mod settings;
mod up;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;

use self::args::{Cli, Command, Which};
use self::out::Out;
use crate::conduct::Conduct;
use crate::config::Config;
use crate::control::ClientError;
use crate::data_dir::DataDir;
use crate::worker::run_child;

/// Exit code when no node runs.
const NOT_RUNNING: u8 = 3;

/// The whole program, with the conduct that a node started by it has.
#[must_use]
pub fn main(conduct: Arc<dyn Conduct>) -> ExitCode {
    let cli = Cli::parse();
    if let Command::Worker { kind, time_ms } = cli.command {
        return match run_child(kind, Duration::from_millis(time_ms)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                Out { json: false }.error(&anyhow::Error::new(error));
                ExitCode::FAILURE
            }
        };
    }
    let out = Out { json: cli.json };
    let is_doctor = matches!(cli.command, Command::Doctor(_));
    match run(cli, out, conduct) {
        Ok(code) => code,
        Err(error) => {
            out.error(&error);
            let not_running = error
                .chain()
                .any(|cause| matches!(cause.downcast_ref(), Some(ClientError::NotRunning(_))));
            // Doctor has a code of its own for what it could not look at: the same one.
            ExitCode::from(if not_running || is_doctor { NOT_RUNNING } else { 1 })
        }
    }
}

/// What every command gets.
struct Session {
    data: DataDir,
    out: Out,
}

impl Session {
    fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.data.config())?)
    }
}

fn run(cli: Cli, out: Out, conduct: Arc<dyn Conduct>) -> anyhow::Result<ExitCode> {
    let data = DataDir::find(cli.data_dir.as_deref())?;
    let session = Session { data, out };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let done = |()| ExitCode::SUCCESS;
    let code = match cli.command {
        Command::Up(args) => up::up(&session, args, conduct, &runtime).map(done),
        Command::Status(which) => runtime.block_on(running::status(&session, &which)).map(done),
        Command::Pause(which) => {
            runtime.block_on(running::mode(&session, "pause", &which)).map(done)
        }
        Command::Resume(which) => {
            runtime.block_on(running::mode(&session, "resume", &which)).map(done)
        }
        Command::Stop => {
            let all = Which { network: None };
            runtime.block_on(running::mode(&session, "stop", &all)).map(done)
        }
        Command::Finish(which) => {
            runtime.block_on(running::mode(&session, "finish", &which)).map(done)
        }
        Command::Identity(command) => identity::identity(&session, command).map(done),
        Command::Network(command) => network::network(&session, command, &runtime).map(done),
        Command::Model(command) => {
            runtime.block_on(Box::pin(model::model(&session, command))).map(done)
        }
        Command::Receipts { which, task, max } => {
            runtime.block_on(receipts::receipts(&session, &which, task, max)).map(done)
        }
        Command::Earnings(which) => runtime.block_on(money::earnings(&session, &which)).map(done),
        Command::Claim(args) => runtime.block_on(money::claim(&session, args)).map(done),
        Command::Config(command) => settings::config(&session, command).map(done),
        Command::Logs { lines, follow } => settings::logs(&session, lines, follow).map(done),
        Command::Audit(args) => runtime.block_on(audit::audit(&session, args)),
        Command::Doctor(args) => runtime.block_on(Box::pin(doctor::doctor(&session, args))),
        Command::Worker { .. } => Ok(ExitCode::SUCCESS),
    };
    // Blocking reads of a terminal or parent must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

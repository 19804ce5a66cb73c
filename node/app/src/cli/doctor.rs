//! `openledger doctor`.

use std::process::ExitCode;

use openledger_web::doctor::Report;

use super::Session;
use super::args::DoctorArgs;
use crate::doctor::Doctor;
use crate::worker::Program;

/// What its `--help` says about exit codes and JSON.
pub(super) const AFTER_HELP: &str = "\
Exit codes: 0 all is well, 1 warnings only, 2 something stops the node or keeps it from its work \
(or wrong usage), 3 doctor itself failed.
With --json: {\"worst\", \"checks\": [{\"code\", \"network\", \"ok\", \"severity\", \"found\", \
\"cause\", \"mend\"}]}; codes are stable, severity is fine, skipped, warning, error or broken.
Nothing is changed: do what `mend` says, and run it again.";

/// `openledger doctor`: the exit code says how bad it is.
pub(super) async fn doctor(session: &Session, args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut doctor = Doctor::new(session.data.clone(), args.network);
    // Without this program's file nothing is looked for.
    if let Ok(program) = Program::current() {
        doctor = doctor.with(program);
    }
    let report = doctor.examine().await;
    session.out.show(&report, Report::text)?;
    Ok(ExitCode::from(report.exit_code()))
}

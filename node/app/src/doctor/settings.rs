//! The configuration, and the limit of open files.

use openledger_web::doctor::Finding;
use rustix::process::{Resource, getrlimit};

use crate::config::{Config, ConfigError};
use crate::data_dir::DataDir;
use crate::limits;

/// The configuration, or the default one with what is wrong.
pub(super) fn config(data: &DataDir) -> (Config, Finding) {
    const CODE: &str = "config";
    let path = data.config();
    let error = match Config::load(&path) {
        Ok(config) => {
            let found = if path.is_file() {
                format!("{} reads well", path.display())
            } else {
                "none, so all values are at their defaults".to_owned()
            };
            return (config, Finding::fine(CODE, found));
        }
        Err(error) => error,
    };
    let mend = match &error {
        ConfigError::Value { key, place, .. } => {
            format!("correct or remove {key} in {place}; the cause names what is known")
        }
        ConfigError::Unfit { key, remedy, .. } => {
            format!("{remedy}: `openledger config set {key} VALUE`")
        }
        _ => format!(
            "mend that line in {0}, or move {0} away to start from defaults",
            path.display()
        ),
    };
    let found = "the configuration is not usable; the node does not start with it";
    (Config::default(), Finding::error(CODE, found, format!("failed to {error}"), mend))
}

/// How many files and sockets this user's processes may have open.
pub(super) fn open_files() -> Finding {
    judge_open_files(getrlimit(Resource::Nofile).current)
}

fn judge_open_files(limit: Option<u64>) -> Finding {
    const CODE: &str = "open-files";
    let Some(limit) = limit else { return Finding::fine(CODE, "no limit") };
    let (least, wanted) = (limits::OPEN_FILES_MIN, limits::OPEN_FILES_WANTED);
    let found = format!("{limit} files and sockets may be open at a time");
    let cause = format!("the limit of this user or service is low; {wanted} are wanted");
    let mend = format!(
        "`ulimit -n {wanted}` before the start, or `LimitNOFILE={wanted}` in the systemd unit"
    );
    match limit {
        _ if limit < least => Finding::error(CODE, found, cause, mend),
        _ if limit < wanted => Finding::warning(CODE, found, cause, mend),
        _ => Finding::fine(CODE, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_web::doctor::Severity;

    #[test]
    fn a_low_limit_of_open_files_is_told() {
        let severity = |limit| judge_open_files(limit).severity;
        assert_eq!(severity(None), Severity::Fine);
        assert_eq!(severity(Some(64)), Severity::Error);
        assert_eq!(severity(Some(limits::OPEN_FILES_MIN)), Severity::Warning);
        assert_eq!(severity(Some(limits::OPEN_FILES_WANTED)), Severity::Fine);
    }
}

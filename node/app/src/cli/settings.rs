//! `openledger config` and `openledger logs`.

use std::time::Duration;

use serde_json::json;

use super::Session;
use super::args::ConfigCommand;
use crate::config;
use crate::logs::tail;

/// `openledger config show|set|path`.
pub(super) fn config(session: &Session, command: ConfigCommand) -> anyhow::Result<()> {
    let path = session.data.config();
    match command {
        ConfigCommand::Path => {
            session.out.show(&json!({ "path": path }), |_| path.display().to_string())
        }
        ConfigCommand::Show => {
            let config = session.config()?.shown();
            let toml = config.to_toml()?;
            session.out.show(&config, |_| toml)
        }
        ConfigCommand::Set { key, value } => {
            session.data.make("")?;
            let config = config::set(&path, &key, &value)?.shown();
            session.out.show(&config, |_| {
                format!("{key} is set in {}; it holds from the next start on", path.display())
            })
        }
    }
}

/// `openledger logs`.
pub(super) fn logs(session: &Session, lines: usize, follow: bool) -> anyhow::Result<()> {
    let path = session.data.log();
    let mut last = tail(&path, lines)?;
    show(session, &last)?;
    if !follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = tail(&path, 1_000)?;
        let seen = last.last().and_then(|line| now.iter().rposition(|other| other == line));
        let new = now.get(seen.map_or(0, |at| at + 1)..).unwrap_or_default();
        if !new.is_empty() {
            show(session, new)?;
            last = now;
        }
    }
}

fn show(session: &Session, lines: &[String]) -> anyhow::Result<()> {
    if session.out.json {
        return session.out.json(&lines);
    }
    if lines.is_empty() { Ok(()) } else { session.out.text(&lines.join("\n")) }
}

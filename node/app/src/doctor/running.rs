//! Whether a node runs with this folder.

use std::path::Path;

use openledger_web::doctor::Finding;
use serde_json::Value;

use super::machine::Machine;
use crate::control::{Client, ClientError};
use crate::data_dir::DataDir;
use crate::limits;
use crate::serving::EngineView;

const CODE: &str = "running";

/// A node that runs and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    /// Its process.
    pub(super) pid: u32,
    /// What it says of itself, as any version says it.
    pub(super) status: Value,
}

impl Running {
    /// Whether its link in this network is up.
    pub(super) fn is_linked(&self, network: &str) -> bool {
        self.link(network).and_then(|link| link.get("connected")?.as_bool()).unwrap_or_default()
    }

    /// Why its link in this network is down, by its own account.
    pub(super) fn link_problem(&self, network: &str) -> Option<String> {
        Some(self.link(network)?.get("problem")?.as_str()?.to_owned())
    }

    /// Its clock less the coordinator's, when it last connected.
    pub(super) fn clock_ahead_ms(&self, network: &str) -> Option<i64> {
        let link = self.link(network).filter(|_| self.is_linked(network))?;
        link.get("clock_ahead_ms")?.as_i64()
    }

    /// Its connected peers.
    pub(super) fn peers(&self, network: &str) -> u64 {
        self.part(network).and_then(|part| part.get("peers")?.as_u64()).unwrap_or_default()
    }

    /// What answers calls, by its own account; nothing of a node of an older version.
    pub(super) fn engine(&self) -> Option<EngineView> {
        let own = self.status.get("engine");
        let first = || self.status.get("networks")?.as_array()?.first()?.get("engine");
        let engine: EngineView = serde_json::from_value(own.or_else(first)?.clone()).ok()?;
        (!engine.backend.is_empty()).then_some(engine)
    }

    fn link(&self, network: &str) -> Option<&Value> {
        self.part(network)?.get("link")
    }

    /// The part of its status that is about a network: all of it, or one of a list.
    fn part(&self, network: &str) -> Option<&Value> {
        let is_it = |part: &Value| part.get("network").and_then(Value::as_str) == Some(network);
        if is_it(&self.status) {
            return Some(&self.status);
        }
        self.status.get("networks")?.as_array()?.iter().find(|part| is_it(part))
    }
}

/// Asks over the control API, as `status` does.
pub(super) async fn ask(data: &DataDir, machine: &Machine) -> (Option<Running>, Finding) {
    let none = || Finding::fine(CODE, "no node runs with this folder");
    let client = match Client::of(data) {
        Ok(client) => client,
        Err(ClientError::NotRunning(_)) => return (None, none()),
        Err(error) => {
            let found = "not known: control.json does not read";
            let mend = format!(
                "stop the node if it runs, then remove {}; it is made anew at each start",
                data.control().display()
            );
            return (None, Finding::warning(CODE, found, format!("failed to {error}"), mend));
        }
    };
    let pid = client.control().pid;
    let asked = client.get::<Value>("status");
    let answer = tokio::time::timeout(limits::DOCTOR_PROBE_TIME_MAX, asked).await;
    let reason = match answer {
        Ok(Ok(status)) => {
            let found = format!("a node runs with this folder (process {pid}) and answers");
            return (Some(Running { pid, status }), Finding::fine(CODE, found));
        }
        Ok(Err(ClientError::NotRunning(_))) if !is_node(&machine.proc, pid) => {
            return (None, none());
        }
        Ok(Err(error)) => format!("failed to {error}"),
        Err(_) => {
            let ms = limits::DOCTOR_PROBE_TIME_MAX.as_millis();
            format!("its control API gave no answer within {ms} ms")
        }
    };
    let found = format!("a node may run with this folder (process {pid}), but does not answer");
    let mend = format!(
        "look at `openledger logs`; if it hangs, `kill -9 {pid}` and start it again: nothing that was promised is lost"
    );
    (None, Finding::warning(CODE, found, reason, mend))
}

/// Whether the process is one of this program: numbers are used again.
fn is_node(proc: &Path, pid: u32) -> bool {
    let name = Machine::text(&proc.join(pid.to_string()).join("comm"));
    name.is_some_and(|name| name.starts_with("openledger"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_with_one_network_or_several_is_understood() {
        let one =
            json!({"network": "a", "link": {"connected": true, "clock_ahead_ms": -7}, "peers": 3});
        let running = Running { pid: 1, status: one.clone() };
        assert!(running.is_linked("a") && !running.is_linked("b"));
        assert_eq!((running.peers("a"), running.clock_ahead_ms("a")), (3, Some(-7)));
        let down = json!({"network": "b", "link": {"connected": false, "problem": "reach it"}});
        let running = Running { pid: 1, status: json!({"networks": [one, down]}) };
        assert!(running.is_linked("a") && !running.is_linked("b"));
        assert_eq!(running.link_problem("b").as_deref(), Some("reach it"));
        assert_eq!(running.clock_ahead_ms("b"), None);
    }
}

//! What was done to a network, in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use openledger_wire::UnixMs;

use super::streams::Calls;

/// What was done, and how the processes took it.
#[derive(Clone, Debug, Default)]
pub struct Injected {
    /// The seed of it all.
    pub seed: u64,
    /// Processes killed, by what they are.
    pub kills: BTreeMap<&'static str, u64>,
    /// From each restart to the first answer.
    pub restarts: Vec<(String, Duration)>,
    /// When each node was started again the last time.
    pub up_since: BTreeMap<String, UnixMs>,
    /// The longest time that the coordinator was away.
    pub away: Duration,
    /// How often the chain took blocks back.
    pub reorganisations: u64,
    /// Posted roots among what it took back.
    pub roots_taken_back: u64,
    /// How often the chain did not answer.
    pub silences: u64,
    /// How often a node's disk was full.
    pub full_disks: u64,
    /// How often the node did not name the cause.
    pub full_disks_silent: u64,
    /// How often the node's process ended by it.
    pub full_disks_ended: u64,
    /// How often the node did not say that there is room, once there was.
    pub full_disks_lasting: u64,
    /// Model files cut short.
    pub files_cut: u64,
    /// Of these, not named by their nodes.
    pub files_unnamed: u64,
    /// From each cut to the file being whole again; `None` where it did not come to that.
    pub files_mended: Vec<Option<Duration>>,
    /// What callers saw.
    pub calls: Calls,
}

impl Injected {
    /// All kills.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.kills.values().sum()
    }

    /// The longest restart of processes whose name begins so.
    #[must_use]
    pub fn slowest(&self, name: &str) -> Option<Duration> {
        let of = self.restarts.iter().filter(|(process, _)| process.starts_with(name));
        of.map(|(_, took)| *took).max()
    }

    pub(super) fn count(&mut self, kind: &'static str) {
        *self.kills.entry(kind).or_default() += 1;
    }
}

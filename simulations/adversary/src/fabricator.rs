//! Writes fluent text in place of fetching and refining: always, or on a third of its tasks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use openledger_app::conduct::{Conduct, Shortcut};
use openledger_wire::link::LeasedTask;
use openledger_wire::proof::{Proof, proof_id};
use openledger_wire::task::{FetchTask, RefineTask, TaskKind};
use openledger_wire::{Envelope, NetworkId, NodeKey, TaskId, decode, limits as wire_limits};

use crate::cheats::Cheats;
use crate::invent::Inventor;
use crate::limits;

/// How often a fabricator fabricates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Every task.
    Always,
    /// Each third task of a kind; honest work builds up trust in between.
    Sometimes,
}

/// A node that invents its results.
#[derive(Debug)]
pub struct Fabricator {
    habit: Habit,
    inventor: Inventor,
    cheats: Cheats,
    decided: Mutex<Decisions>,
}

#[derive(Debug, Default)]
struct Decisions {
    by_lease: BTreeMap<(TaskId, u8), bool>,
    seen: BTreeMap<u8, u64>,
}

impl Fabricator {
    /// A fabricator with this habit.
    #[must_use]
    pub fn new(habit: Habit, inventor: Inventor, cheats: Cheats) -> Self {
        Self { habit, inventor, cheats, decided: Mutex::default() }
    }

    /// Whether it cheats on a lease: decided once, when the lease is first worked on.
    fn cheats_on(&self, leased: &LeasedTask) -> bool {
        if self.habit == Habit::Always {
            return true;
        }
        let key = (leased.lease.task, leased.lease.wave);
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cheats) = decided.by_lease.get(&key) {
            return *cheats;
        }
        let seen = decided.seen.entry(leased.spec.kind.code()).or_default();
        *seen += 1;
        let cheats = seen.is_multiple_of(limits::CHEAT_EVERY);
        decided.by_lease.insert(key, cheats);
        cheats
    }

    fn cheated_on(&self, proof: &Proof) -> bool {
        if self.habit == Habit::Always {
            return true;
        }
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        decided.by_lease.get(&(proof.task, proof.wave)).copied().unwrap_or(false)
    }
}

impl Conduct for Fabricator {
    fn shortcut(&self, leased: &LeasedTask) -> Option<Shortcut> {
        if !self.cheats_on(leased) {
            return None;
        }
        Some(invented(&self.inventor, leased).unwrap_or_else(Shortcut::Decline))
    }

    fn proof(&self, honest: Envelope, _: &NodeKey, network: NetworkId) -> Option<Envelope> {
        let proof = honest.open::<Proof>(network).ok()?.value;
        if self.cheated_on(&proof) {
            self.cheats.note(proof_id(&honest), &proof, "invented text").ok()?;
        }
        Some(honest)
    }
}

/// An invented result for a lease, or why there is none.
pub(crate) fn invented(inventor: &Inventor, leased: &LeasedTask) -> Result<Shortcut, String> {
    let (body, max) = (&leased.spec.body, wire_limits::TASK_BODY_MAX);
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match leased.spec.kind {
        TaskKind::Fetch => {
            let task: FetchTask = decode(body, max).map_err(|error| text(&error))?;
            let page = inventor.page(&task.url).map_err(|error| text(&error))?;
            Ok(Shortcut::Fetched(Box::new(page)))
        }
        TaskKind::Refine => {
            let task: RefineTask = decode(body, max).map_err(|error| text(&error))?;
            let (output, document) = inventor.document(&task.url).map_err(|error| text(&error))?;
            Ok(Shortcut::Refined(output, document))
        }
        kind => Err(format!("nothing to invent for {} tasks", kind.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::log::{Lease, Role};
    use openledger_wire::task::TaskSpec;
    use openledger_wire::{Blob, BlobId, CampaignId, List, NodeId, Round, Text, UnixMs, encode};

    fn leased(kind: TaskKind, nonce: u8) -> LeasedTask {
        let url = Text::clipped("http://docs01.devnet/a.html");
        let body = match kind {
            TaskKind::Fetch => encode(&FetchTask { url }),
            _ => encode(&RefineTask {
                url,
                status: 200,
                content_type: Text::default(),
                page: BlobId::ZERO,
                page_bytes: 1,
                profile: [0; 32],
            }),
        };
        let body = Blob::new(body.unwrap()).unwrap();
        let (campaign, value_permille) = (CampaignId::ZERO, 1_000);
        let nonce = u64::from(nonce);
        let spec = TaskSpec { campaign, kind, version: 1, nonce, value_permille, body };
        let task = TaskId([u8::try_from(nonce).unwrap(); 32]);
        let lease = Lease {
            task,
            wave: 0,
            node: NodeId([1; 32]),
            role: Role::Replica,
            deadline: UnixMs(1),
        };
        LeasedTask {
            lease,
            round: Round(1),
            spec,
            holders: List::default(),
            backend: None,
            answer: None,
        }
    }

    fn fabricator(habit: Habit) -> (Fabricator, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let cheats = Cheats::open(&folder.path().join("cheats.jsonl")).unwrap();
        (Fabricator::new(habit, Inventor::new([1; 32]), cheats), folder)
    }

    #[test]
    fn always_means_always() {
        let (fabricator, _folder) = fabricator(Habit::Always);
        for n in 0..5 {
            let fetched = fabricator.shortcut(&leased(TaskKind::Fetch, n));
            assert!(matches!(fetched, Some(Shortcut::Fetched(_))));
            let refined = fabricator.shortcut(&leased(TaskKind::Refine, n));
            assert!(matches!(refined, Some(Shortcut::Refined(..))));
        }
    }

    #[test]
    fn sometimes_is_a_third_of_each_kind_and_never_changes_its_mind() {
        let (fabricator, _folder) = fabricator(Habit::Sometimes);
        for kind in [TaskKind::Fetch, TaskKind::Refine] {
            let cheats = |n| fabricator.shortcut(&leased(kind, n)).is_some();
            let first: Vec<bool> = (0..30).map(cheats).collect();
            assert_eq!(first.iter().filter(|cheats| **cheats).count(), 10);
            let base = if kind == TaskKind::Fetch { &first } else { continue };
            assert_eq!((0..30).map(cheats).collect::<Vec<_>>(), *base);
        }
    }
}

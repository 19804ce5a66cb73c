//! From a campaign's tasks to closed sets of commitments: seal, beacon, leases, closing.

use std::collections::{BTreeMap, BTreeSet};

use openledger_wire::log::{Closed, Entry, Leases, RoundSeal, TaskBatch};
use openledger_wire::task::{Campaign, TaskKind, TaskSpec};
use openledger_wire::{NodeId, Points, TaskId, UnixMs};

use super::apply::{differs, not_allowed};
use super::judge::Judgement;
use super::{ApplyError, CampaignRecord, ClosedWave, Judge, Sealed, State, TaskRecord, Wave};
use crate::beacon;

impl State {
    pub(super) fn apply_campaign(
        &mut self,
        entry: &Entry,
        campaign: &Campaign,
    ) -> Result<(), ApplyError> {
        let id = campaign.id(self.setup.network)?;
        if self.campaigns.contains_key(&id) {
            return Err(not_allowed(entry, "campaign", &"it is already there"));
        }
        let record = CampaignRecord { campaign: campaign.clone(), spent: Points::ZERO, tasks: 0 };
        self.campaigns.insert(id, record);
        Ok(())
    }

    pub(super) fn apply_tasks(
        &mut self,
        entry: &Entry,
        batch: &TaskBatch,
    ) -> Result<(), ApplyError> {
        let mut fresh = BTreeSet::new();
        for spec in &batch.tasks {
            let id = spec.id(self.setup.network)?;
            if self.tasks.contains_key(&id) || !fresh.insert(id) {
                return Err(not_allowed(entry, "task", &format!("{id} is already there")));
            }
            if let Some(why) = self.task_fault(spec) {
                return Err(not_allowed(entry, "task", &why));
            }
        }
        for spec in &batch.tasks {
            let id = spec.id(self.setup.network)?;
            if let Some(campaign) = self.campaigns.get_mut(&spec.campaign) {
                campaign.tasks = campaign.tasks.saturating_add(1);
            }
            self.derived.retain(|derived| derived != spec);
            let order = self.tasks_logged;
            self.tasks_logged = self.tasks_logged.saturating_add(1);
            self.active.insert(order, id);
            self.tasks.insert(id, TaskRecord::new(spec.clone(), order, entry.at));
        }
        Ok(())
    }

    /// Why a task may not be logged: its campaign is unknown, or it is of a kind that the rules
    /// assign and asks for what nobody could deliver. Kinds that they do not assign wait.
    #[must_use]
    pub fn task_fault(&self, spec: &TaskSpec) -> Option<&'static str> {
        if !self.campaigns.contains_key(&spec.campaign) {
            return Some("its campaign is unknown");
        }
        let infer = self.setup.rules.infer.as_ref().filter(|_| spec.kind == TaskKind::Infer)?;
        let why = "its body is not an infer task of version 1, or it asks for no tokens or more \
                   than the rule set allows";
        infer.asked(spec).is_none().then_some(why)
    }

    /// The seal that the rules give for a round at `at`, with what it seals.
    #[must_use]
    pub fn seal(
        &self,
        round: openledger_wire::Round,
        at: UnixMs,
        judge: &dyn Judge,
    ) -> (RoundSeal, Sealed) {
        let set = self.node_set(at);
        let draws = self.draws(at, set.rows().len(), judge);
        let seal = RoundSeal {
            round,
            node_set: set.root(),
            nodes: u32::try_from(set.rows().len()).unwrap_or(u32::MAX),
            open_tasks: u32::try_from(draws.len()).unwrap_or(u32::MAX),
        };
        (seal, Sealed { round, at, set, draws, beacon: None })
    }

    pub(super) fn apply_seal(
        &mut self,
        entry: &Entry,
        seal: &RoundSeal,
        judge: &dyn Judge,
    ) -> Result<(), ApplyError> {
        if self.sealed.is_some() || self.round.is_some_and(|last| seal.round <= last) {
            return Err(not_allowed(entry, "round", &"another round is open or later"));
        }
        if seal.round > self.round(entry.at) {
            return Err(not_allowed(entry, "round", &"it has not begun"));
        }
        let (computed, sealed) = self.seal(seal.round, entry.at, judge);
        if computed != *seal {
            return Err(differs(entry, "round", seal, &computed));
        }
        self.sealed = Some(sealed);
        self.finish_silent(entry.at, judge);
        Ok(())
    }

    /// Ends tasks of which nobody revealed anything: there is no proof to give a verdict about.
    fn finish_silent(&mut self, at: UnixMs, judge: &dyn Judge) {
        let silent = |id: &TaskId| {
            let task = self.tasks.get(id)?;
            match self.judgement(task, at, judge)? {
                Judgement::Final { rows, .. } if rows.is_empty() => Some(*id),
                _ => None,
            }
        };
        let ids: Vec<TaskId> = self.active.values().filter_map(silent).collect();
        for id in ids {
            self.finish(id, None);
        }
    }

    pub(super) fn apply_beacon(
        &mut self,
        entry: &Entry,
        value: &openledger_wire::log::Beacon,
    ) -> Result<(), ApplyError> {
        let (source, chain) = (&self.setup.beacon, self.setup.chain_id);
        let Some(sealed) = self.sealed.as_mut().filter(|sealed| sealed.beacon.is_none()) else {
            return Err(not_allowed(entry, "beacon", &"no round waits for one"));
        };
        if value.round != sealed.round {
            return Err(not_allowed(entry, "beacon", &"it is for another round"));
        }
        beacon::verify(source, chain, self.setup.network, value, sealed.at)
            .map_err(|e| not_allowed(entry, "beacon", &e))?;
        sealed.beacon = Some(value.clone());
        Ok(())
    }

    pub(super) fn apply_leases(
        &mut self,
        entry: &Entry,
        leases: &Leases,
    ) -> Result<(), ApplyError> {
        let ready =
            self.sealed.take_if(|sealed| sealed.beacon.is_some() && sealed.round == leases.round);
        let Some((sealed, beacon)) = ready.and_then(|s| Some((s.clone(), s.beacon?))) else {
            return Err(not_allowed(entry, "leases", &"no beacon was drawn for this round"));
        };
        let computed = self.leases(&sealed, &beacon, entry.at);
        if computed[..] != leases.rows[..] {
            return Err(differs(entry, "leases", &leases.rows.len(), &computed.len()));
        }
        let mut by_task: BTreeMap<TaskId, BTreeMap<NodeId, UnixMs>> = BTreeMap::new();
        for lease in &computed {
            by_task.entry(lease.task).or_default().insert(lease.node, lease.deadline);
            if let Some(node) = self.nodes.get_mut(&lease.node) {
                node.open_leases = node.open_leases.saturating_add(1);
            }
        }
        for draw in &sealed.draws {
            let hit = !draw.check
                || self.tasks.get(&draw.task).is_some_and(|t| self.check_hits(t, draw, &beacon));
            let leases = by_task.remove(&draw.task).unwrap_or_default();
            let nobody = hit && leases.is_empty() && self.nobody_left(&sealed, draw, &beacon);
            let Some(task) = self.tasks.get_mut(&draw.task) else { continue };
            if draw.check {
                task.checked = Some(hit);
            }
            if leases.is_empty() {
                // A task that nobody ever had waits for nodes; one whose nodes are busy, for them.
                task.exhausted |= nobody && !task.waves.is_empty();
            } else {
                let (role, round) = (draw.role, sealed.round);
                task.waves.push(Wave { role, round, at: entry.at, leases, closed: None });
            }
        }
        self.round = Some(leases.round);
        Ok(())
    }

    pub(super) fn apply_closed(
        &mut self,
        entry: &Entry,
        closed: &Closed,
    ) -> Result<(), ApplyError> {
        for set in &closed.sets {
            let refuse =
                |why: &str| not_allowed(entry, "closed set", &format!("{}: {why}", set.task));
            let task = self.tasks.get_mut(&set.task).ok_or_else(|| refuse("unknown task"))?;
            let wave = task
                .waves
                .get_mut(usize::from(set.wave))
                .filter(|wave| wave.closed.is_none())
                .ok_or_else(|| refuse("no such open wave"))?;
            let commits: BTreeMap<_, _> = set.commits.iter().copied().collect();
            let named =
                commits.len().saturating_add(set.absent.len()).saturating_add(set.declined.len());
            let all: BTreeSet<NodeId> = commits
                .keys()
                .chain(set.absent.iter())
                .chain(set.declined.iter())
                .copied()
                .collect();
            if named != wave.leases.len() || !all.iter().eq(wave.leases.keys()) {
                return Err(refuse("it does not name exactly the nodes with a lease"));
            }
            let early = |node: &NodeId| wave.leases.get(node).is_some_and(|end| entry.at < *end);
            if set.absent.iter().any(early) {
                return Err(refuse("it calls a node absent before its deadline"));
            }
            let (height, at) = (entry.height, entry.at);
            wave.closed = Some(ClosedWave { height, at, commits, set: set.clone() });
            for id in all {
                let Some(node) = self.nodes.get_mut(&id) else { continue };
                node.open_leases = node.open_leases.saturating_sub(1);
                if set.absent.contains(&id) {
                    node.weight_milli /= 2;
                }
            }
        }
        Ok(())
    }
}

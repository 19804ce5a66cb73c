//! What must be drawn at a seal, and who a beacon draws.

use std::collections::BTreeMap;

use openledger_wire::log::{Beacon, Lease, Role};
use openledger_wire::task::TaskKind;
use openledger_wire::{NodeId, TaskId, UnixMs};

use super::judge::Judgement;
use super::{Judge, Sealed, State, TaskRecord};
use crate::assign::{self, Constraints};
use crate::nodeset::{NodeRow, NodeSet};

/// One draw: nodes wanted for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The task.
    pub task: TaskId,
    /// The wave that the drawn nodes will form.
    pub wave: u8,
    /// How many.
    pub want: u8,
    /// Why.
    pub role: Role,
    /// Whether the beacon first decides if there is a check at all.
    pub check: bool,
}

impl State {
    /// Nodes that may be drawn at `at`: valid delegation, not revoked, enough weight.
    #[must_use]
    pub fn node_set(&self, at: UnixMs) -> NodeSet {
        let rules = &self.setup.rules;
        let rows = self.nodes.iter().filter(|(id, record)| {
            let serial = record.member.delegation.serial;
            let revoked = self.revoked.get(id).is_some_and(|upto| serial <= *upto);
            !revoked
                && record.weight_milli >= rules.weight_min_milli
                && record.member.delegation.holds_at(at)
        });
        let rows = rows.map(|(id, record)| NodeRow {
            node: *id,
            account: record.member.account,
            weight_milli: record.weight_milli,
            vetted: record.vetted(rules.vetting_accepted),
            whereabouts: record.whereabouts,
            cohort: record.cohort,
            founding: record.founding,
        });
        NodeSet::new(rows)
    }

    /// What the unfinished tasks need at `at`, in the order of the log, up to what the nodes can
    /// take.
    #[must_use]
    pub fn draws(&self, at: UnixMs, nodes: usize, judge: &dyn Judge) -> Vec<Draw> {
        let per_node = self.setup.rules.leases_per_node as usize;
        let busy: usize = self.nodes.values().map(|node| node.open_leases as usize).sum();
        let mut room = nodes.saturating_mul(per_node).saturating_sub(busy);
        let mut draws = Vec::new();
        for id in self.active.values() {
            let Some(task) = self.tasks.get(id) else { continue };
            let Some(draw) = self.need(*id, task, at, judge) else { continue };
            let Some(left) = room.checked_sub(usize::from(draw.want)) else { break };
            room = left;
            draws.push(draw);
        }
        draws
    }

    fn need(&self, id: TaskId, task: &TaskRecord, at: UnixMs, judge: &dyn Judge) -> Option<Draw> {
        if task.is_exhausted() || task.done.is_some() || !task.all_closed() {
            return None;
        }
        let wave = u8::try_from(task.waves.len()).ok()?;
        let draw = |want: u8, role, check| Draw { task: id, wave, want, role, check };
        let wanted = self.replicas_wanted(task)?;
        let committed = u8::try_from(task.commits().count()).unwrap_or(u8::MAX);
        if committed < wanted {
            return Some(draw(wanted.saturating_sub(committed), Role::Replica, false));
        }
        if self.setup.rules.is_rechecked(task.spec.kind) && task.checked.is_none() {
            return (!self.awaits_class(task, at)).then(|| draw(1, Role::Auditor, true));
        }
        match self.judgement(task, at, judge) {
            Some(Judgement::Escalate(want)) => {
                let role = match task.spec.kind {
                    TaskKind::Fetch => Role::Replica,
                    _ => Role::Auditor,
                };
                Some(draw(want, role, false))
            }
            _ => None,
        }
    }

    /// Whether the check of a task must wait until it is known what class to check it in.
    fn awaits_class(&self, task: &TaskRecord, at: UnixMs) -> bool {
        let several = self.setup.rules.infer.as_ref().is_some_and(|infer| infer.lists_several());
        let deadline = task.closed_at().map(|at| at.plus_ms(self.setup.rules.reveal_ms));
        let may_come = deadline.is_some_and(|deadline| at < deadline);
        several && task.spec.kind == TaskKind::Infer && task.proofs.is_empty() && may_come
    }

    /// How many commitments a task needs before anything is judged; `None` for kinds that this
    /// rule set does not assign.
    fn replicas_wanted(&self, task: &TaskRecord) -> Option<u8> {
        match task.spec.kind {
            TaskKind::Fetch => {
                let campaign = self.campaigns.get(&task.spec.campaign)?;
                Some(campaign.campaign.replicas.clamp(2, self.setup.rules.replicas_max))
            }
            kind if self.setup.rules.is_rechecked(kind) => Some(1),
            _ => None,
        }
    }

    /// The leases that a beacon gives for a sealed round, sorted by task, wave and node, and the
    /// check draws that hit.
    #[must_use]
    pub fn leases(&self, sealed: &Sealed, beacon: &Beacon, at: UnixMs) -> Vec<Lease> {
        let deadline = at.plus_ms(self.setup.rules.lease_ms);
        let mut load: BTreeMap<NodeId, u32> =
            self.nodes.iter().map(|(id, node)| (*id, node.open_leases)).collect();
        let mut leases = Vec::new();
        for draw in &sealed.draws {
            let Some(task) = self.tasks.get(&draw.task) else { continue };
            // A late proof may have finished it since the round was sealed.
            if task.done.is_some() && self.setup.rules.leases_open_tasks_only() {
                continue;
            }
            if draw.check && !self.check_hits(task, draw, beacon) {
                continue;
            }
            for node in self.draw_nodes(sealed, draw, task, beacon, Some(&load)) {
                let held = load.entry(node).or_insert(0);
                *held = held.saturating_add(1);
                let (task, wave, role) = (draw.task, draw.wave, draw.role);
                leases.push(Lease { task, wave, node, role, deadline });
            }
        }
        leases.sort();
        leases
    }

    /// Whether the beacon asks for a check of a task's single commitment: rarer the more valid
    /// work the node has shown in this kind, never below the floor.
    #[must_use]
    pub fn check_hits(&self, task: &TaskRecord, draw: &Draw, beacon: &Beacon) -> bool {
        let floor = self.setup.rules.check_floor_permille;
        task.commits().any(|(node, _, commitment, _)| {
            let trust = self.nodes.get(&node).and_then(|n| n.trust.get(&task.spec.kind));
            let permille = trust.map_or(1_000, |trust| trust.check_permille(floor));
            assign::check_hit(&beacon.value, &draw.task, &node, &commitment, permille)
        })
    }

    /// Whether a draw would find nobody even if no node had its hands full.
    pub(super) fn nobody_left(&self, sealed: &Sealed, draw: &Draw, beacon: &Beacon) -> bool {
        let task = self.tasks.get(&draw.task);
        task.is_none_or(|task| self.draw_nodes(sealed, draw, task, beacon, None).is_empty())
    }

    fn draw_nodes(
        &self,
        sealed: &Sealed,
        draw: &Draw,
        task: &TaskRecord,
        beacon: &Beacon,
        load: Option<&BTreeMap<NodeId, u32>>,
    ) -> Vec<NodeId> {
        let seen = task.engaged();
        let code = task.spec.kind.code();
        let per_node = self.setup.rules.leases_per_node;
        let mut excluded = seen.clone();
        excluded.extend(self.nodes.iter().filter_map(|(id, node)| {
            let offers = node.member.registration.kinds.contains(&code);
            let held = load.and_then(|load| load.get(id));
            let full = held.is_some_and(|held| *held >= per_node);
            (!offers || full).then_some(*id)
        }));
        let already: Vec<NodeRow> =
            sealed.set.rows().iter().filter(|row| seen.contains(&row.node)).cloned().collect();
        let seed = assign::seed(&beacon.value, &draw.task, draw.wave);
        let count = usize::from(draw.want);
        assign::draw(&seed, &sealed.set, count, &excluded, &already, &Constraints::STRICT)
    }
}

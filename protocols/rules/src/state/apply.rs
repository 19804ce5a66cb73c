//! Applying one entry: check it, then change the state.

use std::collections::{BTreeMap, BTreeSet};

use openledger_wire::identity::{Revocation, open_binding, open_registration};
use openledger_wire::log::{
    Closed, Entry, EpochClose, Genesis, Join, Leases, Line, ReasonCode, Receipts, RoundSeal,
    TaskBatch, Verdict, VerdictRow, Verdicts, next_head,
};
use openledger_wire::proof::{FetchOutput, Proof, proof_id};
use openledger_wire::task::{Campaign, RefineTask, TaskKind, TaskSpec};
use openledger_wire::{
    Blob, Envelope, NodeId, OwnerPublic, Points, ProofId, TaskId, UnixMs, encode,
};

use super::judge::Judgement;
use super::{
    ApplyError, CampaignRecord, ClosedWave, Judge, NodeRecord, ProofRecord, Sealed, State,
    TaskRecord, Wave,
};
use crate::beacon;

/// Proofs by id, for entries that only name them.
pub trait Evidence {
    /// The signed proof.
    fn proof(&self, id: &ProofId) -> Option<Envelope>;
}

impl<F: Fn(&ProofId) -> Option<Envelope>> Evidence for F {
    fn proof(&self, id: &ProofId) -> Option<Envelope> {
        self(id)
    }
}

impl State {
    /// Checks an entry and applies it. On an error the state is unchanged in what it shows, but
    /// must not be used further: the log is broken.
    pub fn apply(
        &mut self,
        entry: &Entry,
        judge: &dyn Judge,
        evidence: &dyn Evidence,
    ) -> Result<(), ApplyError> {
        let chain = |what| Err(ApplyError::Chain { height: entry.height, what });
        if entry.height != self.next_height {
            return chain("height");
        }
        if entry.previous != self.head {
            return chain("previous head");
        }
        if entry.at < self.at {
            return chain("clock runs backwards");
        }
        if self.started == matches!(entry.line, Line::Genesis(_)) {
            return chain("the genesis comes first and once");
        }
        self.apply_line(entry, judge, evidence)?;
        self.head = next_head(self.setup.network, &self.head, &entry.to_bytes()?);
        self.next_height = self.next_height.next();
        self.at = entry.at;
        Ok(())
    }

    fn apply_line(
        &mut self,
        entry: &Entry,
        judge: &dyn Judge,
        evidence: &dyn Evidence,
    ) -> Result<(), ApplyError> {
        match &entry.line {
            Line::Genesis(genesis) => self.apply_genesis(entry, genesis),
            Line::Join(join) => self.apply_join(entry, join),
            Line::Revoke(envelope) => self.apply_revoke(entry, envelope),
            Line::Bind(envelope) => self.apply_bind(entry, envelope),
            Line::Campaign(campaign) => self.apply_campaign(entry, campaign),
            Line::Tasks(batch) => self.apply_tasks(entry, batch),
            Line::Round(seal) => self.apply_seal(entry, seal, judge),
            Line::Beacon(value) => self.apply_beacon(entry, value),
            Line::Leases(leases) => self.apply_leases(entry, leases),
            Line::Closed(closed) => self.apply_closed(entry, closed),
            Line::Receipts(receipts) => self.apply_receipts(entry, receipts, evidence),
            Line::Verdicts(verdicts) => self.apply_verdicts(entry, verdicts, judge),
            Line::Epoch(close) => self.apply_epoch(entry, close),
            Line::Posted(posted) => {
                self.posted.insert(posted.epoch);
                Ok(())
            }
        }
    }

    fn apply_genesis(&mut self, entry: &Entry, genesis: &Genesis) -> Result<(), ApplyError> {
        let expected = self.genesis()?;
        if *genesis != expected {
            return Err(differs(entry, "genesis", genesis, &expected));
        }
        self.started = true;
        Ok(())
    }

    /// The first line of this network's log.
    pub fn genesis(&self) -> Result<Genesis, ApplyError> {
        let founding = openledger_wire::List::new(self.setup.founding.clone());
        Ok(Genesis {
            network: self.setup.network,
            rule_set: self.setup.rules.id()?,
            genesis: self.setup.genesis,
            founding: founding.unwrap_or_default(),
        })
    }

    fn apply_join(&mut self, entry: &Entry, join: &Join) -> Result<(), ApplyError> {
        let member = open_registration(&join.registration, self.setup.network, entry.at)
            .map_err(|e| not_allowed(entry, "join", &e))?;
        let node = member.node;
        let serial = member.delegation.serial;
        if self.revoked.get(&node).is_some_and(|upto| serial <= *upto) {
            return Err(not_allowed(entry, "join", &"the delegation was revoked"));
        }
        self.accounts.entry(member.account).or_default();
        let start = self.setup.rules.weight_start_milli;
        let founding = self.setup.founding.contains(&node);
        let cohort = self.epoch.0;
        match self.nodes.get_mut(&node) {
            Some(known) if known.member.account != member.account => {
                return Err(not_allowed(entry, "join", &"the node belongs to another account"));
            }
            Some(known) => {
                known.whereabouts = join.whereabouts;
                known.member = member;
                known.weight_milli = known.weight_milli.max(start / 4);
            }
            None => {
                let record = NodeRecord {
                    member,
                    whereabouts: join.whereabouts,
                    cohort,
                    founding,
                    weight_milli: start,
                    accepted: 0,
                    rejected: 0,
                    trust: BTreeMap::new(),
                    open_leases: 0,
                };
                self.nodes.insert(node, record);
            }
        }
        Ok(())
    }

    fn apply_revoke(&mut self, entry: &Entry, envelope: &Envelope) -> Result<(), ApplyError> {
        let opened = envelope
            .open::<Revocation>(self.setup.network)
            .map_err(|e| not_allowed(entry, "revocation", &e))?;
        let owner = OwnerPublic(opened.signer.0);
        let known = self.nodes.get(&opened.value.node);
        if known.is_none_or(|node| node.member.owner != owner) {
            return Err(not_allowed(entry, "revocation", &"signed by another owner"));
        }
        let serial = self.revoked.entry(opened.value.node).or_insert(0);
        *serial = (*serial).max(opened.value.serial);
        Ok(())
    }

    fn apply_bind(&mut self, entry: &Entry, envelope: &Envelope) -> Result<(), ApplyError> {
        let domain = self.setup.domain;
        let binding = open_binding(envelope, self.setup.network, &domain)
            .map_err(|e| not_allowed(entry, "binding", &e))?;
        let rebind_ms = self.setup.rules.rebind_ms;
        let account = self.accounts.entry(binding.typed.account).or_default();
        if binding.typed.nonce <= account.payout_nonce {
            return Err(not_allowed(entry, "binding", &"its nonce is not above the last one"));
        }
        account.payout_nonce = binding.typed.nonce;
        let payout = binding.typed.payout;
        let agreed = match (account.payout, &binding.former_signature) {
            (None, _) => true,
            (Some(former), Some(signature)) => {
                use openledger_wire::eip712::Typed;
                binding.typed.verify(&domain, signature, &former).is_ok()
            }
            (Some(former), None) => former == payout,
        };
        if agreed {
            account.payout = Some(payout);
            account.payout_pending = None;
        } else {
            account.payout_pending = Some((entry.at.plus_ms(rebind_ms), payout));
        }
        Ok(())
    }

    fn apply_campaign(&mut self, entry: &Entry, campaign: &Campaign) -> Result<(), ApplyError> {
        let id = campaign.id(self.setup.network)?;
        if self.campaigns.contains_key(&id) {
            return Err(not_allowed(entry, "campaign", &"it is already there"));
        }
        let record = CampaignRecord { campaign: campaign.clone(), spent: Points::ZERO, tasks: 0 };
        self.campaigns.insert(id, record);
        Ok(())
    }

    fn apply_tasks(&mut self, entry: &Entry, batch: &TaskBatch) -> Result<(), ApplyError> {
        for spec in &batch.tasks {
            let id = spec.id(self.setup.network)?;
            if self.tasks.contains_key(&id) {
                return Err(not_allowed(entry, "task", &format!("{id} is already there")));
            }
            let Some(campaign) = self.campaigns.get_mut(&spec.campaign) else {
                return Err(not_allowed(entry, "task", &"its campaign is unknown"));
            };
            campaign.tasks = campaign.tasks.saturating_add(1);
            self.derived.retain(|derived| derived != spec);
            let order = self.tasks_logged;
            self.tasks_logged = self.tasks_logged.saturating_add(1);
            self.active.insert(order, id);
            self.tasks.insert(id, TaskRecord::new(spec.clone(), order, entry.at));
        }
        Ok(())
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

    fn apply_seal(
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

    fn apply_beacon(
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

    fn apply_leases(&mut self, entry: &Entry, leases: &Leases) -> Result<(), ApplyError> {
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

    fn apply_closed(&mut self, entry: &Entry, closed: &Closed) -> Result<(), ApplyError> {
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

    fn apply_receipts(
        &mut self,
        entry: &Entry,
        receipts: &Receipts,
        evidence: &dyn Evidence,
    ) -> Result<(), ApplyError> {
        if receipts.count_by != self.count_by() {
            return Err(differs(entry, "receipts", &receipts.count_by, &self.count_by()));
        }
        for row in &receipts.rows {
            let id = row.proof;
            let missing = || ApplyError::MissingEvidence { height: entry.height, proof: id };
            let envelope = evidence.proof(&id).ok_or_else(missing)?;
            let opened = envelope
                .open::<Proof>(self.setup.network)
                .map_err(|e| not_allowed(entry, "receipt", &e))?;
            let proof = opened.value;
            let same = proof_id(&envelope) == id
                && opened.signer == row.node
                && (proof.node, proof.task, proof.wave) == (row.node, row.task, row.wave);
            let account = self.nodes.get(&row.node).map(|node| node.member.account);
            let (Some(account), true) = (account, same) else {
                return Err(not_allowed(entry, "receipt", &"the proof is not what its row says"));
            };
            let refused = || not_allowed(entry, "receipt", &format!("{id}: not expected"));
            let task = self.tasks.get_mut(&row.task).ok_or_else(refused)?;
            if !task.expects(&row.node, row.wave) {
                return Err(refused());
            }
            task.proofs.insert(row.node, id);
            let count_by = receipts.count_by;
            self.proofs.insert(id, ProofRecord { proof, account, count_by, verdict: None });
        }
        Ok(())
    }

    /// The epoch in which a proof that is receipted now counts at the latest.
    #[must_use]
    pub fn count_by(&self) -> openledger_wire::Epoch {
        let later = self.setup.rules.count_by_epochs;
        openledger_wire::Epoch(self.epoch.0.saturating_add(later))
    }

    fn apply_verdicts(
        &mut self,
        entry: &Entry,
        verdicts: &Verdicts,
        judge: &dyn Judge,
    ) -> Result<(), ApplyError> {
        let number = self.verdict_number.saturating_add(1);
        if verdicts.number != number || verdicts.epoch != self.epoch {
            return Err(not_allowed(entry, "verdicts", &"number or epoch do not follow"));
        }
        let ended = entry.at >= self.epoch_end(self.epoch);
        let overdue: BTreeMap<TaskId, Vec<VerdictRow>> =
            if ended { self.overdue(self.epoch).into_iter().collect() } else { BTreeMap::new() };
        let mut by_task: BTreeMap<TaskId, Vec<VerdictRow>> = BTreeMap::new();
        for row in &verdicts.rows {
            by_task.entry(row.task).or_default().push(*row);
        }
        for (id, rows) in by_task {
            let task = self
                .tasks
                .get(&id)
                .ok_or_else(|| not_allowed(entry, "verdicts", &format!("{id} is unknown")))?;
            let winner = match self.judgement(task, entry.at, judge) {
                Some(Judgement::Final { rows: computed, winner }) if computed == rows => winner,
                _ if overdue.get(&id) == Some(&rows) => None,
                other => return Err(differs(entry, "verdicts", &rows, &other)),
            };
            for row in &rows {
                self.count(row);
            }
            self.finish(id, winner);
        }
        self.verdict_number = number;
        Ok(())
    }

    /// Lets a verdict count: points, trust, weight.
    fn count(&mut self, row: &VerdictRow) {
        let epoch = self.epoch;
        self.epoch_verdicts.insert(row.proof, (row.verdict.code(), row.points.0));
        let Some(record) = self.proofs.get_mut(&row.proof) else { return };
        record.verdict = Some((row.verdict, row.reason, row.points, epoch));
        let kind = record.proof.body.kind;
        let account = self.accounts.entry(record.account).or_default();
        let Some(node) = self.nodes.get_mut(&row.node) else { return };
        let trust = node
            .trust
            .entry(kind)
            .or_insert_with(|| crate::assign::TrustRecord::new(self.setup.rules.trust_required));
        match row.verdict {
            Verdict::Accepted => {
                trust.on_valid();
                node.accepted = node.accepted.saturating_add(1);
                let grown = node.weight_milli.saturating_add(self.setup.rules.weight_step_milli);
                node.weight_milli = grown.min(self.setup.rules.weight_max_milli);
                account.accepted = account.accepted.saturating_add(1);
                account.queue.award(epoch, row.points, account.accepted);
                if let Some(task) = self.tasks.get(&row.task)
                    && let Some(campaign) = self.campaigns.get_mut(&task.spec.campaign)
                {
                    campaign.spent = Points(campaign.spent.0.saturating_add(row.points.0));
                }
            }
            Verdict::Rejected => {
                trust.on_catch();
                node.rejected = node.rejected.saturating_add(1);
                node.weight_milli /= 2;
                if is_proven(row.reason) {
                    let lost = account.queue.forfeit();
                    account.forfeited = Points(account.forfeited.0.saturating_add(lost.0));
                }
            }
            Verdict::Inconclusive => {}
        }
    }

    /// Ends a task; whoever committed and never revealed loses trust and weight.
    fn finish(&mut self, id: TaskId, winner: Option<ProofId>) {
        let epoch = self.epoch;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.done = Some(epoch);
        task.accepted = winner.is_some();
        self.active.remove(&task.order);
        let kind = task.spec.kind;
        let silent: Vec<NodeId> = task
            .commits()
            .map(|(node, ..)| node)
            .filter(|node| !task.proofs.contains_key(node))
            .collect();
        for node in silent {
            let Some(node) = self.nodes.get_mut(&node) else { continue };
            node.weight_milli /= 2;
            if let Some(trust) = node.trust.get_mut(&kind) {
                trust.on_catch();
            }
        }
        if kind == TaskKind::Fetch
            && let Some(winner) = winner
        {
            self.derive_refine(id, winner);
        }
    }

    /// An accepted page calls for a refine task; its input is at those who fetched these bytes.
    fn derive_refine(&mut self, id: TaskId, winner: ProofId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let page_of =
            |proof: &ProofId| self.proofs.get(proof)?.proof.body.read::<FetchOutput>().ok();
        let Some(page) = page_of(&winner) else { return };
        if page.status != 200 || page.page_bytes == 0 || self.holders.contains_key(&page.page) {
            return;
        }
        let accepted = |proof: &ProofId| {
            let verdict = self.proofs.get(proof).and_then(|record| record.verdict);
            verdict.is_some_and(|(verdict, ..)| verdict == Verdict::Accepted)
        };
        let same = |proof: &ProofId| page_of(proof).is_some_and(|p| p.page == page.page);
        let holders = task.proofs.iter().filter(|(_, proof)| accepted(proof) && same(proof));
        let holders: Vec<NodeId> = holders.map(|(node, _)| *node).collect();
        let body = RefineTask {
            url: page.final_url,
            status: page.status,
            content_type: page.content_type,
            page: page.page,
            page_bytes: page.page_bytes,
            profile: self.setup.rules.refine_profile,
        };
        let Some(body) = encode(&body).ok().and_then(|bytes| Blob::new(bytes).ok()) else { return };
        let spec = TaskSpec {
            campaign: task.spec.campaign,
            kind: TaskKind::Refine,
            version: 1,
            nonce: task.order,
            value_permille: task.spec.value_permille,
            body,
        };
        self.holders.insert(page.page, holders);
        self.derived.push(spec);
    }

    fn apply_epoch(&mut self, entry: &Entry, close: &EpochClose) -> Result<(), ApplyError> {
        if entry.at < self.epoch_end(self.epoch) {
            return Err(not_allowed(entry, "epoch close", &"the epoch has not ended"));
        }
        if !self.overdue(self.epoch).is_empty() {
            return Err(not_allowed(entry, "epoch close", &"receipted proofs wait for a verdict"));
        }
        let (computed, accounts) =
            self.close(entry.at).map_err(|e| not_allowed(entry, "epoch close", &e))?;
        if computed != *close {
            return Err(differs(entry, "epoch close", &close.root, &computed.root));
        }
        let leaves =
            super::close::leaves(&accounts).map_err(|e| not_allowed(entry, "epoch close", &e))?;
        self.settled.insert(close.epoch, leaves);
        while self.settled.len() > super::SETTLED_KEPT {
            self.settled.pop_first();
        }
        self.accounts = accounts;
        self.epoch_verdicts.clear();
        self.last_close = Some(computed);
        self.epoch = self.epoch.next();
        self.prune();
        Ok(())
    }

    /// Forgets finished tasks past the dispute time; the log and its bundles keep them.
    fn prune(&mut self) {
        let (epoch, keep) = (self.epoch.0, self.setup.rules.keep_epochs);
        let old = |done: openledger_wire::Epoch| done.0.saturating_add(keep) < epoch;
        let gone: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.done.is_some_and(old))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let Some(task) = self.tasks.remove(&id) else { continue };
            for proof in task.proofs.values() {
                self.proofs.remove(proof);
            }
            let body = openledger_wire::decode::<RefineTask>(
                &task.spec.body,
                openledger_wire::limits::TASK_BODY_MAX,
            );
            if let (TaskKind::Refine, Ok(body)) = (task.spec.kind, body) {
                self.holders.remove(&body.page);
            }
        }
    }
}

impl TaskRecord {
    fn new(spec: TaskSpec, order: u64, at: UnixMs) -> Self {
        Self {
            spec,
            order,
            at,
            waves: Vec::new(),
            checked: None,
            exhausted: false,
            proofs: BTreeMap::new(),
            done: None,
            accepted: false,
        }
    }

    /// Whether a proof of this node for this wave is still expected.
    #[must_use]
    pub fn expects(&self, node: &NodeId, wave: u8) -> bool {
        let closed = self.waves.get(usize::from(wave)).and_then(|wave| wave.closed.as_ref());
        self.done.is_none()
            && closed.is_some_and(|closed| closed.commits.contains_key(node))
            && !self.proofs.contains_key(node)
    }
}

/// The closed list of what forfeits pending points: a reveal that does not open its commitment,
/// and output that three others, on the same fixed input, could not reproduce. A disagreement
/// about a fetched page is never on it, because a site can show one address other content.
fn is_proven(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::RevealMismatch | ReasonCode::ReexecutionDiffers)
}

fn not_allowed(entry: &Entry, line: &'static str, why: &dyn std::fmt::Display) -> ApplyError {
    ApplyError::NotAllowed { height: entry.height, line, why: why.to_string() }
}

fn differs(
    entry: &Entry,
    line: &'static str,
    logged: &dyn std::fmt::Debug,
    computed: &dyn std::fmt::Debug,
) -> ApplyError {
    let cut = |value: &dyn std::fmt::Debug| format!("{value:?}").chars().take(300).collect();
    ApplyError::Differs { height: entry.height, line, logged: cut(logged), computed: cut(computed) }
}

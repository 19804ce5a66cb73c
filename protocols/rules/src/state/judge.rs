//! From proofs to verdicts.
//!
//! Fetch: replicas agree by fingerprint; a disagreement brings in more replicas of other cohorts,
//! and then at least three must agree and be the majority. Refine: fixed input, so outputs must
//! be equal byte for byte. Infer: fixed input too, so tokens must be equal, and their likelihoods
//! within a tolerance; an answer is compared with others of its backend class, or with checks of
//! its tokens where that class is not the same bits everywhere. Two that agree suffice only where
//! nobody disagrees, because among three, two colluders would be a majority too often (2-of-3 is
//! weaker than 2-of-2).

use openledger_wire::log::{ReasonCode, Role, Verdict, VerdictRow};
use openledger_wire::proof::{FetchOutput, InferOutput, RefineOutput};
use openledger_wire::task::{FetchTask, RefineTask, TaskKind};
use openledger_wire::{Epoch, List, NodeId, Points, ProofId, TaskId, Text, UnixMs, decode, limits};

use super::compare::Compared;
use super::{Judge, ProofRecord, State, TaskRecord};
use crate::params::{InferRules, RuleSet};

/// What is known about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// More nodes must do it.
    Escalate(u8),
    /// Done.
    Final {
        /// One row per receipted proof, sorted by proof id.
        rows: Vec<VerdictRow>,
        /// The proof whose content stands for the task.
        winner: Option<ProofId>,
    },
}

/// What is asked of whoever checks an `infer` task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckAsked {
    /// The backend class to compute in.
    pub class: Text<32>,
    /// The tokens to run, and whose they are; none if the task is to be redone.
    pub answer: Option<(NodeId, Tokens)>,
}

/// The tokens of an answer.
type Tokens = List<u32, { limits::INFER_TOKENS_MAX }>;

impl CheckAsked {
    /// Whether an output is the one that is checked, or such a check of it.
    fn is_met_by(&self, record: &ProofRecord) -> bool {
        let Ok(output) = record.proof.body.read::<InferOutput>() else { return false };
        match &self.answer {
            Some((node, _)) if record.proof.node == *node => true,
            Some((_, tokens)) => {
                output.backend == self.class && output.check().is_some() && output.tokens == *tokens
            }
            None => output.backend == self.class && output.check().is_none(),
        }
    }
}

impl State {
    /// What the rules say about a task at `at`; `None` while proofs may still come.
    #[must_use]
    pub fn judgement(&self, task: &TaskRecord, at: UnixMs, judge: &dyn Judge) -> Option<Judgement> {
        if task.done.is_some() || task.waves.is_empty() || !task.all_closed() {
            return None;
        }
        let rechecked = self.setup.rules.is_rechecked(task.spec.kind);
        if rechecked && task.checked.is_none() && !task.is_exhausted() {
            return None;
        }
        let commits = task.commits().count();
        let deadline = task.closed_at()?.plus_ms(self.setup.rules.reveal_ms);
        if task.proofs.len() < commits && at < deadline {
            return None;
        }
        let proofs: Vec<(ProofId, &ProofRecord)> =
            task.proofs.values().filter_map(|id| Some((*id, self.proofs.get(id)?))).collect();
        Some(self.judge_proofs(task, &proofs, judge))
    }

    fn judge_proofs(
        &self,
        task: &TaskRecord,
        proofs: &[(ProofId, &ProofRecord)],
        judge: &dyn Judge,
    ) -> Judgement {
        let faults: Vec<Option<ReasonCode>> =
            proofs.iter().map(|(_, record)| self.fault(task, record)).collect();
        let asked = self.check_asked(task);
        let is_other =
            |record: &ProofRecord| asked.as_ref().is_some_and(|asked| !asked.is_met_by(record));
        let sound: Vec<(ProofId, &ProofRecord)> = proofs
            .iter()
            .zip(&faults)
            .filter(|((_, record), fault)| fault.is_none() && !is_other(record))
            .map(|(proof, _)| *proof)
            .collect();
        let rules = &self.setup.rules;
        let compared = Compared::new(rules, task.spec.kind, &sound, judge);
        let (best, groups) = (compared.best(), compared.groups());
        let size = best.len();
        let unchecked = rules.is_rechecked(task.spec.kind) && task.checked == Some(false);
        let settled = match groups {
            0 => false,
            1 => size >= 2 || unchecked,
            _ => size >= 3 && size.saturating_mul(2) > sound.len(),
        };
        if !settled && !task.is_exhausted() {
            let wanted = if groups <= 1 { 2 } else { usize::from(rules.replicas_max) };
            let missing = wanted.saturating_sub(sound.len());
            let committed = task.commits().count();
            let room = usize::from(rules.replicas_max).saturating_sub(committed);
            let want = u8::try_from(missing.min(room)).unwrap_or(0);
            if want > 0 {
                return Judgement::Escalate(want);
            }
        }
        let winners = if settled { best } else { &[] };
        let rows = proofs.iter().zip(&faults).map(|((id, record), fault)| {
            let (verdict, reason) = match fault {
                Some(fault) => (Verdict::Rejected, *fault),
                None if winners.contains(id) => {
                    (Verdict::Accepted, accepted_reason(task, record, unchecked))
                }
                // There was nothing to compare it with, whoever mixed up the classes.
                None if is_other(record) => (Verdict::Inconclusive, ReasonCode::TooFewReplicas),
                None if settled && compared.is_tie(id) => {
                    (Verdict::Inconclusive, ReasonCode::Volatile)
                }
                None if settled => (Verdict::Rejected, rejected_reason(task.spec.kind)),
                None if groups > 1 => (Verdict::Inconclusive, ReasonCode::Volatile),
                None => (Verdict::Inconclusive, ReasonCode::TooFewReplicas),
            };
            self.row(task, *id, record, verdict, reason)
        });
        let mut rows: Vec<VerdictRow> = rows.collect();
        rows.sort();
        self.keep_to_budget(task, &mut rows);
        // Checks that agree that an answer is wrong are good work, and no answer.
        let answers = proofs.iter().filter(|(_, record)| !is_check(record)).map(|(id, _)| *id);
        Judgement::Final { rows, winner: answers.filter(|id| winners.contains(id)).min() }
    }

    /// What whoever checks a task is asked for: to redo it in the backend class of its first sound
    /// output, or in the first that the rule set lists while there is none; or to run the tokens of
    /// that output in the class in which such are checked. `None` where all outputs are compared:
    /// other kinds of work, and rule sets that list one class.
    #[must_use]
    pub fn check_asked(&self, task: &TaskRecord) -> Option<CheckAsked> {
        let infer = self.setup.rules.infer.as_ref().filter(|infer| infer.lists_several())?;
        if task.spec.kind != TaskKind::Infer {
            return None;
        }
        let proofs = task.proofs.values().filter_map(|id| self.proofs.get(id));
        let first = proofs
            .filter(|record| !is_check(record) && self.fault(task, record).is_none())
            .min_by_key(|record| (record.proof.wave, record.proof.node));
        let Some(record) = first else {
            return Some(CheckAsked { class: infer.first_class()?, answer: None });
        };
        let first: InferOutput = record.proof.body.read().ok()?;
        Some(match infer.checked_in(&first.backend) {
            Some(class) => CheckAsked { class, answer: Some((record.proof.node, first.tokens)) },
            None => CheckAsked { class: first.backend, answer: None },
        })
    }

    fn row(
        &self,
        task: &TaskRecord,
        id: ProofId,
        record: &ProofRecord,
        verdict: Verdict,
        reason: ReasonCode,
    ) -> VerdictRow {
        let audit = role_of(task, record) == Role::Auditor;
        let points = match verdict {
            Verdict::Accepted => {
                self.setup.rules.points(task.spec.kind, audit, task.spec.value_permille)
            }
            _ => Points::ZERO,
        };
        let (task, node) = (record.proof.task, record.proof.node);
        VerdictRow { proof: id, task, node, verdict, reason, points }
    }

    /// A campaign gives away no more points than it has.
    fn keep_to_budget(&self, task: &TaskRecord, rows: &mut [VerdictRow]) {
        let Some(campaign) = self.campaigns.get(&task.spec.campaign) else { return };
        let mut left = campaign.campaign.budget.0.saturating_sub(campaign.spent.0);
        for row in rows.iter_mut().filter(|row| row.verdict == Verdict::Accepted) {
            match left.checked_sub(row.points.0) {
                Some(rest) => left = rest,
                None => {
                    row.verdict = Verdict::Inconclusive;
                    row.reason = ReasonCode::BudgetSpent;
                    row.points = Points::ZERO;
                }
            }
        }
    }

    /// What is wrong with a proof in itself.
    fn fault(&self, task: &TaskRecord, record: &ProofRecord) -> Option<ReasonCode> {
        let proof = &record.proof;
        let promised =
            task.commits().find(|(node, wave, _, _)| *node == proof.node && *wave == proof.wave);
        let kept = promised.is_some_and(|(_, _, commitment, _)| commitment == proof.commitment);
        if !kept || !proof.opens() {
            return Some(ReasonCode::RevealMismatch);
        }
        (!well_formed(&self.setup.rules, task, record)).then_some(ReasonCode::MalformedBody)
    }

    /// Verdicts about proofs that must count in an epoch that ends now and are not judged yet.
    #[must_use]
    pub fn overdue(&self, epoch: Epoch) -> Vec<(TaskId, Vec<VerdictRow>)> {
        let due = |record: &ProofRecord| record.verdict.is_none() && record.count_by <= epoch;
        let mut rows: std::collections::BTreeMap<TaskId, Vec<VerdictRow>> = Default::default();
        for (id, record) in self.proofs.iter().filter(|(_, record)| due(record)) {
            let Some(task) = self.tasks.get(&record.proof.task) else { continue };
            let row =
                self.row(task, *id, record, Verdict::Inconclusive, ReasonCode::TooFewReplicas);
            rows.entry(record.proof.task).or_default().push(row);
        }
        rows.into_iter().collect()
    }
}

/// The role in which a proof's node was drawn.
pub(super) fn role_of(task: &TaskRecord, record: &ProofRecord) -> Role {
    let wave = task.waves.get(usize::from(record.proof.wave));
    wave.map_or(Role::Replica, |wave| wave.role)
}

/// Whether a proof is a check of given tokens.
fn is_check(record: &ProofRecord) -> bool {
    let body = &record.proof.body;
    body.kind == TaskKind::Infer
        && body.read::<InferOutput>().is_ok_and(|output| output.check().is_some())
}

fn accepted_reason(task: &TaskRecord, record: &ProofRecord, unchecked: bool) -> ReasonCode {
    match task.spec.kind {
        TaskKind::Fetch => ReasonCode::ReplicasAgree,
        _ if role_of(task, record) == Role::Auditor => ReasonCode::AuditDone,
        _ if unchecked => ReasonCode::TrustedUnchecked,
        _ => ReasonCode::ReexecutionAgrees,
    }
}

fn rejected_reason(kind: TaskKind) -> ReasonCode {
    match kind {
        TaskKind::Fetch => ReasonCode::MinorityFetch,
        _ => ReasonCode::ReexecutionDiffers,
    }
}

/// Whether the body is of the task's kind, decodes, and speaks about the task's input.
fn well_formed(rules: &RuleSet, task: &TaskRecord, record: &ProofRecord) -> bool {
    let body = &record.proof.body;
    let with_evidence = rules.infer.as_ref().is_some_and(InferRules::wants_evidence);
    let version = match body.kind {
        TaskKind::Infer if with_evidence => InferOutput::VERSION,
        TaskKind::Infer => InferOutput::VERSION_PLAIN,
        _ => 1,
    };
    if body.kind != task.spec.kind || body.version != version {
        return false;
    }
    match body.kind {
        TaskKind::Fetch => {
            let asked = decode::<FetchTask>(&task.spec.body, limits::TASK_BODY_MAX);
            asked.is_ok() && body.read::<FetchOutput>().is_ok()
        }
        TaskKind::Refine => {
            let asked = decode::<RefineTask>(&task.spec.body, limits::TASK_BODY_MAX);
            let same_input = asked.is_ok_and(|asked| asked.page == record.proof.input);
            same_input && body.read::<RefineOutput>().is_ok()
        }
        TaskKind::Infer => {
            let asked =
                rules.infer.as_ref().and_then(|infer| Some((infer, infer.asked(&task.spec)?)));
            let (Some((infer, asked)), Ok(output)) = (asked, body.read::<InferOutput>()) else {
                return false;
            };
            // Who answers has nothing to check.
            let in_place = output.check().is_none() || role_of(task, record) == Role::Auditor;
            asked.prompt == record.proof.input && in_place && infer.is_sound(&asked, &output)
        }
        _ => true,
    }
}

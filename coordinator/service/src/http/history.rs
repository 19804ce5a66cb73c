//! What happened to a task, from the log: told, leased, closed, receipted, judged, settled.

use openledger_ledger::LedgerError;
use openledger_web::ApiError;
use openledger_wire::log::{Entry, Line, ReasonCode, Role};
use openledger_wire::task::{FetchTask, InferTask, RefineTask, TaskKind, TaskSpec};
use openledger_wire::{
    CampaignId, Epoch, Height, NetworkId, NodeId, ProofId, TaskId, decode, limits as wire,
};
use serde::Serialize;

use super::answers::{AnswerView, AskedView};
use super::documents::DocumentRow;
use super::{Api, Failed, answers, documents};
use crate::figures::{reason_sentence, verdict_name};

/// One step.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// Entry of the log.
    pub(super) height: Height,
    /// When.
    pub(super) at: u64,
    /// `told`, `leased`, `committed`, `declined`, `absent`, `receipted` or `judged`.
    pub(super) what: &'static str,
    /// The node, where it is about one.
    pub(super) node: Option<NodeId>,
    /// The proof, where it is about one.
    pub(super) proof: Option<ProofId>,
    /// In words.
    pub(super) text: String,
}

/// How a proof was judged.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Judged {
    pub(super) proof: ProofId,
    pub(super) node: NodeId,
    pub(super) verdict: &'static str,
    pub(super) reason: String,
    pub(super) sentence: &'static str,
    pub(super) points: u64,
    pub(super) epoch: Epoch,
    /// Whether that epoch's root is on chain.
    pub(super) posted: bool,
    /// The answer, if an infer task's was accepted.
    pub(super) answer: Option<AnswerView>,
}

/// A task's history.
#[derive(Debug, Clone, Serialize)]
pub(super) struct History {
    pub(super) task: TaskId,
    pub(super) kind: &'static str,
    /// What an infer task asks for.
    pub(super) infer: Option<AskedView>,
    pub(super) url: Option<String>,
    pub(super) campaign: Option<CampaignId>,
    /// What the campaign is called.
    pub(super) campaign_name: Option<String>,
    pub(super) steps: Vec<Step>,
    pub(super) verdicts: Vec<Judged>,
    /// What became of the document that it gave, if it gave one.
    pub(super) document: Option<DocumentRow>,
    #[serde(skip)]
    spec: Option<TaskSpec>,
}

/// Reads a task's history.
pub(super) async fn of(api: &Api, task: TaskId) -> Result<History, Failed> {
    let mut history = History {
        task,
        kind: "unknown",
        infer: None,
        url: None,
        campaign: None,
        campaign_name: None,
        steps: Vec::new(),
        verdicts: Vec::new(),
        document: None,
        spec: None,
    };
    for height in api.ledger.lines_of_task(task).await? {
        let Some(line) = api.ledger.page(height, 1).await?.pop() else { continue };
        let entry = Entry::from_bytes(&line.bytes).map_err(LedgerError::from)?;
        history.take(&entry, api.network);
    }
    if history.steps.is_empty() {
        let message = "no such task is in this network's log; check the id";
        return Err(ApiError::not_found(message).into());
    }
    let epochs: Vec<Epoch> = history.verdicts.iter().map(|verdict| verdict.epoch).collect();
    let campaign = history.campaign;
    let look = api.core.look(move |state, _| {
        let posted: Vec<bool> = epochs.into_iter().map(|epoch| state.is_posted(epoch)).collect();
        let found = state.campaigns().find(|(id, _)| Some(**id) == campaign);
        (posted, found.map(|(_, record)| record.campaign.name.to_string()))
    });
    let (posted, name) = look.await?;
    history.campaign_name = name;
    for (verdict, posted) in history.verdicts.iter_mut().zip(posted) {
        verdict.posted = posted;
    }
    history.add_answers(api).await?;
    let row = api.documents.of_task(&task).into_iter().collect();
    history.document = documents::rows(api, row).await?.pop();
    Ok(history)
}

impl History {
    /// What an infer task asks for, and the answers to it that were accepted.
    async fn add_answers(&mut self, api: &Api) -> Result<(), Failed> {
        let Some(spec) = self.spec.take().filter(|spec| spec.kind == TaskKind::Infer) else {
            return Ok(());
        };
        let task = decode::<InferTask>(&spec.body, wire::TASK_BODY_MAX).ok();
        self.infer = task.map(|task| answers::asked(api, &task));
        for judged in self.verdicts.iter_mut().filter(|judged| judged.verdict == "accepted") {
            judged.answer = answers::answer(api, judged.proof).await?;
        }
        Ok(())
    }

    fn take(&mut self, entry: &Entry, network: NetworkId) {
        let task = self.task;
        match &entry.line {
            Line::Tasks(batch) => {
                let same = |spec: &&TaskSpec| spec.id(network).is_ok_and(|id| id == task);
                if let Some(spec) = batch.tasks.iter().find(same) {
                    self.describe(spec);
                    self.step(entry, "told", None, None, format!("{} task logged", self.kind));
                }
            }
            Line::Leases(leases) => {
                for lease in leases.rows.iter().filter(|row| row.task == task) {
                    let role = match lease.role {
                        Role::Replica => "to do it",
                        Role::Auditor => "to check it",
                    };
                    let text = format!(
                        "drawn by the beacon of round {} {role}, to commit within {} s",
                        leases.round,
                        lease.deadline.0.saturating_sub(entry.at.0) / 1_000
                    );
                    self.step(entry, "leased", Some(lease.node), None, text);
                }
            }
            Line::Closed(closed) => {
                for set in closed.sets.iter().filter(|set| set.task == task) {
                    for (node, _) in &set.commits {
                        let text = "committed to an output nobody else could see".to_owned();
                        self.step(entry, "committed", Some(*node), None, text);
                    }
                    for node in &set.declined {
                        let text = "gave the lease back".to_owned();
                        self.step(entry, "declined", Some(*node), None, text);
                    }
                    for node in &set.absent {
                        let text = "did not answer in time".to_owned();
                        self.step(entry, "absent", Some(*node), None, text);
                    }
                }
            }
            _ => self.take_proofs(entry),
        }
    }

    fn take_proofs(&mut self, entry: &Entry) {
        let task = self.task;
        match &entry.line {
            Line::Receipts(receipts) => {
                for row in receipts.rows.iter().filter(|row| row.task == task) {
                    let text = format!("proof held; it counts by epoch {}", receipts.count_by);
                    self.step(entry, "receipted", Some(row.node), Some(row.proof), text);
                }
            }
            Line::Verdicts(verdicts) => {
                for row in verdicts.rows.iter().filter(|row| row.task == task) {
                    let verdict = verdict_name(row.verdict);
                    let sentence = self.sentence(row.reason);
                    let text = format!("{verdict}: {sentence} ({} points)", row.points);
                    self.step(entry, "judged", Some(row.node), Some(row.proof), text);
                    self.verdicts.push(Judged {
                        proof: row.proof,
                        node: row.node,
                        verdict,
                        reason: format!("{:?}", row.reason),
                        sentence,
                        points: row.points.0,
                        epoch: verdicts.epoch,
                        posted: false,
                        answer: None,
                    });
                }
            }
            _ => {}
        }
    }

    fn sentence(&self, reason: ReasonCode) -> &'static str {
        let kind = self.spec.as_ref().map_or(TaskKind::Other(0), |spec| spec.kind);
        reason_sentence(kind, reason)
    }

    fn describe(&mut self, spec: &TaskSpec) {
        self.spec = Some(spec.clone());
        self.kind = spec.kind.name();
        self.campaign = Some(spec.campaign);
        let (body, max) = (&spec.body, wire::TASK_BODY_MAX);
        self.url = match spec.kind {
            TaskKind::Fetch => decode::<FetchTask>(body, max).ok().map(|task| task.url.to_string()),
            TaskKind::Refine => {
                decode::<RefineTask>(body, max).ok().map(|task| task.url.to_string())
            }
            _ => None,
        };
    }

    fn step(
        &mut self,
        entry: &Entry,
        what: &'static str,
        node: Option<NodeId>,
        proof: Option<ProofId>,
        text: String,
    ) {
        self.steps.push(Step { height: entry.height, at: entry.at.0, what, node, proof, text });
    }
}

//! Counters over the log: what was refined, accepted, rejected, and how fast.
//!
//! They are a fold over durable entries, so they survive a restart; only what gossip brought first
//! is counted since the start (see `gossip`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use openledger_rules::State;
use openledger_rules::state::is_asked_again;
use openledger_wire::log::{Entry, Line, ReasonCode, Verdict, VerdictRow};
use openledger_wire::task::{FetchTask, InferTask, RefineTask, TaskKind, TaskSpec};
use openledger_wire::{BlobId, CampaignId, NetworkId, NodeId, ProofId, TaskId, UnixMs, decode};
use serde::Serialize;

use crate::limits;

/// What the figures need to know of a task.
#[derive(Debug)]
struct Known {
    kind: TaskKind,
    url: Option<[u8; 32]>,
    /// The campaign of an infer task.
    campaign: Option<CampaignId>,
}

/// Inference work of one campaign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inference {
    /// Tasks logged.
    pub tasks: u64,
    /// Tasks with an accepted answer.
    pub answered: u64,
    /// Verdicts on proofs.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Base models that were asked.
    pub models: BTreeSet<BlobId>,
    /// Adapters on them.
    pub adapters: BTreeSet<BlobId>,
}

/// The fold.
#[derive(Debug, Default)]
pub struct Figures {
    tasks: BTreeMap<TaskId, Known>,
    refined_urls: BTreeSet<[u8; 32]>,
    fetchers: BTreeMap<TaskId, BTreeSet<NodeId>>,
    waiting: BTreeMap<ProofId, UnixMs>,
    latencies_ms: VecDeque<u64>,
    inference: BTreeMap<CampaignId, Inference>,
    verdicts: BTreeMap<(TaskKind, Verdict), u64>,
    reasons: BTreeMap<(NodeId, TaskKind, Verdict, ReasonCode), u64>,
    receipts: u64,
    leases: u64,
    absent: u64,
    epochs_closed: u64,
    points: u64,
}

/// A count by node, kind of task and reason.
#[derive(Debug, Clone, Serialize)]
pub struct ReasonCount {
    /// The node.
    pub node: NodeId,
    /// Kind of the tasks.
    pub kind: &'static str,
    /// Named by the profile as a founding node.
    pub founding: bool,
    /// `accepted`, `rejected` or `inconclusive`.
    pub verdict: &'static str,
    /// The reason's name.
    pub reason: String,
    /// The reason in a sentence.
    pub sentence: &'static str,
    /// How often.
    pub count: u64,
}

/// The figures as the API gives them.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// Tasks logged, by kind.
    pub tasks: BTreeMap<&'static str, u64>,
    /// Distinct URLs with an accepted refinement.
    pub urls_refined: u64,
    /// Fetch tasks with an accepted proof.
    pub pages_accepted: u64,
    /// Least number of distinct accounts with an accepted fetch of a page that was accepted.
    pub fetch_accounts_per_page_min: u64,
    /// Infer tasks with an accepted answer.
    pub answers_accepted: u64,
    /// Verdicts by kind and outcome, such as `fetch accepted`.
    pub verdicts: BTreeMap<String, u64>,
    /// Verdicts by node, kind and reason.
    pub reasons: Vec<ReasonCount>,
    /// Rejections of nodes that the profile names as founding.
    pub rejected_founding: u64,
    /// Receipts given.
    pub receipts: u64,
    /// Proofs receipted and not judged yet.
    pub waiting: u64,
    /// Leases given.
    pub leases: u64,
    /// Leases that nobody answered.
    pub absent: u64,
    /// Points awarded.
    pub points: u64,
    /// Epochs closed.
    pub epochs_closed: u64,
    /// From receipt to verdict, in milliseconds: the median of recent ones; none before the first.
    pub verdict_ms_median: Option<u64>,
    /// The 95th percentile of recent ones.
    pub verdict_ms_p95: Option<u64>,
    /// How many recent ones these two are of.
    pub verdicts_timed: usize,
    /// Those of them that came in the same moment as the receipt: nothing was waited for, as with
    /// the last of several replicas.
    pub verdicts_at_once: usize,
    /// The median of the others.
    pub verdict_ms_waited_median: Option<u64>,
}

impl Figures {
    /// Takes an entry in; each once, in order.
    pub fn note(&mut self, entry: &Entry, network: NetworkId) {
        match &entry.line {
            Line::Tasks(batch) => {
                for spec in &batch.tasks {
                    let Ok(id) = spec.id(network) else { continue };
                    self.note_task(id, spec);
                }
            }
            Line::Leases(leases) => {
                self.leases = self.leases.saturating_add(leases.rows.len() as u64);
            }
            Line::Closed(closed) => {
                let absent: usize = closed.sets.iter().map(|set| set.absent.len()).sum();
                self.absent = self.absent.saturating_add(absent as u64);
            }
            Line::Receipts(receipts) => {
                self.receipts = self.receipts.saturating_add(receipts.rows.len() as u64);
                self.waiting.extend(receipts.rows.iter().map(|row| (row.proof, entry.at)));
            }
            Line::Verdicts(verdicts) => {
                verdicts.rows.iter().for_each(|row| self.note_verdict(row, entry.at));
                self.note_answered(&verdicts.rows);
            }
            Line::Epoch(_) => self.epochs_closed = self.epochs_closed.saturating_add(1),
            _ => {}
        }
    }

    fn note_task(&mut self, id: TaskId, spec: &TaskSpec) {
        let is_infer = spec.kind == TaskKind::Infer;
        let campaign = is_infer.then_some(spec.campaign);
        self.tasks.insert(id, Known { kind: spec.kind, url: url_of(spec), campaign });
        let Some(campaign) = campaign else { return };
        let inference = self.inference.entry(campaign).or_default();
        if is_asked_again(spec) {
            // What was accepted before were checks, which agreed that there is no answer yet.
            inference.answered = inference.answered.saturating_sub(1);
        } else {
            inference.tasks = inference.tasks.saturating_add(1);
        }
        if let Ok(task) = decode::<InferTask>(&spec.body, openledger_wire::limits::TASK_BODY_MAX) {
            inference.models.insert(task.model);
            inference.adapters.extend(task.adapters.iter().map(|(id, _)| *id));
        }
    }

    /// Counts answered tasks: all verdicts on a task that accept something come in one entry.
    fn note_answered(&mut self, rows: &[VerdictRow]) {
        let accepted = rows.iter().filter(|row| row.verdict == Verdict::Accepted);
        let accepted: BTreeSet<TaskId> = accepted.map(|row| row.task).collect();
        for task in accepted {
            let campaign = self.tasks.get(&task).and_then(|known| known.campaign);
            if let Some(inference) = campaign.and_then(|of| self.inference.get_mut(&of)) {
                inference.answered = inference.answered.saturating_add(1);
            }
        }
    }

    /// Whether a task was ever logged, however long ago.
    #[must_use]
    pub fn knows(&self, task: &TaskId) -> bool {
        self.tasks.contains_key(task)
    }

    /// Inference work of a campaign; `None` if it has none.
    #[must_use]
    pub fn inference(&self, campaign: &CampaignId) -> Option<&Inference> {
        self.inference.get(campaign)
    }

    fn note_verdict(&mut self, row: &VerdictRow, at: UnixMs) {
        if let Some(since) = self.waiting.remove(&row.proof) {
            self.latencies_ms.push_back(at.0.saturating_sub(since.0));
            if self.latencies_ms.len() > limits::LATENCIES_KEPT {
                self.latencies_ms.pop_front();
            }
        }
        let known = self.tasks.get(&row.task);
        let kind = known.map_or(TaskKind::Other(0), |known| known.kind);
        *self.verdicts.entry((kind, row.verdict)).or_default() += 1;
        *self.reasons.entry((row.node, kind, row.verdict, row.reason)).or_default() += 1;
        let campaign = known.and_then(|known| known.campaign);
        if let Some(inference) = campaign.and_then(|of| self.inference.get_mut(&of)) {
            *inference.verdicts.entry(row.verdict).or_default() += 1;
        }
        self.points = self.points.saturating_add(row.points.0);
        if row.verdict != Verdict::Accepted {
            return;
        }
        match kind {
            TaskKind::Fetch => {
                self.fetchers.entry(row.task).or_default().insert(row.node);
            }
            TaskKind::Refine => self.refined_urls.extend(known.and_then(|known| known.url)),
            _ => {}
        }
    }

    /// The figures, with accounts as the state knows them.
    #[must_use]
    pub fn stats(&self, state: &State) -> Stats {
        let mut tasks = BTreeMap::new();
        for known in self.tasks.values() {
            *tasks.entry(known.kind.name()).or_insert(0u64) += 1;
        }
        let accounts_of = |nodes: &BTreeSet<NodeId>| {
            let accounts: BTreeSet<_> =
                nodes.iter().filter_map(|node| Some(state.node(node)?.member.account)).collect();
            accounts.len() as u64
        };
        let founding = |node: &NodeId| state.node(node).is_some_and(|record| record.founding);
        let reasons =
            self.reasons.iter().map(|((node, kind, verdict, reason), count)| ReasonCount {
                node: *node,
                kind: kind.name(),
                founding: founding(node),
                verdict: verdict_name(*verdict),
                reason: format!("{reason:?}"),
                sentence: reason_sentence(*kind, *reason),
                count: *count,
            });
        let reasons: Vec<ReasonCount> = reasons.collect();
        let rejected = reasons.iter().filter(|row| row.founding && row.verdict == "rejected");
        let mut latencies: Vec<u64> = self.latencies_ms.iter().copied().collect();
        latencies.sort_unstable();
        let at_once = latencies.partition_point(|ms| *ms == 0);
        let verdicts = self.verdicts.iter();
        Stats {
            tasks,
            urls_refined: self.refined_urls.len() as u64,
            pages_accepted: self.fetchers.len() as u64,
            fetch_accounts_per_page_min: self.fetchers.values().map(accounts_of).min().unwrap_or(0),
            answers_accepted: self.inference.values().map(|of| of.answered).sum(),
            verdicts: verdicts
                .map(|((kind, verdict), count)| {
                    (format!("{} {}", kind.name(), verdict_name(*verdict)), *count)
                })
                .collect(),
            rejected_founding: rejected.map(|row| row.count).sum(),
            reasons,
            receipts: self.receipts,
            waiting: self.waiting.len() as u64,
            leases: self.leases,
            absent: self.absent,
            points: self.points,
            epochs_closed: self.epochs_closed,
            verdict_ms_median: quantile(&latencies, 500),
            verdict_ms_p95: quantile(&latencies, 950),
            verdicts_timed: latencies.len(),
            verdicts_at_once: at_once,
            verdict_ms_waited_median: quantile(latencies.get(at_once..).unwrap_or_default(), 500),
        }
    }
}

/// The verdict's name for people and programs.
#[must_use]
pub const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Rejected => "rejected",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// Why a proof was judged so, in the words that fit the kind of its task: answers are compared by
/// tokens and likelihoods, where pages and documents are compared by their bytes.
#[must_use]
pub const fn reason_sentence(kind: TaskKind, reason: ReasonCode) -> &'static str {
    match (kind, reason) {
        (TaskKind::Infer, ReasonCode::ReexecutionAgrees) => {
            "another node redid the work and got the same tokens, as likely within the tolerance"
        }
        (TaskKind::Infer, ReasonCode::ReexecutionDiffers) => {
            "other nodes redid the work and got other tokens, or found them more or less likely \
             than the tolerance allows"
        }
        (TaskKind::Infer, ReasonCode::Volatile) => {
            "the answers part without a clear majority, or at two tokens that are equally likely"
        }
        (_, reason) => reason.sentence(),
    }
}

/// None of nothing: no proof that was judged at once is made up of it.
fn quantile(sorted: &[u64], permille: usize) -> Option<u64> {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last.saturating_mul(permille) / 1_000).copied()
}

fn url_of(spec: &TaskSpec) -> Option<[u8; 32]> {
    let max = openledger_wire::limits::TASK_BODY_MAX;
    let url = match spec.kind {
        TaskKind::Fetch => decode::<FetchTask>(&spec.body, max).ok()?.url,
        TaskKind::Refine => decode::<RefineTask>(&spec.body, max).ok()?.url,
        _ => return None,
    };
    Some(openledger_wire::BlobId::of(url.as_bytes()).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_nothing_and_of_something() {
        assert_eq!(quantile(&[], 500), None);
        assert_eq!(quantile(&[7], 950), Some(7));
        assert_eq!(quantile(&(0..=100).collect::<Vec<_>>(), 950), Some(95));
    }
}

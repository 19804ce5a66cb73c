//! From the log to the documents that were proven and accepted.
//!
//! A fold over entries, in their order: the same log gives the same documents in the same order.
//! An entry names proofs; their contents are looked up by the caller.

use std::collections::BTreeMap;

use openledger_wire::log::{Entry, Line, Verdict, VerdictRow, Verdicts};
use openledger_wire::proof::{Proof, RefineOutput};
use openledger_wire::task::{RefineTask, TaskKind, TaskSpec};
use openledger_wire::{
    BlobId, CampaignId, DecodeError, Envelope, EnvelopeError, Height, NetworkId, NodeId, ProofId,
    TaskId, UnixMs, decode, limits as wire,
};
use thiserror::Error;

/// A document that was proven and accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The refine task.
    pub task: TaskId,
    /// The campaign that paid for it.
    pub campaign: CampaignId,
    /// The entry that accepted it.
    pub height: Height,
    /// When.
    pub at: UnixMs,
    /// Where the page came from.
    pub url: String,
    /// The page.
    pub page: BlobId,
    /// The processing profile.
    pub profile: [u8; 32],
    /// The document.
    pub document: BlobId,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its near-duplicate keys.
    pub bands: Vec<u64>,
    /// Whose fetch of the page was accepted.
    pub fetchers: Vec<NodeId>,
    /// Who proved the document, checks included: they hold it.
    pub refiners: Vec<NodeId>,
}

/// A refine task with an accepted proof.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// One of the accepted proofs; the others say the same.
    pub(super) proof: ProofId,
    task: TaskId,
    refine: Refine,
    height: Height,
    at: UnixMs,
    fetchers: Vec<NodeId>,
    refiners: Vec<NodeId>,
}

/// Why an accepted proof cannot be read.
#[derive(Debug, Error)]
pub(super) enum JudgedError {
    /// The envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Its body.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is about something else.
    #[error("read proof {0}: it is not about the page of its task")]
    OtherPage(ProofId),
}

/// A refine task that waits for its verdict.
#[derive(Debug, Clone)]
struct Refine {
    campaign: CampaignId,
    /// Place of the task in the order of the log.
    order: u64,
    /// Place of the fetch task whose page this is.
    fetch: u64,
    body: RefineTask,
}

/// The fold. It forgets tasks as they are judged.
#[derive(Debug)]
pub struct Follower {
    network: NetworkId,
    next: Height,
    tasks: u64,
    fetches: BTreeMap<TaskId, u64>,
    refines: BTreeMap<TaskId, Refine>,
    /// Who fetched the page of the fetch task at this place.
    fetchers: BTreeMap<u64, Vec<NodeId>>,
}

impl Follower {
    /// Before the first entry.
    #[must_use]
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            next: Height(0),
            tasks: 0,
            fetches: BTreeMap::new(),
            refines: BTreeMap::new(),
            fetchers: BTreeMap::new(),
        }
    }

    /// The entry that is due.
    #[must_use]
    pub const fn next(&self) -> Height {
        self.next
    }

    /// Takes the entry in that is due; gives refine tasks that it accepts, in the order in which
    /// they were logged.
    pub(super) fn note(&mut self, entry: &Entry) -> Vec<Judged> {
        self.next = entry.height.next();
        match &entry.line {
            Line::Tasks(batch) => {
                batch.tasks.iter().for_each(|spec| self.note_task(spec));
                Vec::new()
            }
            Line::Verdicts(verdicts) => self.note_verdicts(entry, verdicts),
            _ => Vec::new(),
        }
    }

    fn note_task(&mut self, spec: &TaskSpec) {
        let order = self.tasks;
        self.tasks = self.tasks.saturating_add(1);
        // A logged task has an encoding, and the rules made the body of a refine task.
        let Ok(id) = spec.id(self.network) else { return };
        match spec.kind {
            TaskKind::Fetch => {
                self.fetches.insert(id, order);
            }
            TaskKind::Refine => {
                let Ok(body) = decode::<RefineTask>(&spec.body, wire::TASK_BODY_MAX) else {
                    return;
                };
                let (campaign, fetch) = (spec.campaign, spec.nonce);
                self.refines.insert(id, Refine { campaign, order, fetch, body });
            }
            _ => {}
        }
    }

    fn note_verdicts(&mut self, entry: &Entry, verdicts: &Verdicts) -> Vec<Judged> {
        let mut accepted: BTreeMap<TaskId, Vec<&VerdictRow>> = BTreeMap::new();
        for row in verdicts.rows.iter().filter(|row| row.verdict == Verdict::Accepted) {
            accepted.entry(row.task).or_default().push(row);
        }
        // Fetches first: a page and its document are never judged by one entry, but if a later
        // rule set did, nothing here would change.
        for (task, rows) in &accepted {
            if let Some(order) = self.fetches.remove(task) {
                self.fetchers.insert(order, rows.iter().map(|row| row.node).collect());
            }
        }
        let mut judged: Vec<Judged> = Vec::new();
        for (task, rows) in accepted {
            let (Some(refine), Some(first)) = (self.refines.remove(&task), rows.first()) else {
                continue;
            };
            let fetchers = self.fetchers.remove(&refine.fetch).unwrap_or_default();
            let refiners = rows.iter().map(|row| row.node).collect();
            let (proof, height, at) = (first.proof, entry.height, entry.at);
            judged.push(Judged { proof, task, refine, height, at, fetchers, refiners });
        }
        judged.sort_by_key(|judged| judged.refine.order);
        judged
    }
}

impl Judged {
    /// The campaign of its task.
    pub(super) const fn campaign(&self) -> CampaignId {
        self.refine.campaign
    }

    /// What was proven, from the proof's envelope; `None` where the page was filtered out.
    pub(super) fn open(
        self,
        envelope: &Envelope,
        network: NetworkId,
    ) -> Result<Option<Proven>, JudgedError> {
        let proof = envelope.open::<Proof>(network)?.value;
        let RefineTask { url, page, profile, .. } = self.refine.body;
        if proof.task != self.task || proof.input != page {
            return Err(JudgedError::OtherPage(self.proof));
        }
        let RefineOutput::Document { document, document_bytes, bands } = proof.body.read()? else {
            return Ok(None);
        };
        Ok(Some(Proven {
            task: self.task,
            campaign: self.refine.campaign,
            height: self.height,
            at: self.at,
            url: url.to_string(),
            page,
            profile,
            document,
            bytes: document_bytes,
            bands: bands.into_vec(),
            fetchers: self.fetchers,
            refiners: self.refiners,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::log::{ReasonCode, TaskBatch};
    use openledger_wire::proof::ProofBody;
    use openledger_wire::task::FetchTask;
    use openledger_wire::{
        Blob, Commitment, Epoch, List, LogHead, NodeKey, Points, Round, SecretNonce, Text, encode,
    };

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn spec(kind: TaskKind, nonce: u64, body: Vec<u8>) -> TaskSpec {
        let (campaign, value_permille) = (CampaignId([8; 32]), 1_000);
        let body = Blob::new(body).unwrap();
        TaskSpec { campaign, kind, version: 1, nonce, value_permille, body }
    }

    fn fetch(url: &str) -> TaskSpec {
        spec(TaskKind::Fetch, 0, encode(&FetchTask { url: Text::clipped(url) }).unwrap())
    }

    fn refine(url: &str, fetch: u64) -> TaskSpec {
        let body = RefineTask {
            url: Text::clipped(url),
            status: 200,
            content_type: Text::default(),
            page: BlobId::of(url.as_bytes()),
            page_bytes: 1,
            profile: [6; 32],
        };
        spec(TaskKind::Refine, fetch, encode(&body).unwrap())
    }

    fn entry(follower: &Follower, line: Line) -> Entry {
        Entry { height: follower.next(), previous: LogHead::ZERO, at: UnixMs(5), line }
    }

    fn row(proof: ProofId, task: TaskId, node: NodeId, verdict: Verdict) -> VerdictRow {
        let (reason, points) = (ReasonCode::ReplicasAgree, Points(1));
        VerdictRow { proof, task, node, verdict, reason, points }
    }

    fn verdicts(rows: Vec<VerdictRow>) -> Line {
        let rows = List::new(rows).unwrap();
        Line::Verdicts(Verdicts { number: 1, epoch: Epoch(1), rows })
    }

    fn envelope(task: TaskId, input: BlobId, output: &RefineOutput) -> Envelope {
        let key = NodeKey::from_seed(&[3; 32]);
        let body = ProofBody::of(TaskKind::Refine, output).unwrap();
        let (output, nonce) = (body.output_root(), SecretNonce([1; 32]));
        let node = key.public();
        let commitment = Commitment::new(&task, &node, &nonce, &output);
        let (round, wave, seq) = (Round(1), 0, 0);
        let proof = Proof { task, node, wave, round, seq, input, output, commitment, nonce, body };
        Envelope::seal(&proof, NETWORK, &key).unwrap()
    }

    #[test]
    fn accepted_documents_come_in_the_order_of_their_tasks_with_who_made_them() {
        let mut follower = Follower::new(NETWORK);
        let specs = [fetch("http://a/"), fetch("http://b/"), refine("http://b/", 1)];
        let later = refine("http://a/", 0);
        let ids: Vec<TaskId> = specs.iter().map(|spec| spec.id(NETWORK).unwrap()).collect();
        let last = later.id(NETWORK).unwrap();
        for tasks in [specs.to_vec(), vec![later]] {
            let line = Line::Tasks(TaskBatch { tasks: List::new(tasks).unwrap() });
            assert!(follower.note(&entry(&follower, line)).is_empty());
        }
        let node = |n: u8| NodeId([n; 32]);
        let proof = |n: u8| ProofId([n; 32]);
        let fetched = verdicts(vec![
            row(proof(1), ids[0], node(1), Verdict::Accepted),
            row(proof(2), ids[0], node(2), Verdict::Rejected),
            row(proof(3), ids[1], node(2), Verdict::Accepted),
            row(proof(4), ids[1], node(3), Verdict::Accepted),
        ]);
        assert!(follower.note(&entry(&follower, fetched)).is_empty());
        let refined = verdicts(vec![
            row(proof(5), last, node(7), Verdict::Accepted),
            row(proof(6), ids[2], node(8), Verdict::Accepted),
            row(proof(7), ids[2], node(9), Verdict::Accepted),
        ]);
        let judged = follower.note(&entry(&follower, refined.clone()));
        let proofs: Vec<ProofId> = judged.iter().map(|judged| judged.proof).collect();
        assert_eq!(proofs, [proof(6), proof(5)], "the task that was logged first comes first");
        assert!(follower.note(&entry(&follower, refined)).is_empty(), "each once");

        let page = BlobId::of(b"http://b/");
        let bands = List::new(vec![1, 2]).unwrap();
        let output = RefineOutput::Document { document: BlobId([4; 32]), document_bytes: 9, bands };
        let first = judged[0].clone();
        let proven =
            first.clone().open(&envelope(ids[2], page, &output), NETWORK).unwrap().unwrap();
        assert_eq!((proven.url.as_str(), proven.page, proven.bytes), ("http://b/", page, 9));
        assert_eq!(proven.fetchers, [node(2), node(3)]);
        assert_eq!(proven.refiners, [node(8), node(9)]);
        assert_eq!(proven.height, Height(3));
        let filtered = RefineOutput::Rejected { reason: Text::clipped("7") };
        let filtered = envelope(ids[2], page, &filtered);
        assert_eq!(first.clone().open(&filtered, NETWORK).unwrap(), None);
        let foreign = envelope(ids[2], BlobId([9; 32]), &output);
        assert!(matches!(first.open(&foreign, NETWORK), Err(JudgedError::OtherPage(_))));
    }
}

//! What the network did, counted from the coordinator's public log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use openledger_wire::identity::open_registration;
use openledger_wire::log::{Entry, EpochClose, Line, Verdict, VerdictRow};
use openledger_wire::task::{FetchTask, RefineTask, TaskKind, TaskSpec};
use openledger_wire::{
    AccountId, Epoch, Height, Keccak, LogHead, NetworkId, NodeId, Points, ProofId, TaskId, decode,
    limits,
};

use crate::api::Api;

/// A fold over the log.
#[derive(Debug)]
pub struct Tally {
    network: NetworkId,
    next: Height,
    accounts: BTreeMap<NodeId, AccountId>,
    tasks: BTreeMap<TaskId, (TaskKind, String)>,
    receipts: BTreeMap<ProofId, NodeId>,
    verdicts: BTreeMap<ProofId, VerdictRow>,
    closes: BTreeMap<Epoch, EpochClose>,
    posted: BTreeSet<Epoch>,
    heads: BTreeMap<Height, LogHead>,
    doubled: BTreeSet<ProofId>,
}

/// What became of the cheaters' dishonest proofs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dishonest {
    /// Noted by the cheaters and receipted by the coordinator.
    pub proofs: u64,
    /// Accepted.
    pub accepted: u64,
    /// Rejected with a reason.
    pub rejected: u64,
}

/// What became of honest proofs, those of cheaters' honest moments included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Honest {
    /// Accepted.
    pub accepted: u64,
    /// Rejected.
    pub rejected: u64,
    /// Neither.
    pub inconclusive: u64,
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            next: Height(0),
            accounts: BTreeMap::new(),
            tasks: BTreeMap::new(),
            receipts: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            closes: BTreeMap::new(),
            posted: BTreeSet::new(),
            heads: BTreeMap::new(),
            doubled: BTreeSet::new(),
        }
    }

    /// Reads what was logged since the last time.
    ///
    /// # Errors
    /// When the coordinator does not answer, or not with its log.
    pub async fn catch_up(&mut self, api: &Api) -> anyhow::Result<()> {
        loop {
            let entries = api.log(self.next).await?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                self.note(entry)?;
            }
        }
    }

    /// Takes an entry in.
    ///
    /// # Errors
    /// When it is not the next one, or says something that cannot be.
    pub fn note(&mut self, entry: &Entry) -> anyhow::Result<()> {
        anyhow::ensure!(
            entry.height == self.next,
            "read the log: entry {} came where {} was due",
            entry.height,
            self.next
        );
        self.next = self.next.next();
        if let Some(before) = entry.height.0.checked_sub(1) {
            self.heads.insert(Height(before), entry.previous);
        }
        match &entry.line {
            Line::Join(join) => {
                let member = open_registration(&join.registration, self.network, entry.at)
                    .context("read a registration in the log")?;
                self.accounts.insert(member.node, member.account);
            }
            Line::Tasks(batch) => {
                for spec in &batch.tasks {
                    let id = spec.id(self.network).context("read a task in the log")?;
                    self.tasks.insert(id, (spec.kind, url_of(spec)));
                }
            }
            Line::Receipts(receipts) => {
                for row in receipts.rows.iter() {
                    if self.receipts.insert(row.proof, row.node).is_some() {
                        self.doubled.insert(row.proof);
                    }
                }
            }
            Line::Verdicts(verdicts) => {
                for row in verdicts.rows.iter() {
                    let before = self.verdicts.insert(row.proof, *row);
                    // A later verdict may correct one; the same points twice are another thing.
                    if before.is_some_and(|before| is_paid(&before) && is_paid(row)) {
                        self.doubled.insert(row.proof);
                    }
                }
            }
            Line::Epoch(close) => {
                self.closes.insert(close.epoch, close.clone());
            }
            Line::Posted(posted) => {
                self.posted.insert(posted.epoch);
            }
            _ => {}
        }
        Ok(())
    }

    /// The first height that was not read yet.
    #[must_use]
    pub const fn next_height(&self) -> Height {
        self.next
    }

    fn accepted(&self, kind: TaskKind) -> impl Iterator<Item = (&VerdictRow, &str)> {
        self.verdicts.values().filter_map(move |row| {
            let (of, url) = self.tasks.get(&row.task)?;
            (*of == kind && row.verdict == Verdict::Accepted).then_some((row, url.as_str()))
        })
    }

    /// Tasks about these URLs of which nothing was judged yet.
    #[must_use]
    pub fn unjudged(&self, urls: &BTreeSet<&str>) -> u64 {
        let judged: BTreeSet<TaskId> = self.verdicts.values().map(|row| row.task).collect();
        let about = self.tasks.iter().filter(|(_, (_, url))| urls.contains(url.as_str()));
        about.filter(|(id, _)| !judged.contains(id)).count() as u64
    }

    /// Tasks of a kind of which nothing was judged yet.
    #[must_use]
    pub fn unjudged_of(&self, kind: TaskKind) -> u64 {
        let judged: BTreeSet<TaskId> = self.verdicts.values().map(|row| row.task).collect();
        let of_kind = self.tasks.iter().filter(|(_, (of, _))| *of == kind);
        of_kind.filter(|(id, _)| !judged.contains(id)).count() as u64
    }

    /// Accepted proofs of a kind.
    #[must_use]
    pub fn accepted_of(&self, kind: TaskKind) -> u64 {
        self.accepted(kind).count() as u64
    }

    /// All points that verdicts gave, in force now.
    #[must_use]
    pub fn points(&self) -> Points {
        let paid = self.verdicts.values().filter(|row| is_paid(row));
        Points(paid.fold(0, |sum, row| sum.saturating_add(row.points.0)))
    }

    /// How many of these URLs have an accepted fetch.
    #[must_use]
    pub fn fetched(&self, urls: &[String]) -> u64 {
        let fetched: BTreeSet<&str> = self.accepted(TaskKind::Fetch).map(|(_, url)| url).collect();
        urls.iter().filter(|url| fetched.contains(url.as_str())).count() as u64
    }

    /// Distinct URLs with an accepted refinement.
    #[must_use]
    pub fn urls_refined(&self) -> u64 {
        let urls: BTreeSet<&str> = self.accepted(TaskKind::Refine).map(|(_, url)| url).collect();
        urls.len() as u64
    }

    /// Pages with an accepted fetch, and the least number of accounts that fetched one of them.
    #[must_use]
    pub fn pages(&self) -> (u64, u64) {
        let mut pages: BTreeMap<&str, BTreeSet<AccountId>> = BTreeMap::new();
        for (row, url) in self.accepted(TaskKind::Fetch) {
            pages.entry(url).or_default().extend(self.accounts.get(&row.node));
        }
        let least = pages.values().map(BTreeSet::len).min().unwrap_or(0);
        (pages.len() as u64, least as u64)
    }

    /// What became of the proofs that the cheaters noted.
    #[must_use]
    pub fn dishonest(&self, noted: &BTreeSet<ProofId>) -> Dishonest {
        let mut dishonest = Dishonest::default();
        for proof in noted.iter().filter(|proof| self.receipts.contains_key(proof)) {
            dishonest.proofs += 1;
            match self.verdicts.get(proof).map(|row| row.verdict) {
                Some(Verdict::Accepted) => dishonest.accepted += 1,
                Some(Verdict::Rejected) => dishonest.rejected += 1,
                Some(Verdict::Inconclusive) | None => {}
            }
        }
        dishonest
    }

    /// Why dishonest proofs got neither points nor blame, and how many for each reason.
    #[must_use]
    pub fn undecided(&self, noted: &BTreeSet<ProofId>) -> BTreeMap<&'static str, u64> {
        let mut reasons = BTreeMap::new();
        for (_, row) in self.verdicts.iter().filter(|(proof, _)| noted.contains(proof)) {
            if row.verdict == Verdict::Inconclusive {
                *reasons.entry(row.reason.sentence()).or_default() += 1;
            }
        }
        reasons
    }

    /// What became of all other proofs.
    #[must_use]
    pub fn honest(&self, noted: &BTreeSet<ProofId>) -> Honest {
        let mut honest = Honest::default();
        for (_, row) in self.verdicts.iter().filter(|(proof, _)| !noted.contains(proof)) {
            match row.verdict {
                Verdict::Accepted => honest.accepted += 1,
                Verdict::Rejected => honest.rejected += 1,
                Verdict::Inconclusive => honest.inconclusive += 1,
            }
        }
        honest
    }

    /// Honest proofs that were rejected, for messages.
    #[must_use]
    pub fn wronged(&self, noted: &BTreeSet<ProofId>) -> Vec<String> {
        let wronged = self
            .verdicts
            .iter()
            .filter(|(proof, row)| row.verdict == Verdict::Rejected && !noted.contains(proof));
        let sentence = |(proof, row): (&ProofId, &VerdictRow)| {
            let (kind, url) =
                self.tasks.get(&row.task).map_or(("", ""), |(kind, url)| (kind.name(), url));
            format!(
                "{kind} proof {proof} of {} about {url}: {}",
                row.node.short(),
                row.reason.sentence()
            )
        };
        wronged.map(sentence).collect()
    }

    /// Whether the log acknowledges a proof.
    #[must_use]
    pub fn is_receipted(&self, proof: &ProofId) -> bool {
        self.receipts.contains_key(proof)
    }

    /// Whether the log judges a proof.
    #[must_use]
    pub fn is_judged(&self, proof: &ProofId) -> bool {
        self.verdicts.contains_key(proof)
    }

    /// The head after an entry, once another entry followed.
    #[must_use]
    pub fn head(&self, height: Height) -> Option<LogHead> {
        self.heads.get(&height).copied()
    }

    /// Work that counts twice: proofs that were acknowledged or paid more than once, and further
    /// accepted proofs of one node about one task.
    #[must_use]
    pub fn doubled(&self) -> u64 {
        let mut paid = BTreeSet::new();
        let again = |row: &&VerdictRow| is_paid(row) && !paid.insert((row.task, row.node));
        self.doubled.len() as u64 + self.verdicts.values().filter(again).count() as u64
    }

    /// Receipted proofs without a verdict.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.receipts.keys().filter(|proof| !self.verdicts.contains_key(proof)).count() as u64
    }

    /// Epochs closed and epochs posted.
    #[must_use]
    pub fn epochs(&self) -> (u64, u64) {
        (self.closes.len() as u64, self.posted.len() as u64)
    }

    /// The root with which an epoch was closed.
    #[must_use]
    pub fn root(&self, epoch: Epoch) -> Option<Keccak> {
        self.closes.get(&epoch).map(|close| close.root)
    }
}

fn is_paid(row: &VerdictRow) -> bool {
    row.verdict == Verdict::Accepted && row.points > Points(0)
}

fn url_of(spec: &TaskSpec) -> String {
    let (body, max) = (&spec.body, limits::TASK_BODY_MAX);
    match spec.kind {
        TaskKind::Fetch => decode::<FetchTask>(body, max).map(|task| task.url.to_string()),
        TaskKind::Refine => decode::<RefineTask>(body, max).map(|task| task.url.to_string()),
        _ => return String::new(),
    }
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::log::{ReasonCode, ReceiptRow, Receipts, TaskBatch, Verdicts};
    use openledger_wire::{Blob, BlobId, CampaignId, List, Text, UnixMs, encode};

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn spec(kind: TaskKind, url: &str) -> TaskSpec {
        let url = Text::clipped(url);
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
        let (campaign, nonce, value_permille) = (CampaignId::ZERO, 0, 1_000);
        TaskSpec { campaign, kind, version: 1, nonce, value_permille, body }
    }

    fn note(tally: &mut Tally, line: Line) {
        let (height, previous) = (tally.next, LogHead::ZERO);
        tally.note(&Entry { height, previous, at: UnixMs(1), line }).unwrap();
    }

    fn row(proof: u8, task: TaskId, node: u8, verdict: Verdict) -> VerdictRow {
        let (proof, node) = (ProofId([proof; 32]), NodeId([node; 32]));
        VerdictRow {
            proof,
            task,
            node,
            verdict,
            reason: ReasonCode::ReplicasAgree,
            points: Points(1),
        }
    }

    #[test]
    fn verdicts_are_counted_by_url_account_and_honesty() {
        let mut tally = Tally::new(NETWORK);
        let (fetch, refine) =
            (spec(TaskKind::Fetch, "http://a/"), spec(TaskKind::Refine, "http://a/"));
        let ids = [fetch.id(NETWORK).unwrap(), refine.id(NETWORK).unwrap()];
        let tasks = List::new(vec![fetch, refine]).unwrap();
        note(&mut tally, Line::Tasks(TaskBatch { tasks }));
        tally.accounts.insert(NodeId([1; 32]), AccountId([1; 32]));
        tally.accounts.insert(NodeId([2; 32]), AccountId([2; 32]));
        let receipt = |proof: u8, task, node: u8| ReceiptRow {
            proof: ProofId([proof; 32]),
            task,
            wave: 0,
            node: NodeId([node; 32]),
        };
        let rows = [(1, ids[0], 1), (2, ids[0], 2), (3, ids[0], 3), (4, ids[1], 1), (5, ids[1], 3)];
        let rows: Vec<_> = rows.map(|(proof, task, node)| receipt(proof, task, node)).to_vec();
        let receipts = Receipts { count_by: Epoch(2), rows: List::new(rows).unwrap() };
        note(&mut tally, Line::Receipts(receipts));
        assert_eq!((tally.waiting(), tally.unjudged(&BTreeSet::from(["http://a/"]))), (5, 2));
        let rows = vec![
            row(1, ids[0], 1, Verdict::Accepted),
            row(2, ids[0], 2, Verdict::Accepted),
            row(3, ids[0], 3, Verdict::Rejected),
            row(4, ids[1], 1, Verdict::Accepted),
        ];
        let rows = List::new(rows).unwrap();
        note(&mut tally, Line::Verdicts(Verdicts { number: 1, epoch: Epoch(1), rows }));
        assert_eq!((tally.urls_refined(), tally.pages(), tally.waiting()), (1, (1, 2), 1));
        let noted: BTreeSet<ProofId> = [3, 5, 9].map(|proof| ProofId([proof; 32])).into();
        let dishonest = Dishonest { proofs: 2, accepted: 0, rejected: 1 };
        assert_eq!(tally.dishonest(&noted), dishonest);
        assert_eq!(tally.honest(&noted), Honest { accepted: 3, rejected: 0, inconclusive: 0 });
        assert!(tally.wronged(&noted).is_empty());
        assert_eq!(tally.unjudged(&BTreeSet::from(["http://a/"])), 0);
        assert_eq!((tally.points(), tally.accepted_of(TaskKind::Fetch)), (Points(3), 2));
        assert_eq!(tally.unjudged_of(TaskKind::Refine), 0);
        assert_eq!(tally.fetched(&["http://a/".to_owned(), "http://b/".to_owned()]), 1);
        assert!(tally.wronged(&BTreeSet::new())[0].contains("http://a/"));
    }

    #[test]
    fn what_counts_twice_is_noticed() {
        let mut tally = Tally::new(NETWORK);
        let task = TaskId([7; 32]);
        let receipt = |proof: u8| {
            let row =
                ReceiptRow { proof: ProofId([proof; 32]), task, wave: 0, node: NodeId([1; 32]) };
            Line::Receipts(Receipts { count_by: Epoch(2), rows: List::new(vec![row]).unwrap() })
        };
        let verdict = |number, row: VerdictRow| {
            let rows = List::new(vec![row]).unwrap();
            Line::Verdicts(Verdicts { number, epoch: Epoch(1), rows })
        };
        note(&mut tally, receipt(1));
        note(&mut tally, verdict(1, row(1, task, 1, Verdict::Accepted)));
        note(&mut tally, verdict(2, row(1, task, 1, Verdict::Rejected)));
        assert_eq!(tally.doubled(), 0, "a correction");
        note(&mut tally, receipt(1));
        assert_eq!(tally.doubled(), 1, "a second receipt");
        for (number, proof) in [(3, 2), (4, 3)] {
            note(&mut tally, verdict(number, row(proof, task, 1, Verdict::Accepted)));
        }
        assert_eq!(tally.doubled(), 2, "a second proof of the same work");
        assert!(tally.is_receipted(&ProofId([1; 32])) && !tally.is_receipted(&ProofId([2; 32])));
        assert!(tally.is_judged(&ProofId([3; 32])) && tally.head(Height(9)).is_none());
    }

    #[test]
    fn a_gap_in_the_log_is_noticed() {
        let mut tally = Tally::new(NETWORK);
        let line = Line::Tasks(TaskBatch { tasks: List::default() });
        let entry = Entry { height: Height(1), previous: LogHead::ZERO, at: UnixMs(1), line };
        assert!(tally.note(&entry).unwrap_err().to_string().contains("entry 1 came where 0"));
    }
}

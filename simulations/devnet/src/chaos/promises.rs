//! What the coordinator promised: every receipt that a node showed at any time, and whether the
//! log kept it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use openledger_wire::link::Receipt;
use openledger_wire::{ProofId, TaskId, UnixMs};
use reqwest::Client;
use tokio::task::JoinSet;

use crate::limits;
use crate::nodes::{Member, TaskRow};
use crate::tally::Tally;

/// A promise.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Promise {
    node: String,
    task: TaskId,
}

/// Collects promises from running nodes until it is dropped.
#[derive(Debug)]
pub struct Promises {
    book: Arc<Mutex<Book>>,
    http: Client,
    _asking: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Book {
    promises: BTreeMap<ProofId, Promise>,
    latest: BTreeMap<String, UnixMs>,
}

impl Book {
    fn note(&mut self, node: &str, rows: &[TaskRow]) {
        for row in rows {
            let Some(proof) = row.acknowledged() else { continue };
            let promise = Promise { node: node.to_owned(), task: row.task };
            self.promises.entry(proof).or_insert(promise);
            let at = row.acknowledged_at().unwrap_or_default();
            let latest = self.latest.entry(node.to_owned()).or_default();
            *latest = at.max(*latest);
        }
    }
}

/// How the promises were kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Proofs whose receipt a node showed at any time.
    pub acknowledged: u64,
    /// Of these, not acknowledged by the log.
    pub lost: u64,
    /// Of these, without a verdict.
    pub unjudged: u64,
    /// Of these, with a receipt that names another head than the log has there.
    pub forked: u64,
    /// Of these, not in the node's own outbox any more.
    pub forgotten: u64,
    /// When each node got its last receipt.
    pub latest: BTreeMap<String, UnixMs>,
}

impl Promises {
    /// Asks every node for its newest receipts, over and over.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn collect(members: &[Member]) -> anyhow::Result<Self> {
        let http = Client::builder().no_proxy().timeout(limits::ANSWER_TIME_MAX).build();
        let http = http.context("set up the HTTP client")?;
        let book = Arc::new(Mutex::new(Book::default()));
        let mut asking = JoinSet::new();
        for member in members.iter().cloned() {
            let (book, http) = (Arc::clone(&book), http.clone());
            asking.spawn(async move {
                loop {
                    // A node that was killed does not answer; it is asked again.
                    if let Ok(rows) = member.tasks(&http, limits::RECEIPT_ROWS).await {
                        lock(&book).note(&member.name, &rows);
                    }
                    tokio::time::sleep(limits::RECEIPTS_PAUSE).await;
                }
            });
        }
        Ok(Self { book, http, _asking: asking })
    }

    /// How many promises were seen so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.book).promises.len()
    }

    /// Asks for everything once more, and compares it with the log.
    ///
    /// # Errors
    /// When a node does not answer.
    pub async fn compare(self, members: &[Member], tally: &Tally) -> anyhow::Result<Kept> {
        let mut held = BTreeSet::new();
        let mut receipts = Vec::new();
        for member in members {
            let rows = member.tasks(&self.http, limits::RECEIPT_ROWS_MAX).await?;
            lock(&self.book).note(&member.name, &rows);
            for row in &rows {
                let Some(proof) = row.acknowledged() else { continue };
                held.insert(proof);
                let whole = member.task(&self.http, row.task).await?;
                receipts.extend(whole.into_iter().filter_map(|row| row.receipt));
            }
        }
        let book = lock(&self.book);
        Ok(compare(&book, &held, &receipts, tally))
    }
}

fn compare(book: &Book, held: &BTreeSet<ProofId>, receipts: &[Receipt], tally: &Tally) -> Kept {
    let count = |broken: &dyn Fn(&ProofId) -> bool| {
        book.promises.keys().filter(|proof| broken(proof)).count() as u64
    };
    let forked: BTreeSet<ProofId> = receipts
        .iter()
        .filter(|receipt| tally.head(receipt.batch.log_height) != Some(receipt.batch.log_head))
        .map(|receipt| receipt.proof)
        .collect();
    Kept {
        acknowledged: book.promises.len() as u64,
        lost: count(&|proof| !tally.is_receipted(proof)),
        unjudged: count(&|proof| !tally.is_judged(proof)),
        forked: forked.len() as u64,
        forgotten: count(&|proof| !held.contains(proof)),
        latest: book.latest.clone(),
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::NetworkId;
    use serde_json::json;

    fn row(proof: u8, receipted: bool) -> TaskRow {
        let stage = if receipted { "receipted" } else { "sent" };
        let row = json!({
            "task": TaskId([9; 32]), "proof": ProofId([proof; 32]),
            "count_by": receipted.then_some(3), "receipt": null, "stage": stage,
            "milestones": [{ "stage": "leased", "at": 5 }, { "stage": stage, "at": 7 }],
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn a_promise_stays_one_although_its_node_forgets_it() {
        let mut book = Book::default();
        book.note("node01", &[row(1, true), row(2, false)]);
        book.note("node01", &[row(3, true), row(3, true)]);
        let held = BTreeSet::from([ProofId([3; 32])]);
        let kept = compare(&book, &held, &[], &Tally::new(NetworkId([1; 32])));
        assert_eq!((kept.acknowledged, kept.forgotten), (2, 1));
        assert_eq!((kept.lost, kept.unjudged, kept.forked), (2, 2, 0), "the log holds nothing");
        assert_eq!(kept.latest["node01"], UnixMs(7));
    }
}

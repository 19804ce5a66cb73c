//! What came of events, as a batch for the ledger.

use openledger_ledger::{Batch, CommitKey, LogLine, Mark};
use openledger_rules::{Keep, Logged, Outcome};
use openledger_wire::log::{Entry, Line};
use openledger_wire::proof::Commit;
use openledger_wire::{EncodeError, EnvelopeError, Epoch, NetworkId, TaskId};

/// Adds an outcome to a batch.
pub(super) fn add(batch: &mut Batch, outcome: &Outcome, network: NetworkId) {
    for keep in &outcome.keep {
        match keep {
            Keep::Commit(envelope) => match commit_key(envelope, network) {
                Ok(key) => batch.commits.push((key, envelope.clone())),
                // The rules opened this envelope a moment ago.
                Err(error) => tracing::error!("failed to keep a commit: {error}"),
            },
            Keep::Proof(id, envelope) => batch.proofs.push((*id, envelope.clone())),
        }
    }
    for logged in &outcome.logged {
        batch.closed.extend(closed_commits(&logged.entry.line));
        batch.lines.push(line(logged, network));
    }
}

fn commit_key(
    envelope: &openledger_wire::Envelope,
    network: NetworkId,
) -> Result<CommitKey, EnvelopeError> {
    let opened = envelope.open::<Commit>(network)?;
    Ok(CommitKey { task: opened.value.task, wave: opened.value.wave, node: opened.signer })
}

/// Commits that a closed set settles, whether they are in it or came too late.
fn closed_commits(line: &Line) -> Vec<CommitKey> {
    let Line::Closed(closed) = line else { return Vec::new() };
    let keys = closed.sets.iter().flat_map(|set| {
        let (task, wave) = (set.task, set.wave);
        set.commits.iter().map(move |(node, _)| CommitKey { task, wave, node: *node })
    });
    keys.collect()
}

fn line(logged: &Logged, network: NetworkId) -> LogLine {
    LogLine {
        height: logged.entry.height,
        head: logged.head,
        bytes: logged.bytes.clone(),
        closes: closes(&logged.entry),
        marks: marks_of(&logged.entry, network),
    }
}

fn closes(entry: &Entry) -> Option<Epoch> {
    match &entry.line {
        Line::Epoch(close) => Some(close.epoch),
        _ => None,
    }
}

/// By what an entry is found later: its tasks, and the proofs that it receipts or judges.
fn marks_of(entry: &Entry, network: NetworkId) -> Vec<Mark> {
    let mut marks = Vec::new();
    match &entry.line {
        Line::Tasks(batch) => {
            let ids = batch.tasks.iter().map(|spec| spec.id(network));
            // A logged task has an encoding.
            marks.extend(ids.filter_map(|id: Result<TaskId, EncodeError>| id.ok()).map(Mark::Task));
        }
        Line::Leases(leases) => marks.extend(leases.rows.iter().map(|row| Mark::Task(row.task))),
        Line::Closed(closed) => marks.extend(closed.sets.iter().map(|set| Mark::Task(set.task))),
        Line::Receipts(receipts) => {
            for row in &receipts.rows {
                marks.extend([Mark::Task(row.task), Mark::Receipt(row.proof)]);
            }
        }
        Line::Verdicts(verdicts) => {
            for row in &verdicts.rows {
                marks.extend([Mark::Task(row.task), Mark::Verdict(row.proof)]);
            }
        }
        _ => {}
    }
    marks.sort();
    marks.dedup();
    marks
}

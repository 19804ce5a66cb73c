//! From the ledger back to the state: the log is replayed, and what nodes were told is kept is fed
//! to the rules again.

use std::cell::RefCell;
use std::sync::Arc;

use openledger_ledger::{Ledger, LedgerError, LogLine};
use openledger_rules::{Event, Machine};
use openledger_wire::log::Entry;
use openledger_wire::{Envelope, Height, ProofId, UnixMs};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use super::task::{Task, TaskParts};
use super::{CoreConfig, CoreError, Durable, store};
use crate::clock;
use crate::figures::Figures;
use crate::judge::FingerprintJudge;
use openledger_ledger::Batch;

/// Replays or begins the log; what is returned is durable.
pub(super) async fn restore(
    config: CoreConfig,
    durable: broadcast::Sender<Arc<Durable>>,
) -> Result<Task, CoreError> {
    let CoreConfig { setup, ledger, beacons, holder, stop } = config;
    let network = setup.network;
    let is_fresh = ledger.position().await?.next == Height(0);
    let (machine, figures) = if is_fresh {
        let judge = Arc::new(FingerprintJudge);
        let (machine, outcome) = Machine::start(setup, judge, clock::now())?;
        let mut batch = Batch::default();
        store::add(&mut batch, &outcome, network);
        ledger.commit(batch).await?;
        let mut figures = Figures::default();
        outcome.logged.iter().for_each(|logged| figures.note(&logged.entry, network));
        (machine, figures)
    } else {
        let ledger = Arc::clone(&ledger);
        let handle = Handle::current();
        let replaying = tokio::task::spawn_blocking(move || replay(setup, &ledger, &handle));
        replaying.await.map_err(|_| CoreError::Ended)??
    };
    tracing::info!(height = %machine.state().next_height(), is_fresh, "the log is open");
    let parts = TaskParts { machine, figures, ledger, durable, beacons, holder, stop };
    let mut task = Task::new(parts);
    task.feed_kept().await?;
    Ok(task)
}

/// The entries of a ledger, one by one; ends early on an error, which is kept.
struct Entries<'a> {
    ledger: &'a dyn Ledger,
    handle: &'a Handle,
    next: Height,
    page: std::vec::IntoIter<LogLine>,
    error: &'a RefCell<Option<LedgerError>>,
    figures: Figures,
    network: openledger_wire::NetworkId,
}

impl Iterator for Entries<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.page.len() == 0 {
            match self.handle.block_on(self.ledger.page(self.next, usize::MAX)) {
                Ok(page) => self.page = page.into_iter(),
                Err(error) => {
                    self.error.replace(Some(error));
                    return None;
                }
            }
        }
        let line = self.page.next()?;
        self.next = Height(line.height.0.saturating_add(1));
        if let Ok(entry) = Entry::from_bytes(&line.bytes) {
            self.figures.note(&entry, self.network);
        }
        Some(line.bytes)
    }
}

fn replay(
    setup: openledger_rules::Setup,
    ledger: &Arc<dyn Ledger>,
    handle: &Handle,
) -> Result<(Machine, Figures), CoreError> {
    let error = RefCell::new(None);
    let network = setup.network;
    let mut entries = Entries {
        ledger: ledger.as_ref(),
        handle,
        next: Height(0),
        page: Vec::new().into_iter(),
        error: &error,
        figures: Figures::default(),
        network,
    };
    let proofs = |id: &ProofId| -> Option<Envelope> {
        match handle.block_on(ledger.proof(*id)) {
            Ok(found) => found,
            Err(failed) => {
                error.replace(Some(failed));
                None
            }
        }
    };
    let replayed = Machine::restore(setup, Arc::new(FingerprintJudge), &mut entries, &proofs);
    let figures = std::mem::take(&mut entries.figures);
    // A storage that failed explains whatever the rules complained about.
    if let Some(error) = error.take() {
        return Err(error.into());
    }
    Ok((replayed?, figures))
}

impl Task {
    /// Feeds kept commits and proofs to the rules, as of the log's own time: what was in time
    /// before a stop is in time after it.
    async fn feed_kept(&mut self) -> Result<(), CoreError> {
        let commits = self.ledger.open_commits().await?.into_iter();
        let proofs = self.ledger.unreceipted().await?.into_iter();
        let mut events: Vec<Event> = commits.map(|(_, envelope)| Event::Commit(envelope)).collect();
        events.extend(proofs.map(Event::Proof));
        let count = events.len();
        for event in events {
            match self.machine.handle(UnixMs(0), event) {
                Ok(outcome) if !outcome.logged.is_empty() => {
                    tracing::warn!("a kept statement made the rules say something; it is kept");
                    self.pending.push(outcome);
                }
                Ok(_) => {}
                Err(refusal) => tracing::debug!(code = refusal.code, "a kept statement is moot"),
            }
        }
        if count > 0 {
            tracing::info!(count, "kept statements are with the rules again");
        }
        self.make_durable().await
    }
}

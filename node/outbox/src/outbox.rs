//! The durable outbox: records, signed envelopes, running numbers.
//!
//! Every method that changes something is one transaction, synced before it returns, so an
//! [`Action`] never rests on what a power cut could take back. Calls block on the disk for a few
//! milliseconds; async callers move them off their reactor.

use std::ops::ControlFlow;
use std::path::Path;

use openledger_tables::{Migration, OpenError, Store, StoreError, StoreOptions};
use openledger_wire::link::{AccountStatus, Declined, LinkPush, NodeState};
use openledger_wire::proof::ProofBody;
use openledger_wire::{
    BlobId, Commitment, Envelope, NetworkId, NodeId, NodeKey, Open, ProofId, SecretNonce, UnixMs,
};
use thiserror::Error;

use crate::batch::Batch;
use crate::check::Judge;
use crate::event::{Action, Effect, Event, Handled, Key};
use crate::history::{Entry, Query, Totals};
use crate::limits;
use crate::owner;
use crate::record::Work;
use crate::rows::{BY_PROOF, BY_TIME, LEASES, LIVE, PROOFS, Row, SIGNED, TOTALS, WORK};

/// Why the outbox could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The file could not be opened.
    #[error("open the outbox: {0}")]
    Open(#[from] OpenError),
    /// Reading or writing failed.
    #[error("keep the outbox: {0}")]
    Store(#[from] StoreError),
    /// Signing failed, which only an oversized output can cause.
    #[error("sign the work: {0}")]
    Sign(String),
    /// A stored envelope does not decode.
    #[error("read a stored proof: {0}; the outbox file is damaged, restore a backup")]
    Envelope(String),
    /// The file holds the promises of another node or network.
    #[error(
        "open the outbox: it holds what node {node} promised in network {network}, which this one must not go on with; give each network a folder of its own and put the file back where it was"
    )]
    OtherOwner {
        /// The network of the file.
        network: NetworkId,
        /// The node of the file.
        node: NodeId,
    },
}

/// Whose outbox this is and whom it believes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whom to believe.
    pub judge: Judge,
    /// The node's key.
    pub key: NodeKey,
}

/// A finished output, to be promised.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The lease.
    pub key: Key,
    /// What went in: the page's id; zero for a fetch.
    pub input: BlobId,
    /// The output.
    pub body: ProofBody,
    /// A fresh secret of 32 random bytes.
    pub nonce: SecretNonce,
    /// What to commit to; `None` for the commitment that nonce and body open.
    pub commitment: Option<Commitment>,
}

/// The outbox of one node in one network.
#[derive(Debug)]
pub struct Outbox {
    store: Store,
    setup: Setup,
}

impl Outbox {
    /// Opens or creates the outbox in a file. A file of an older layout is migrated, and a copy
    /// of it stays beside it.
    ///
    /// # Errors
    /// [`OutboxError::Open`], and [`OutboxError::OtherOwner`] for the file of another node or
    /// network.
    pub fn open(path: impl AsRef<Path>, setup: Setup) -> Result<Self, OutboxError> {
        Self::on(Store::open(path, options())?, setup)
    }

    /// An outbox on a store of the caller, opened with [`options`](Self::options).
    ///
    /// # Errors
    /// [`OutboxError::OtherOwner`], and the store's errors.
    pub fn on(store: Store, setup: Setup) -> Result<Self, OutboxError> {
        owner::check(&store, &setup.judge)?;
        Ok(Self { store, setup })
    }

    /// How the outbox's store is opened.
    #[must_use]
    pub const fn options() -> StoreOptions {
        options()
    }

    /// Takes what the coordinator pushed.
    ///
    /// # Errors
    /// The store's errors.
    pub fn push(&self, now: UnixMs, push: &LinkPush) -> Result<Handled, OutboxError> {
        self.change(|batch| match push {
            LinkPush::Leases(leases) => batch.leases(now, leases),
            LinkPush::Closed(sets) => batch.closed(now, sets),
            LinkPush::Receipts(receipts) => batch.receipts(now, receipts),
            LinkPush::Verdicts(verdicts) => batch.verdicts(now, verdicts),
            LinkPush::EpochClosed(_) => Ok(()),
        })
    }

    /// Takes the coordinator's answer to a sync.
    ///
    /// # Errors
    /// The store's errors.
    pub fn state(&self, now: UnixMs, state: &NodeState) -> Result<Handled, OutboxError> {
        self.change(|batch| {
            batch.leases(now, &state.leases)?;
            batch.closed(now, &state.closed)?;
            batch.receipts(now, &state.receipts)?;
            batch.verdicts(now, &state.verdicts)?;
            for proof in &state.unknown {
                batch.by_proof(now, *proof, Event::ProofUnknown)?;
            }
            Ok(())
        })
    }

    /// Applies events to leases.
    ///
    /// # Errors
    /// The store's errors.
    pub fn events(&self, now: UnixMs, events: &[(Key, Event)]) -> Result<Handled, OutboxError> {
        self.change(|batch| {
            for (key, event) in events {
                batch.apply(now, *key, event.clone())?;
            }
            Ok(())
        })
    }

    /// Signs commitment and proof of a finished output and keeps both. The commitment may be sent
    /// when this returns. Where the lease has a promise already, that one is sent again.
    ///
    /// # Errors
    /// [`OutboxError::Sign`] for an output that is too large, and the store's errors.
    pub fn finish(&self, now: UnixMs, finished: &Finished) -> Result<Handled, OutboxError> {
        self.change(|batch| batch.finish(now, finished))
    }

    /// Notes an epoch's close and what of the account was claimed on chain.
    ///
    /// Points of accepted work count as vested once the account's pending points could not hold
    /// them any more, given that pending points vest oldest first.
    ///
    /// # Errors
    /// The store's errors.
    pub fn account(
        &self,
        now: UnixMs,
        account: &AccountStatus,
        claimed: Option<Open>,
    ) -> Result<Handled, OutboxError> {
        let epoch = account.epoch;
        let paid = account.cumulative > Open::ZERO
            && claimed.is_some_and(|claimed| claimed >= account.cumulative);
        self.change(|batch| {
            let mut due: Vec<Work> = batch.live()?;
            due.retain(|work| work.epoch().is_some_and(|own| own <= epoch));
            for work in &due {
                let newer = |other: &&Work| other.is_accepted() && other.epoch() > work.epoch();
                let newer: u64 = due.iter().filter(newer).map(|other| other.points().0).sum();
                let vested = newer.saturating_add(work.points().0) > account.pending.0;
                batch.apply(now, work.key(), Event::EpochClosed { epoch, vested })?;
                if paid {
                    batch.apply(now, work.key(), Event::Claimed)?;
                }
            }
            Ok(())
        })
    }

    /// Lets deadlines pass.
    ///
    /// # Errors
    /// The store's errors.
    pub fn tick(&self, now: UnixMs) -> Result<Handled, OutboxError> {
        let late = |work: &Work| work.stage.is_open() && work.deadline <= now;
        if !self.live()?.iter().any(late) {
            return Ok(Handled::default());
        }
        self.change(|batch| {
            for work in batch.live()?.iter().filter(|work| late(work)) {
                batch.apply(now, work.key(), Event::Tick)?;
            }
            Ok(())
        })
    }

    /// All that is to be done after a start or a new connection. Changes nothing.
    ///
    /// # Errors
    /// The store's errors.
    pub fn resume(&self, now: UnixMs) -> Result<Vec<Action>, OutboxError> {
        let mut actions = Vec::new();
        for work in self.live()? {
            for effect in work.resume(now) {
                actions.extend(self.action(&work, effect)?);
            }
        }
        Ok(actions)
    }

    /// Proofs whose fate the coordinator is asked about, oldest first.
    ///
    /// # Errors
    /// The store's errors.
    pub fn unsettled(&self) -> Result<Vec<ProofId>, OutboxError> {
        let mut live = self.live()?;
        live.retain(Work::is_unsettled);
        live.sort_by_key(|work| work.leased_at);
        Ok(live.iter().filter_map(Work::proof).take(limits::UNSETTLED_MAX).collect())
    }

    /// Records that can still change.
    ///
    /// # Errors
    /// The store's errors.
    pub fn live(&self) -> Result<Vec<Work>, OutboxError> {
        self.store.read(|txn| {
            let keys = txn.table(LIVE)?.range(.., usize::MAX)?;
            let table = txn.table(WORK)?;
            let mut found = Vec::with_capacity(keys.len());
            for (row, ()) in keys {
                found.extend(table.get(&row)?);
            }
            Ok(found)
        })
    }

    /// One lease.
    ///
    /// # Errors
    /// The store's errors.
    pub fn get(&self, key: Key) -> Result<Option<Entry>, OutboxError> {
        self.store.read(|txn| {
            let Some(work) = txn.get(WORK, &key.row())? else { return Ok(None) };
            let leased = txn.get(LEASES, &key.row())?.map(|leased| leased.0);
            Ok(Some(Entry { work, leased }))
        })
    }

    /// The signed proof of a lease.
    ///
    /// # Errors
    /// The store's errors.
    pub fn proof(&self, key: Key) -> Result<Option<Envelope>, OutboxError> {
        let bytes = self.store.read::<_, OutboxError>(|txn| Ok(txn.get(PROOFS, &key.row())?))?;
        bytes.map(|bytes| open_envelope(&bytes)).transpose()
    }

    /// Leases as a query wants them, newest first.
    ///
    /// # Errors
    /// The store's errors.
    pub fn history(&self, query: &Query) -> Result<Vec<Entry>, OutboxError> {
        let rows_max = query.rows_max.min(limits::QUERY_ROWS_MAX);
        self.store.read(|txn| {
            let before = query.before.map_or(u64::MAX, |at| at.0);
            let keys = txn
                .table(BY_TIME)?
                .range_back(..(before, Row::default()), limits::QUERY_ROWS_MAX.max(rows_max))?;
            let (table, leases) = (txn.table(WORK)?, txn.table(LEASES)?);
            let mut found = Vec::new();
            for ((_, row), ()) in keys {
                if found.len() >= rows_max {
                    break;
                }
                let key = Key::of_row(row);
                let wanted = |prefix: &String| key.task.to_string().starts_with(prefix.as_str());
                if query.task.as_ref().is_some_and(|prefix| !wanted(prefix)) {
                    continue;
                }
                let Some(work) = table.get(&row)? else { continue };
                let leased = leases.get(&row)?.map(|leased| leased.0);
                found.push(Entry { work, leased });
            }
            Ok(found)
        })
    }

    /// Sums over everything.
    ///
    /// # Errors
    /// The store's errors.
    pub fn totals(&self) -> Result<Totals, OutboxError> {
        self.store.read(|txn| Ok(txn.get(TOTALS, &0)?.unwrap_or_default()))
    }

    /// Drops settled records older than [`limits::HISTORY_MS`] and guards older than
    /// [`limits::GUARD_MS`]; tells how many rows went.
    ///
    /// # Errors
    /// The store's errors.
    pub fn prune(&self, now: UnixMs) -> Result<usize, OutboxError> {
        let history = now.0.saturating_sub(limits::HISTORY_MS);
        let guard = now.0.saturating_sub(limits::GUARD_MS);
        self.store.write(|txn| {
            let old = txn.table(BY_TIME)?.range(..(history, Row::default()), limits::PRUNE_ROWS)?;
            let mut gone = 0;
            for ((at, row), ()) in old {
                let work = txn.get(WORK, &row)?;
                if work.as_ref().is_some_and(Work::is_live) {
                    continue;
                }
                if let Some(proof) = work.as_ref().and_then(Work::proof) {
                    txn.remove(BY_PROOF, &proof.0)?;
                }
                txn.remove(WORK, &row)?;
                txn.remove(LEASES, &row)?;
                txn.remove(PROOFS, &row)?;
                txn.remove(LIVE, &row)?;
                txn.remove(BY_TIME, &(at, row))?;
                gone += 1;
            }
            let mut stale = Vec::new();
            txn.table(SIGNED)?.scan(.., |row, deadline| {
                if deadline < guard {
                    stale.push(row);
                }
                if stale.len() < limits::PRUNE_ROWS {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            for row in &stale {
                txn.remove(SIGNED, row)?;
            }
            Ok(gone + stale.len())
        })
    }

    /// One transaction; its effects become actions with what was committed.
    fn change(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), OutboxError>,
    ) -> Result<Handled, OutboxError> {
        let (mut handled, effects) = self.store.write(|txn| {
            let mut batch = Batch::new(txn, &self.setup);
            work(&mut batch)?;
            Ok::<_, OutboxError>(batch.into_parts())
        })?;
        for (key, effect) in effects {
            let Some(entry) = self.get(key)? else { continue };
            handled.actions.extend(self.action(&entry.work, effect)?);
        }
        Ok(handled)
    }

    /// An effect with its payload; `None` where the payload is gone.
    fn action(&self, work: &Work, effect: Effect) -> Result<Option<Action>, OutboxError> {
        let key = work.key();
        let promise = work.promise.as_ref();
        Ok(match effect {
            Effect::Work => {
                let leased = self.get(key)?.and_then(|entry| entry.leased);
                leased.map(|leased| Action::Work(Box::new(leased)))
            }
            Effect::SendCommit => {
                promise.map(|promise| Action::SendCommit { key, envelope: promise.commit.clone() })
            }
            Effect::SendProof | Effect::GossipProof => {
                let (Some(promise), Some(envelope)) = (promise, self.proof(key)?) else {
                    return Ok(None);
                };
                let proof = promise.proof;
                Some(if effect == Effect::SendProof {
                    Action::SendProof { key, proof, envelope }
                } else {
                    Action::GossipProof { proof, envelope }
                })
            }
            Effect::Decline => {
                let reason = work.why.clone();
                Some(Action::Decline(Declined { task: key.task, wave: key.wave, reason }))
            }
        })
    }
}

/// Number 2 says whose outbox it is. The step itself has nothing to rewrite: who opens the file
/// knows the owner and writes it.
const MIGRATIONS: [Migration; 1] = [Migration { from: 1, run: |_| Ok(()) }];

const fn options() -> StoreOptions {
    StoreOptions::new("outbox", 2).with_migrations(&MIGRATIONS)
}

fn open_envelope(bytes: &[u8]) -> Result<Envelope, OutboxError> {
    Envelope::from_bytes(bytes).map_err(|error| OutboxError::Envelope(error.to_string()))
}

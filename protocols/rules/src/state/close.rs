//! Closing an epoch: vesting, the budget's shares, the settlement tree, and every root of the post.

use std::collections::BTreeMap;

use openledger_wire::link::Claim;
use openledger_wire::log::{AccountRow, Entry, EpochClose};
use openledger_wire::merkle::{self, verdict_leaf};
use openledger_wire::task::{RefineTask, TaskKind};
use openledger_wire::{AccountId, Epoch, EvmAddress, List, Open, Points, TaskId, UnixMs};
use thiserror::Error;

use super::apply::{differs, not_allowed};
use super::{AccountRecord, ApplyError, State};
use crate::shares::largest_remainder;
use crate::sumtree::{SumTree, SumTreeError};

/// Why an epoch cannot be closed. None of these can happen below 2^128 units of OPEN and the
/// limits of the wire.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CloseError {
    /// A sum passed 2^128.
    #[error("a sum of OPEN exceeds 128 bits; the rule set's budget is wrong")]
    Overflow,
    /// More accounts than one line may hold.
    #[error("{0} accounts do not fit one line of the log")]
    TooManyAccounts(usize),
    /// The tree refused.
    #[error("build the settlement tree: {0}")]
    Tree(#[from] SumTreeError),
}

impl State {
    /// The close of the open epoch at `at`, and the accounts after it. Changes nothing.
    pub fn close(
        &self,
        at: UnixMs,
    ) -> Result<(EpochClose, BTreeMap<AccountId, AccountRecord>), CloseError> {
        let rules = &self.setup.rules;
        let mut accounts = self.accounts.clone();
        let mut vested: Vec<(AccountId, u64)> = Vec::new();
        for (id, account) in &mut accounts {
            if let Some((_, payout)) = account.payout_pending.take_if(|(from, _)| *from <= at) {
                account.payout = Some(payout);
            }
            let points = account.queue.vest(
                self.epoch,
                account.accepted,
                rules.vest_epochs,
                rules.vest_accepted,
            );
            account.vested = Points(account.vested.0.saturating_add(points.0));
            vested.push((*id, points.0));
        }
        let budget = rules.epoch_budget;
        let shares = largest_remainder(budget.0, &vested);
        let mut given = Open::ZERO;
        let mut rows = Vec::with_capacity(accounts.len());
        for ((id, share), (_, points)) in shares.iter().zip(&vested) {
            let earned = Open(*share);
            let Some(account) = accounts.get_mut(id) else { continue };
            account.cumulative =
                account.cumulative.checked_add(earned).ok_or(CloseError::Overflow)?;
            given = given.checked_add(earned).ok_or(CloseError::Overflow)?;
            rows.push(AccountRow {
                account: *id,
                vested: Points(*points),
                pending: account.queue.pending(),
                earned,
                cumulative: account.cumulative,
            });
        }
        let tree = SumTree::build(leaves(&accounts)?)?;
        let unbound = unbound(&accounts)?;
        let count = rows.len();
        let close = EpochClose {
            epoch: self.epoch,
            root: tree.root(),
            total: tree.total(),
            size: tree.size(),
            proofs_root: self.proofs_root(),
            call_receipts_root: merkle::root(&[]),
            attribution_root: merkle::root(&[]),
            unbound,
            lapsed: budget.checked_sub(given).ok_or(CloseError::Overflow)?,
            accounts: List::new(rows).map_err(|_| CloseError::TooManyAccounts(count))?,
        };
        Ok((close, accounts))
    }

    fn proofs_root(&self) -> openledger_wire::Keccak {
        let leaves: Vec<_> = self
            .epoch_verdicts
            .iter()
            .map(|(proof, (code, points))| verdict_leaf(proof, *code, *points))
            .collect();
        merkle::root(&leaves)
    }

    /// What an account can claim from the root of a closed epoch: its address's leaf with the way
    /// to the root. `None` if the account had no address or no OPEN then, or the epoch is too old.
    #[must_use]
    pub fn claim(&self, account: &AccountId, epoch: Epoch) -> Option<Claim> {
        let payout = self.accounts.get(account)?.payout?;
        let tree = SumTree::build(self.settled.get(&epoch)?.clone()).ok()?;
        let proof = tree.proof(&payout)?;
        Some(Claim {
            epoch,
            payout,
            cumulative: tree.amount(&payout)?,
            index: proof.index,
            size: proof.size,
            siblings: List::new(proof.siblings).ok()?,
        })
    }

    pub(super) fn apply_epoch(
        &mut self,
        entry: &Entry,
        close: &EpochClose,
    ) -> Result<(), ApplyError> {
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
        let leaves = leaves(&accounts).map_err(|e| not_allowed(entry, "epoch close", &e))?;
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
        let old = |done: Epoch| done.0.saturating_add(keep) < epoch;
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

/// Cumulative OPEN by payout address. Several accounts may share an address: its leaf is their
/// sum.
pub(super) fn leaves(
    accounts: &BTreeMap<AccountId, AccountRecord>,
) -> Result<BTreeMap<EvmAddress, Open>, CloseError> {
    let mut leaves: BTreeMap<EvmAddress, Open> = BTreeMap::new();
    for account in accounts.values().filter(|account| account.cumulative > Open::ZERO) {
        let Some(payout) = account.payout else { continue };
        let sum = leaves.entry(payout).or_insert(Open::ZERO);
        *sum = sum.checked_add(account.cumulative).ok_or(CloseError::Overflow)?;
    }
    Ok(leaves)
}

/// What is earned by accounts without an address.
fn unbound(accounts: &BTreeMap<AccountId, AccountRecord>) -> Result<Open, CloseError> {
    let mut without = accounts.values().filter(|account| account.payout.is_none());
    let sum = without.try_fold(Open::ZERO, |sum, account| sum.checked_add(account.cumulative));
    sum.ok_or(CloseError::Overflow)
}

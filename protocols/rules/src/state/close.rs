//! Closing an epoch: vesting, the budget's shares, the settlement tree, and every root of the post.

use std::collections::BTreeMap;

use openledger_wire::link::Claim;
use openledger_wire::log::{AccountRow, EpochClose};
use openledger_wire::merkle::{self, verdict_leaf};
use openledger_wire::{AccountId, Epoch, EvmAddress, List, Open, Points, UnixMs};
use thiserror::Error;

use super::{AccountRecord, State};
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

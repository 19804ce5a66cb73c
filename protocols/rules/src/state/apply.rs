//! Applying one entry: that it follows the one before, and which rule its line falls under.
//!
//! What each line changes is beside this file: members, rounds, verdicts, the close of an epoch.

use openledger_wire::log::{Entry, Genesis, Line, next_head};
use openledger_wire::{Envelope, ProofId};

use super::{ApplyError, Judge, State};

/// Proofs by id, for entries that only name them.
pub trait Evidence {
    /// The signed proof.
    fn proof(&self, id: &ProofId) -> Option<Envelope>;
}

impl<F: Fn(&ProofId) -> Option<Envelope>> Evidence for F {
    fn proof(&self, id: &ProofId) -> Option<Envelope> {
        self(id)
    }
}

impl State {
    /// Checks an entry and applies it. On an error the state is unchanged in what it shows, but
    /// must not be used further: the log is broken.
    pub fn apply(
        &mut self,
        entry: &Entry,
        judge: &dyn Judge,
        evidence: &dyn Evidence,
    ) -> Result<(), ApplyError> {
        let chain = |what| Err(ApplyError::Chain { height: entry.height, what });
        if entry.height != self.next_height {
            return chain("height");
        }
        if entry.previous != self.head {
            return chain("previous head");
        }
        if entry.at < self.at {
            return chain("clock runs backwards");
        }
        if self.started == matches!(entry.line, Line::Genesis(_)) {
            return chain("the genesis comes first and once");
        }
        self.apply_line(entry, judge, evidence)?;
        self.head = next_head(self.setup.network, &self.head, &entry.to_bytes()?);
        self.next_height = self.next_height.next();
        self.at = entry.at;
        Ok(())
    }

    fn apply_line(
        &mut self,
        entry: &Entry,
        judge: &dyn Judge,
        evidence: &dyn Evidence,
    ) -> Result<(), ApplyError> {
        match &entry.line {
            Line::Genesis(genesis) => self.apply_genesis(entry, genesis),
            Line::Join(join) => self.apply_join(entry, join),
            Line::Revoke(envelope) => self.apply_revoke(entry, envelope),
            Line::Bind(envelope) => self.apply_bind(entry, envelope),
            Line::Campaign(campaign) => self.apply_campaign(entry, campaign),
            Line::Tasks(batch) => self.apply_tasks(entry, batch),
            Line::Round(seal) => self.apply_seal(entry, seal, judge),
            Line::Beacon(value) => self.apply_beacon(entry, value),
            Line::Leases(leases) => self.apply_leases(entry, leases),
            Line::Closed(closed) => self.apply_closed(entry, closed),
            Line::Receipts(receipts) => self.apply_receipts(entry, receipts, evidence),
            Line::Verdicts(verdicts) => self.apply_verdicts(entry, verdicts, judge),
            Line::Epoch(close) => self.apply_epoch(entry, close),
            Line::Posted(posted) => {
                self.posted.insert(posted.epoch);
                Ok(())
            }
        }
    }

    fn apply_genesis(&mut self, entry: &Entry, genesis: &Genesis) -> Result<(), ApplyError> {
        let expected = self.genesis()?;
        if *genesis != expected {
            return Err(differs(entry, "genesis", genesis, &expected));
        }
        self.started = true;
        Ok(())
    }

    /// The first line of this network's log.
    pub fn genesis(&self) -> Result<Genesis, ApplyError> {
        let founding = openledger_wire::List::new(self.setup.founding.clone());
        Ok(Genesis {
            network: self.setup.network,
            rule_set: self.setup.rules.id()?,
            genesis: self.setup.genesis,
            founding: founding.unwrap_or_default(),
        })
    }
}

/// A line that the rules do not allow here.
pub(super) fn not_allowed(
    entry: &Entry,
    line: &'static str,
    why: &dyn std::fmt::Display,
) -> ApplyError {
    ApplyError::NotAllowed { height: entry.height, line, why: why.to_string() }
}

/// A line that the rules compute otherwise.
pub(super) fn differs(
    entry: &Entry,
    line: &'static str,
    logged: &dyn std::fmt::Debug,
    computed: &dyn std::fmt::Debug,
) -> ApplyError {
    let cut = |value: &dyn std::fmt::Debug| format!("{value:?}").chars().take(300).collect();
    ApplyError::Differs { height: entry.height, line, logged: cut(logged), computed: cut(computed) }
}

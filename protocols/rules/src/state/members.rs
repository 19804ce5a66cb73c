//! Who takes part: nodes that join, delegations that end, payout addresses of accounts.

use std::collections::BTreeMap;

use openledger_wire::identity::{Revocation, open_binding, open_registration};
use openledger_wire::log::{Entry, Join};
use openledger_wire::{Envelope, OwnerPublic};

use super::apply::not_allowed;
use super::{ApplyError, NodeRecord, State};

impl State {
    pub(super) fn apply_join(&mut self, entry: &Entry, join: &Join) -> Result<(), ApplyError> {
        let member = open_registration(&join.registration, self.setup.network, entry.at)
            .map_err(|e| not_allowed(entry, "join", &e))?;
        let node = member.node;
        let serial = member.delegation.serial;
        if self.revoked.get(&node).is_some_and(|upto| serial <= *upto) {
            return Err(not_allowed(entry, "join", &"the delegation was revoked"));
        }
        self.accounts.entry(member.account).or_default();
        let start = self.setup.rules.weight_start_milli;
        let founding = self.setup.founding.contains(&node);
        let cohort = self.epoch.0;
        match self.nodes.get_mut(&node) {
            Some(known) if known.member.account != member.account => {
                return Err(not_allowed(entry, "join", &"the node belongs to another account"));
            }
            Some(known) => {
                known.whereabouts = join.whereabouts;
                known.member = member;
                known.weight_milli = known.weight_milli.max(start / 4);
            }
            None => {
                let record = NodeRecord {
                    member,
                    whereabouts: join.whereabouts,
                    cohort,
                    founding,
                    weight_milli: start,
                    accepted: 0,
                    rejected: 0,
                    trust: BTreeMap::new(),
                    open_leases: 0,
                };
                self.nodes.insert(node, record);
            }
        }
        Ok(())
    }

    pub(super) fn apply_revoke(
        &mut self,
        entry: &Entry,
        envelope: &Envelope,
    ) -> Result<(), ApplyError> {
        let opened = envelope
            .open::<Revocation>(self.setup.network)
            .map_err(|e| not_allowed(entry, "revocation", &e))?;
        let owner = OwnerPublic(opened.signer.0);
        let known = self.nodes.get(&opened.value.node);
        if known.is_none_or(|node| node.member.owner != owner) {
            return Err(not_allowed(entry, "revocation", &"signed by another owner"));
        }
        let serial = self.revoked.entry(opened.value.node).or_insert(0);
        *serial = (*serial).max(opened.value.serial);
        Ok(())
    }

    pub(super) fn apply_bind(
        &mut self,
        entry: &Entry,
        envelope: &Envelope,
    ) -> Result<(), ApplyError> {
        let domain = self.setup.domain;
        let binding = open_binding(envelope, self.setup.network, &domain)
            .map_err(|e| not_allowed(entry, "binding", &e))?;
        let rebind_ms = self.setup.rules.rebind_ms;
        let account = self.accounts.entry(binding.typed.account).or_default();
        if binding.typed.nonce <= account.payout_nonce {
            return Err(not_allowed(entry, "binding", &"its nonce is not above the last one"));
        }
        account.payout_nonce = binding.typed.nonce;
        let payout = binding.typed.payout;
        let agreed = match (account.payout, &binding.former_signature) {
            (None, _) => true,
            (Some(former), Some(signature)) => {
                use openledger_wire::eip712::Typed;
                binding.typed.verify(&domain, signature, &former).is_ok()
            }
            (Some(former), None) => former == payout,
        };
        if agreed {
            account.payout = Some(payout);
            account.payout_pending = None;
        } else {
            account.payout_pending = Some((entry.at.plus_ms(rebind_ms), payout));
        }
        Ok(())
    }
}

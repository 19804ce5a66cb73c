//! What the coordinator signs: heads, and one signature per batch of receipts or verdicts.
//!
//! Signatures are deterministic (RFC 6979) and batches follow from log entries, so that a batch
//! signed again after a restart is the same, byte for byte; nothing signed needs to be stored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use openledger_rules::Logged;
use openledger_rules::machine::{receipts_of, verdicts_of};
use openledger_wire::eip712::{Domain, SignedHead, Typed};
use openledger_wire::gossip::GossipedHead;
use openledger_wire::keys::KeyError;
use openledger_wire::link::{Receipt, SignedVerdict};
use openledger_wire::{EvmAddress, Height, LogHead, NetworkId, NodeId, ProofId, SettlementKey};

use crate::limits;

/// Receipts or verdicts of one entry, signed.
#[derive(Debug, Default)]
pub struct Signed {
    /// Receipts with whom they are for.
    pub receipts: BTreeMap<ProofId, (NodeId, Receipt)>,
    /// Verdicts.
    pub verdicts: BTreeMap<ProofId, SignedVerdict>,
}

/// Signs with the settlement key.
#[derive(Debug)]
pub struct Signer {
    key: SettlementKey,
    domain: Domain,
    network: NetworkId,
    kept: Mutex<BTreeMap<Height, Arc<Signed>>>,
}

impl Signer {
    /// A signer for a network.
    #[must_use]
    pub fn new(key: SettlementKey, domain: Domain, network: NetworkId) -> Self {
        Self { key, domain, network, kept: Mutex::default() }
    }

    /// Whose signatures these are.
    #[must_use]
    pub fn address(&self) -> EvmAddress {
        self.key.address()
    }

    /// A signed head of the log. Only durable heads may come here: two heads of one height cost
    /// the bond.
    ///
    /// # Errors
    /// An unusable key.
    pub fn head(&self, height: Height, head: LogHead) -> Result<GossipedHead, KeyError> {
        let head = SignedHead { network: self.network, height, head };
        Ok(GossipedHead { head, signature: head.sign(&self.domain, &self.key)? })
    }

    /// What is signed because of a durable entry; nothing for most entries.
    ///
    /// # Errors
    /// An unusable key.
    pub fn of_entry(&self, logged: &Logged) -> Result<Arc<Signed>, KeyError> {
        let height = logged.entry.height;
        if let Some(known) = self.kept().get(&height) {
            return Ok(Arc::clone(known));
        }
        let mut signed = Signed::default();
        if let Some((batch, rows)) = receipts_of(logged, self.network) {
            let signature = batch.sign(&self.domain, &self.key)?;
            for (proof, node, path) in rows {
                signed.receipts.insert(proof, (node, Receipt { proof, batch, path, signature }));
            }
        }
        if let Some((batch, rows)) = verdicts_of(logged, self.network) {
            let signature = batch.sign(&self.domain, &self.key)?;
            for (row, path) in rows {
                let verdict = SignedVerdict { row, batch, path, signature };
                signed.verdicts.insert(row.proof, verdict);
            }
        }
        let signed = Arc::new(signed);
        if !signed.receipts.is_empty() || !signed.verdicts.is_empty() {
            let mut kept = self.kept();
            kept.insert(height, Arc::clone(&signed));
            while kept.len() > limits::SIGNED_BATCHES_KEPT {
                kept.pop_first();
            }
        }
        Ok(signed)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<Height, Arc<Signed>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

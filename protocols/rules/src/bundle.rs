//! The published bundle of an epoch, and the audit that anyone can run on it.

use openledger_wire::log::{Entry, EpochClose, Line};
use openledger_wire::merkle::data_commitment;
use openledger_wire::{
    Blob, DecodeError, EncodeError, Envelope, Epoch, Keccak, LogHead, ProofId, decode, encode,
    limits,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

use crate::params::Setup;
use crate::state::{ApplyError, Judge, State};

/// A bundle is at most this long, in bytes: an epoch of a million verdict rows with their proofs
/// as evidence beside it.
pub const BUNDLE_MAX: usize = 512 * 1024 * 1024;

/// All that the coordinator said in an epoch, and the proofs that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The epoch.
    pub epoch: Epoch,
    /// Canonical entries, from behind the last close to this one's.
    pub entries: Vec<Blob<{ limits::LINE_MAX }>>,
    /// The receipted proofs' envelopes, sorted by proof id.
    pub proofs: Vec<Envelope>,
}

impl Bundle {
    /// The canonical bytes, which the data commitment covers.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        encode(self)
    }

    /// Reads a bundle; nothing in it is believed before it is audited.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, BUNDLE_MAX)
    }
}

/// Why an audit failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The log breaks a rule.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The bundles leave an epoch out.
    #[error(
        "audit: the bundle of epoch {missing} is missing; get it from the coordinator or a peer"
    )]
    Gap {
        /// Which one.
        missing: Epoch,
    },
    /// A bundle does not end in its epoch's close.
    #[error("audit: the bundle of epoch {0} does not end with that epoch's close; get it again")]
    NoClose(Epoch),
    /// Not encodable, which no decoded bundle is.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What an audit found about one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// The close, recomputed and equal to the logged one.
    pub close: EpochClose,
    /// The commitment to the bundle that was audited.
    pub data_commitment: Keccak,
    /// Its length in bytes.
    pub data_bytes: u64,
    /// Log head after the close.
    pub head: LogHead,
    /// Entries replayed.
    pub entries: usize,
    /// Proofs verified.
    pub proofs: usize,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Each epoch, in order.
    pub epochs: Vec<AuditedEpoch>,
}

/// Replays bundles from epoch 1 on: checks every signature, assignment, verdict and sum, and
/// recomputes every root.
pub fn audit(
    setup: Setup,
    judge: &dyn Judge,
    bundles: &[Bundle],
) -> Result<AuditReport, AuditError> {
    let mut state = State::new(setup);
    let mut report = AuditReport::default();
    for bundle in bundles {
        if bundle.epoch != state.epoch() {
            return Err(AuditError::Gap { missing: state.epoch() });
        }
        let proofs: BTreeMap<ProofId, &Envelope> =
            bundle.proofs.iter().map(|envelope| (ProofId(envelope.id()), envelope)).collect();
        let evidence = |id: &ProofId| proofs.get(id).map(|envelope| (*envelope).clone());
        for bytes in &bundle.entries {
            let entry = Entry::from_bytes(bytes).map_err(ApplyError::from)?;
            state.apply(&entry, judge, &evidence)?;
        }
        let close = state.last_close().filter(|close| close.epoch == bundle.epoch);
        let close = close.ok_or(AuditError::NoClose(bundle.epoch))?.clone();
        let bytes = bundle.to_bytes()?;
        report.epochs.push(AuditedEpoch {
            epoch: bundle.epoch,
            close,
            data_commitment: data_commitment(&bytes),
            data_bytes: bytes.len() as u64,
            head: state.head(),
            entries: bundle.entries.len(),
            proofs: bundle.proofs.len(),
        });
    }
    Ok(report)
}

/// The proofs that entries name, in the order of a bundle.
#[must_use]
pub fn named_proofs(entries: &[Entry]) -> Vec<ProofId> {
    let mut ids: Vec<ProofId> = entries
        .iter()
        .filter_map(|entry| match &entry.line {
            Line::Receipts(receipts) => Some(receipts.rows.iter().map(|row| row.proof)),
            _ => None,
        })
        .flatten()
        .collect();
    ids.sort();
    ids
}

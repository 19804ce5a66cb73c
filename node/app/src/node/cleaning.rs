//! Dropping the blobs of work that nobody asks about any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use openledger_outbox::{Outbox, OutboxError, Query};
use openledger_wire::proof::{FetchOutput, Proof, RefineOutput};
use openledger_wire::task::TaskKind;
use openledger_wire::{BlobId, NetworkId, UnixMs};

use super::Node;
use crate::limits;
use crate::time;

impl Node {
    /// Lets the store drop pages, archives and documents of leases older than the time in which
    /// the rules may still ask for them, unless younger work refers to the same bytes.
    pub(crate) async fn forget_blobs(self: &Arc<Self>) {
        let rules = &self.network.rules;
        let keep_ms = rules.epoch_ms.saturating_mul(rules.keep_epochs.saturating_add(1));
        let keep_ms = keep_ms.max(limits::KEEP_BLOBS_MS_MIN);
        let before = UnixMs(time::now().0.saturating_sub(keep_ms));
        let network = self.network.profile.network();
        let stale = match self.outbox(move |outbox| stale(outbox, network, before)).await {
            Ok(stale) => stale,
            Err(error) => return self.outbox_failed(&error),
        };
        for blob in stale {
            if let Err(error) = self.blobs.forget(blob).await {
                tracing::warn!("failed to {error}");
            }
        }
    }
}

/// Blobs of leases heard of before a time that no later lease refers to.
fn stale(outbox: &Outbox, network: NetworkId, before: UnixMs) -> Result<Vec<BlobId>, OutboxError> {
    let rows_max = limits::CLEAN_ROWS_MAX;
    let (mut old, mut young) = (BTreeSet::new(), BTreeSet::new());
    for entry in outbox.history(&Query { rows_max, ..Query::default() })? {
        let into = if entry.work.leased_at < before { &mut old } else { &mut young };
        if let Some(envelope) = outbox.proof(entry.work.key())?
            && let Ok(proof) = envelope.open::<Proof>(network)
        {
            into.extend(blobs_of(&proof.value));
        }
    }
    Ok(old.difference(&young).copied().collect())
}

/// What a proof says its node holds.
fn blobs_of(proof: &Proof) -> Vec<BlobId> {
    let body = &proof.body;
    match body.kind {
        TaskKind::Fetch => {
            body.read::<FetchOutput>().map(|output| vec![output.page, output.warc]).ok()
        }
        TaskKind::Refine => match body.read::<RefineOutput>() {
            Ok(RefineOutput::Document { document, .. }) => Some(vec![proof.input, document]),
            _ => Some(vec![proof.input]),
        },
        _ => None,
    }
    .unwrap_or_default()
}

//! Dropping the blobs of work that nobody asks about any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use openledger_outbox::{Outbox, OutboxError, Query};
use openledger_wire::proof::{FetchOutput, Proof, RefineOutput};
use openledger_wire::task::TaskKind;
use openledger_wire::{BlobId, NetworkId, UnixMs};

use super::{Enrolment, Node};
use crate::limits;
use crate::time;

/// Blobs that a network's work refers to.
#[derive(Debug, Default)]
struct Named {
    /// By leases older than the time in which the rules may still ask for them.
    old: BTreeSet<BlobId>,
    /// By younger leases.
    young: BTreeSet<BlobId>,
}

impl Node {
    /// Drops blobs from time to time, until the node ends.
    pub(crate) async fn keep_clean(self: Arc<Self>) {
        let mut due = tokio::time::interval(limits::PRUNE_EVERY);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            self.forget_blobs().await;
        }
    }

    /// Lets the store drop pages, archives and documents of old leases, unless younger work of any
    /// network refers to the same bytes.
    async fn forget_blobs(&self) {
        let mut all = Named::default();
        for enrolment in &self.enrolments {
            match enrolment.named_blobs().await {
                Ok(named) => {
                    all.old.extend(named.old);
                    all.young.extend(named.young);
                }
                Err(error) => return self.machine.fail(error.to_string()),
            }
        }
        for blob in all.old.difference(&all.young) {
            if let Err(error) = self.machine.blobs.forget(*blob).await {
                tracing::warn!("failed to {error}");
            }
        }
    }
}

impl Enrolment {
    async fn named_blobs(&self) -> Result<Named, OutboxError> {
        let rules = &self.network.rules;
        let keep_ms = rules.epoch_ms.saturating_mul(rules.keep_epochs.saturating_add(1));
        let keep_ms = keep_ms.max(limits::KEEP_BLOBS_MS_MIN);
        let before = UnixMs(time::now().0.saturating_sub(keep_ms));
        let network = self.network.profile.network();
        self.outbox(move |outbox| named(outbox, network, before)).await
    }
}

/// Blobs of an outbox's leases, by whether the lease was heard of before a time.
fn named(outbox: &Outbox, network: NetworkId, before: UnixMs) -> Result<Named, OutboxError> {
    let rows_max = limits::CLEAN_ROWS_MAX;
    let mut found = Named::default();
    for entry in outbox.history(&Query { rows_max, ..Query::default() })? {
        let is_old = entry.work.leased_at < before;
        let into = if is_old { &mut found.old } else { &mut found.young };
        if let Some(envelope) = outbox.proof(entry.work.key())?
            && let Ok(proof) = envelope.open::<Proof>(network)
        {
            into.extend(blobs_of(&proof.value));
        }
    }
    Ok(found)
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
        TaskKind::Infer => Some(vec![proof.input]),
        _ => None,
    }
    .unwrap_or_default()
}

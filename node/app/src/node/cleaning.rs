//! Dropping the blobs of work that nobody asks about any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use openledger_outbox::{Outbox, OutboxError, Query};
use openledger_wire::proof::{FetchOutput, Proof, RefineOutput};
use openledger_wire::task::TaskKind;
use openledger_wire::{BlobId, NetworkId, NodeKey, UnixMs};

use super::enrol::open_outbox;
use super::{Enrolment, Node, outbox_path};
use crate::data_dir::DataDir;
use crate::limits;
use crate::network::Network;
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
    /// network refers to the same bytes. Networks count that this node is not in at the moment:
    /// what it did there lies in the same store.
    async fn forget_blobs(&self) {
        let mut all = self.named_elsewhere().await;
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

impl Node {
    /// What the outboxes of networks refer to that this node is not in.
    async fn named_elsewhere(&self) -> Named {
        let (data, key) = (self.machine.data.clone(), self.machine.key.clone());
        let joined: BTreeSet<NetworkId> =
            self.enrolments.iter().map(|one| one.network.profile.network()).collect();
        let looking = tokio::task::spawn_blocking(move || elsewhere(&data, &key, &joined));
        looking.await.unwrap_or_default()
    }
}

impl Enrolment {
    async fn named_blobs(&self) -> Result<Named, OutboxError> {
        let before = kept_since(&self.network);
        let network = self.network.profile.network();
        self.outbox(move |outbox| named(outbox, network, before)).await
    }
}

/// What this node's outboxes of networks other than these refer to. One that does not open, for
/// instance because a command reads it, is passed over: the next round comes.
fn elsewhere(data: &DataDir, key: &NodeKey, joined: &BTreeSet<NetworkId>) -> Named {
    let mut all = Named::default();
    for network in Network::kept(data) {
        let id = network.profile.network();
        if joined.contains(&id) || !outbox_path(&network, key.public()).is_file() {
            continue;
        }
        let found = open_outbox(&network, &network.profile, key)
            .and_then(|outbox| named(&outbox, id, kept_since(&network)));
        match found {
            Ok(named) => {
                all.old.extend(named.old);
                all.young.extend(named.young);
            }
            Err(error) => tracing::debug!(network = network.name(), "failed to {error}"),
        }
    }
    all
}

/// Leases from before this are older than the time in which the rules may still ask for blobs.
fn kept_since(network: &Network) -> UnixMs {
    let rules = &network.rules;
    let keep_ms = rules.epoch_ms.saturating_mul(rules.keep_epochs.saturating_add(1));
    let keep_ms = keep_ms.max(limits::KEEP_BLOBS_MS_MIN);
    UnixMs(time::now().0.saturating_sub(keep_ms))
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

#[cfg(test)]
mod tests {
    use openledger_outbox::{Event, Finished, Key};
    use openledger_wire::link::{LeasedTask, LinkPush};
    use openledger_wire::log::{Lease, Role};
    use openledger_wire::proof::ProofBody;
    use openledger_wire::task::TaskSpec;
    use openledger_wire::{Blob, CampaignId, List, Round, SecretNonce};

    use super::*;
    use crate::network::profile;

    fn join(data: &DataDir, coordinator: u8) -> Network {
        let file = data.join("given.toml");
        let text = profile(coordinator, "http://a").sign(&NodeKey::from_seed(&[coordinator; 32]));
        std::fs::write(&file, text.unwrap()).unwrap();
        Network::add(data, &file).unwrap().network
    }

    /// Promises an answer to a prompt that was leased at this time.
    fn promise(network: &Network, key: &NodeKey, at: UnixMs, prompt: BlobId) {
        let outbox = open_outbox(network, &network.profile, key).unwrap();
        let spec = TaskSpec {
            campaign: CampaignId::ZERO,
            kind: TaskKind::Infer,
            version: 1,
            nonce: 0,
            value_permille: 1_000,
            body: Blob::new(vec![1]).unwrap(),
        };
        let task = spec.id(network.profile.network()).unwrap();
        let (node, role, deadline) = (key.public(), Role::Replica, UnixMs(u64::MAX));
        let lease = Lease { task, wave: 0, node, role, deadline };
        let leased = LeasedTask {
            lease,
            round: Round(1),
            spec,
            holders: List::default(),
            backend: None,
            answer: None,
        };
        let leases = LinkPush::Leases(List::new(vec![leased]).unwrap());
        assert!(outbox.push(at, &leases).unwrap().refused.is_empty());
        let key = Key { task, wave: 0 };
        outbox.events(at, &[(key, Event::Started)]).unwrap();
        let body = ProofBody::of(TaskKind::Infer, &"an answer".to_owned()).unwrap();
        let nonce = SecretNonce([1; 32]);
        let finished = Finished { key, input: prompt, body, nonce, commitment: None };
        outbox.finish(at, &finished).unwrap();
    }

    #[test]
    fn work_in_networks_that_were_left_counts_too() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::find(Some(folder.path())).unwrap();
        let key = NodeKey::from_seed(&[9; 32]);
        let (old, young) = (BlobId([1; 32]), BlobId([2; 32]));
        promise(&join(&data, 1), &key, UnixMs(1), old);
        Network::remove(&data, "test").unwrap();
        let joined = join(&data, 2);
        promise(&joined, &key, time::now(), young);

        let all = elsewhere(&data, &key, &BTreeSet::new());
        assert_eq!((all.old, all.young), (BTreeSet::from([old]), BTreeSet::from([young])));
        // The outbox of a network that the node is in is open already, and looked at there.
        let rest = elsewhere(&data, &key, &BTreeSet::from([joined.profile.network()]));
        assert_eq!((rest.old, rest.young), (BTreeSet::from([old]), BTreeSet::new()));
        let other = elsewhere(&data, &NodeKey::from_seed(&[8; 32]), &BTreeSet::new());
        assert!(other.old.is_empty() && other.young.is_empty(), "another key's work is not ours");
    }
}

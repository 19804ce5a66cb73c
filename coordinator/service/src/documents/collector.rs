//! The task that collects: it follows the log, fetches what is due, and places what came.
//!
//! A bounded number of documents is fetched at a time. What nobody delivers is tried again after
//! growing pauses, beginning with another holder; what is not as proven is refused for good.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use openledger_ledger::{Ledger, LedgerError};
use openledger_swarm::{Blobs, LinkServer};
use openledger_wire::gossip::Holder;
use openledger_wire::log::Entry;
use openledger_wire::{CampaignId, DecodeError, NetworkId, NodeId, ProofId};
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Documents;
use super::check::{Verified, check};
use super::follow::{Follower, Judged, Proven};
use super::groups::Groups;
use super::obtain::{Fault, Miss, obtain};
use super::shelf::{Place, Stage};
use crate::core::{Core, CoreError};
use crate::limits;

/// What the collector needs.
pub struct CollectorParts {
    /// The network.
    pub network: NetworkId,
    /// Tells where holders are, and that the log grew.
    pub core: Core,
    /// The log and the proofs.
    pub ledger: Arc<dyn Ledger>,
    /// Who is connected now: they are asked first.
    pub link: LinkServer,
    /// Where rows and documents go.
    pub documents: Documents,
}

/// Why the log could not be followed further.
#[derive(Debug, Error)]
enum FollowError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("read proof {0}: it was accepted and is not in the ledger; restore its latest backup")]
    Lost(ProofId),
}

/// What is said of documents where there is nothing to keep them in.
const NO_STORE: &str = "fetch a document: this coordinator keeps no blobs; set swarm.enabled in \
                        its configuration";

/// An attempt's number and how it ended.
type Attempt = (u64, Result<Verified, Miss>);

/// Collects documents.
pub struct Collector {
    parts: CollectorParts,
    follower: Follower,
    /// Accepted refine tasks whose proof was not read yet.
    judged: VecDeque<Judged>,
    /// Rows to be fetched, by when.
    due: BTreeSet<(Instant, u64)>,
    fetching: JoinSet<Attempt>,
    groups: BTreeMap<CampaignId, Groups>,
    placed_at: Instant,
}

impl Collector {
    /// A collector that begins with the first entry of the log.
    #[must_use]
    pub fn new(parts: CollectorParts) -> Self {
        let follower = Follower::new(parts.network);
        Self {
            parts,
            follower,
            judged: VecDeque::new(),
            due: BTreeSet::new(),
            fetching: JoinSet::new(),
            groups: BTreeMap::new(),
            placed_at: Instant::now(),
        }
    }

    /// Collects until told to stop. What is under way then is dropped: it is begun again at the
    /// next start, from what the store holds.
    pub async fn run(mut self, stop: CancellationToken) {
        // Whether it ended by itself makes no difference.
        let _ = stop.run_until_cancelled(self.collect()).await;
    }

    async fn collect(&mut self) {
        let mut durable = self.parts.core.listen();
        loop {
            if let Err(error) = self.follow().await {
                tracing::error!("failed to {error}; documents wait");
                sleep(limits::DOCUMENT_RETRY_MAX).await;
                continue;
            }
            self.place_late().await;
            self.begin_due();
            let wake = self.wake_at();
            tokio::select! {
                // What was missed is in the log.
                news = durable.recv() => if matches!(news, Err(RecvError::Closed)) { return },
                Some(done) = self.fetching.join_next() => self.end(done),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Reads the log to its end.
    async fn follow(&mut self) -> Result<(), FollowError> {
        loop {
            self.read_judged().await?;
            let next = self.follower.next();
            self.parts.documents.shelf().looked_at(next);
            let lines = self.parts.ledger.page(next, usize::MAX).await?;
            if lines.is_empty() {
                return Ok(());
            }
            for line in &lines {
                let entry = Entry::from_bytes(&line.bytes)?;
                self.judged.extend(self.follower.note(&entry));
            }
            // A long log leaves room for others.
            tokio::task::yield_now().await;
        }
    }

    /// Turns accepted proofs into rows, in order.
    async fn read_judged(&mut self) -> Result<(), FollowError> {
        while let Some(judged) = self.judged.front() {
            let id = judged.proof;
            let envelope = self.parts.ledger.proof(id).await?.ok_or(FollowError::Lost(id))?;
            let Some(judged) = self.judged.pop_front() else { break };
            let campaign = judged.campaign();
            match judged.open(&envelope, self.parts.network) {
                Ok(Some(proven)) => {
                    let mut shelf = self.parts.documents.shelf();
                    let number = shelf.add(proven);
                    if self.parts.documents.blobs.is_none() {
                        let fault = Some(Fault::new("no-store", NO_STORE));
                        shelf.set(number, Stage::Waiting { tries: 0, fault });
                    }
                    self.due.insert((Instant::now(), number));
                }
                Ok(None) => self.parts.documents.shelf().filtered(campaign),
                // The rules read this proof before they accepted it.
                Err(error) => tracing::error!("failed to {error}"),
            }
        }
        Ok(())
    }

    fn begin_due(&mut self) {
        let Some(blobs) = self.parts.documents.blobs.clone() else { return };
        if self.due.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut connected: Option<Arc<BTreeSet<NodeId>>> = None;
        while self.fetching.len() < limits::DOCUMENT_FETCHES_MAX {
            let Some(&(at, number)) = self.due.first().filter(|(at, _)| *at <= now) else { return };
            self.due.remove(&(at, number));
            let Some(row) = self.parts.documents.row(number) else { continue };
            let Stage::Waiting { tries, .. } = row.stage else { continue };
            let connected = connected
                .get_or_insert_with(|| Arc::new(self.parts.link.connected().into_iter().collect()));
            let (core, connected) = (self.parts.core.clone(), Arc::clone(connected));
            let blobs = Arc::clone(&blobs);
            self.fetching.spawn(async move {
                let got = attempt(blobs.as_ref(), &core, row.proven, &connected, tries).await;
                (number, got)
            });
        }
    }

    fn end(&mut self, done: Result<Attempt, JoinError>) {
        let (number, result) = match done {
            Ok(attempt) => attempt,
            Err(error) => {
                tracing::error!("failed to collect a document: {error}");
                return;
            }
        };
        let Some(row) = self.parts.documents.row(number) else { return };
        let stage = match result {
            Ok(verified) => return self.collected(number, &row.proven, verified),
            Err(Miss::Refused(fault)) => {
                let document = row.proven.document;
                tracing::warn!(%document, code = fault.code, "refused to {}", fault.text);
                Stage::Refused(fault)
            }
            Err(Miss::Later(fault)) => {
                let Stage::Waiting { tries, .. } = row.stage else { return };
                tracing::debug!(document = %row.proven.document, "failed to {}", fault.text);
                self.due.insert((Instant::now() + pause_after(tries), number));
                Stage::Waiting { tries: tries.saturating_add(1), fault: Some(fault) }
            }
        };
        self.parts.documents.shelf().set(number, stage);
    }

    fn collected(&mut self, number: u64, proven: &Proven, verified: Verified) {
        let Verified { title, language, words, signature } = verified;
        let mut shelf = self.parts.documents.shelf();
        shelf.set(number, Stage::Collected { title, language, words, place: Place::Open });
        let groups = self.groups.entry(proven.campaign).or_default();
        if let Some(original) = groups.add(number, proven.document, signature) {
            shelf.place(number, original);
        }
    }

    /// Places again what came out of order: once nothing more is on its way, and now and then
    /// until then.
    async fn place_late(&mut self) {
        let is_quiet = self.fetching.is_empty() && !self.is_due(Instant::now());
        if !is_quiet && self.placed_at.elapsed() < limits::DOCUMENT_PLACE_PAUSE {
            return;
        }
        let stale = self.groups.iter().filter(|(_, groups)| groups.is_stale());
        let stale: Vec<CampaignId> = stale.map(|(campaign, _)| *campaign).collect();
        for campaign in stale {
            let Some(groups) = self.groups.get_mut(&campaign) else { continue };
            let mut moved = std::mem::take(groups);
            let placing = tokio::task::spawn_blocking(move || {
                let places = moved.place_all();
                (moved, places)
            });
            let Ok((moved, places)) = placing.await else {
                tracing::error!("failed to compare documents; restart the coordinator");
                continue;
            };
            *groups = moved;
            let mut shelf = self.parts.documents.shelf();
            for (number, original) in places {
                shelf.place(number, original);
            }
        }
        self.placed_at = Instant::now();
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.first().is_some_and(|(at, _)| *at <= now)
    }

    /// When there is something to do without any news.
    fn wake_at(&self) -> Instant {
        let far = Instant::now() + limits::DOCUMENT_RETRY_MAX;
        let stale = self.groups.values().any(Groups::is_stale);
        let place = if stale { self.placed_at + limits::DOCUMENT_PLACE_PAUSE } else { far };
        let has_room = self.fetching.len() < limits::DOCUMENT_FETCHES_MAX;
        let can_fetch = has_room && self.parts.documents.blobs.is_some();
        let due = self.due.first().filter(|_| can_fetch).map_or(far, |(at, _)| *at);
        place.min(due).min(far)
    }
}

/// One attempt: from here or from its holders, then checked.
async fn attempt(
    blobs: &dyn Blobs,
    core: &Core,
    proven: Arc<Proven>,
    connected: &BTreeSet<NodeId>,
    tries: u32,
) -> Result<Verified, Miss> {
    let mut holders = holders(core, Arc::clone(&proven))
        .await
        .map_err(|error| Miss::Later(Fault::new("stopping", &error.to_string())))?;
    if !holders.is_empty() {
        let len = holders.len();
        holders.rotate_left(usize::try_from(tries).unwrap_or(0) % len);
    }
    holders.sort_by_key(|holder| !connected.contains(&holder.node));
    let bytes = obtain(blobs, &holders, &proven, limits::DOCUMENT_TIME_MAX).await?;
    let checking = tokio::task::spawn_blocking(move || check(&bytes, &proven));
    match checking.await {
        Ok(checked) => Ok(checked?),
        Err(error) => Err(Miss::Later(Fault::new("check", &format!("check it: {error}")))),
    }
}

/// Who proved a document and where they are now.
async fn holders(core: &Core, proven: Arc<Proven>) -> Result<Vec<Holder>, CoreError> {
    core.look(move |state, _| {
        let holders = proven.refiners.iter().filter_map(|node| {
            let addresses = state.node(node)?.member.registration.blob_addresses.clone();
            Some(Holder { node: *node, addresses })
        });
        holders.collect()
    })
    .await
}

/// The pause after this many failed attempts and one more.
fn pause_after(tries: u32) -> Duration {
    let factor = 1u32.checked_shl(tries).unwrap_or(u32::MAX);
    limits::DOCUMENT_RETRY.saturating_mul(factor).min(limits::DOCUMENT_RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_no_further() {
        let pauses: Vec<Duration> = (0..40).map(pause_after).collect();
        assert_eq!(pauses[0], limits::DOCUMENT_RETRY);
        assert_eq!(pauses[1], limits::DOCUMENT_RETRY * 2);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[39], limits::DOCUMENT_RETRY_MAX);
    }
}

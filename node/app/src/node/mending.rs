//! Model files that were cut short or changed: named, and got again from peers.
//!
//! A file that is gone altogether is named only: whoever removed it may have wanted its room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openledger_wire::BlobId;
use tokio::time::Instant;

use super::Enrolment;
use crate::limits;
use crate::serving::{Entry, ObtainError};

/// What was tried about a broken file.
struct Tried {
    times: u32,
    again_at: Instant,
}

impl Enrolment {
    /// Looks at the model files from time to time; ends with the network.
    pub(crate) async fn keep_whole(self: Arc<Self>) {
        let mut due = tokio::time::interval(limits::ANNOUNCE_GAP);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tried: BTreeMap<BlobId, Tried> = BTreeMap::new();
        loop {
            due.tick().await;
            let library = &self.machine.models.library;
            let mut broken = library.entries();
            broken.retain(|entry| entry.problem.is_some());
            tried.retain(|blob, _| broken.iter().any(|entry| entry.blob == *blob));
            for entry in broken {
                let times = tried.get(&entry.blob).map_or(0, |tried| tried.times);
                if times == 0 {
                    let problem = entry.problem.as_deref().unwrap_or_default();
                    tracing::warn!("failed to use model {}: {problem}", entry.name);
                }
                if tried.get(&entry.blob).is_some_and(|tried| Instant::now() < tried.again_at) {
                    continue;
                }
                if entry.path.starts_with(library.folder()) && entry.path.exists() {
                    // Why not is told, and shown beside the model, by whoever fetches.
                    let _ = self.get_again(&entry).await;
                }
                let again_at = Instant::now() + pause_after(times);
                let times = times.saturating_add(1);
                tried.insert(entry.blob, Tried { times, again_at });
            }
        }
    }

    async fn get_again(&self, entry: &Entry) -> Result<(), ObtainError> {
        let (models, id) = (&self.machine.models, entry.blob.to_string());
        let (offer, holders) = models.wanted(&id, std::slice::from_ref(&self.offers))?;
        models.obtain(&offer, &holders).await.map(drop)
    }
}

/// The pause after this many tries and one more.
fn pause_after(times: u32) -> Duration {
    let factor = 1u32.checked_shl(times).unwrap_or(u32::MAX);
    limits::ANNOUNCE_GAP.saturating_mul(factor).min(limits::ANNOUNCE_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_no_further() {
        let pauses: Vec<Duration> = (0..40).map(pause_after).collect();
        assert_eq!(pauses[0], limits::ANNOUNCE_GAP);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[39], limits::ANNOUNCE_EVERY);
    }
}

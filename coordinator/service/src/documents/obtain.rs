//! Getting one document: from the store, or from the first holder that delivers it whole.

use std::time::Duration;

use bytes::Bytes;
use openledger_refine::limits::DOCUMENT_BYTES_MAX;
use openledger_swarm::{Blobs, FetchError};
use openledger_wire::gossip::Holder;
use openledger_wire::{BlobId, limits as wire};
use serde::Serialize;

use super::check::CheckError;
use super::follow::Proven;
use crate::limits;

/// What was wrong, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Stable code.
    pub code: &'static str,
    /// In words: a fragment that fits after "failed to".
    pub text: String,
}

impl Fault {
    /// A fault; long words are cut.
    #[must_use]
    pub fn new(code: &'static str, text: &str) -> Self {
        let text = text.chars().filter(|c| !c.is_control()).take(limits::REASON_CHARS_MAX);
        Self { code, text: text.collect() }
    }
}

/// Why a document was not collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// It is not what was proven, whoever delivers it.
    Refused(Fault),
    /// Another attempt may help.
    Later(Fault),
}

impl From<CheckError> for Miss {
    fn from(error: CheckError) -> Self {
        let fault = Fault::new(error.code(), &error.to_string());
        match error {
            // The store's or a holder's fault, not the document's.
            CheckError::OtherBytes { .. } => Self::Later(fault),
            _ => Self::Refused(fault),
        }
    }
}

fn refused(error: &FetchError) -> Miss {
    Miss::Refused(Fault::new("too-large", &error.to_string()))
}

/// The bytes of a document: from this store, else from these holders in turn. Nothing is asked
/// for that could be longer than what was proven, and nothing that was proven too long.
///
/// # Errors
/// Why not, and whether another attempt may help.
pub async fn obtain(
    blobs: &dyn Blobs,
    holders: &[Holder],
    proven: &Proven,
    time_max: Duration,
) -> Result<Bytes, Miss> {
    let (id, max) = (proven.document, wire::DOCUMENT_MAX.min(DOCUMENT_BYTES_MAX));
    let bytes_max = usize::try_from(proven.bytes).unwrap_or(usize::MAX);
    if bytes_max > max {
        return Err(refused(&FetchError::TooLarge { id, len: proven.bytes, max }));
    }
    // Asked of nobody, the store gives what it has, and keeps it from now on whoever put it there.
    match blobs.fetch(id, bytes_max, &[]).await {
        Ok(bytes) => return Ok(bytes),
        Err(error @ FetchError::TooLarge { .. }) => return Err(refused(&error)),
        Err(error @ FetchError::NoHolder { .. }) if holders.is_empty() => {
            return Err(Miss::Later(Fault::new("no-holder", &error.to_string())));
        }
        Err(FetchError::NoHolder { .. }) => {}
        Err(error) => return Err(Miss::Later(Fault::new("store", &error.to_string()))),
    }
    let mut tries = Vec::new();
    for holder in holders {
        let fetching = blobs.fetch(id, bytes_max, std::slice::from_ref(holder));
        let reason = match tokio::time::timeout(time_max, fetching).await {
            Ok(Ok(bytes)) if BlobId::of(&bytes) == id => return Ok(bytes),
            Ok(Ok(_)) => "it gave other bytes".to_owned(),
            Ok(Err(error @ FetchError::TooLarge { .. })) => return Err(refused(&error)),
            Ok(Err(FetchError::AllFailed { tries, .. })) => {
                tries.into_iter().next().map(|(_, reason)| reason).unwrap_or_default()
            }
            Ok(Err(FetchError::Store(error))) => {
                return Err(Miss::Later(Fault::new("store", &error.to_string())));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not delivered within {} s", time_max.as_secs()),
        };
        tries.push((holder.node, reason));
    }
    let error = FetchError::AllFailed { id, tries };
    Err(Miss::Later(Fault::new("not-delivered", &error.to_string())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;
    use std::path::Path;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use openledger_swarm::{BlobStats, MemoryBlobs, StoreError};
    use openledger_wire::{List, NodeId};

    use super::super::check::tests::proven;
    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(5);

    fn holder(n: u8) -> Holder {
        Holder { node: NodeId([n; 32]), addresses: List::default() }
    }

    fn code(miss: Result<Bytes, Miss>) -> (&'static str, bool) {
        match miss.unwrap_err() {
            Miss::Refused(fault) => (fault.code, true),
            Miss::Later(fault) => (fault.code, false),
        }
    }

    #[tokio::test]
    async fn who_does_not_have_it_is_passed_over() {
        let (bytes, proven) = proven("some words here");
        let own = MemoryBlobs::new(NodeId([1; 32]));
        let other = own.linked(NodeId([3; 32]));
        let holders = [holder(2), holder(3)];
        let missing = obtain(&own, &holders, &proven, TIME_MAX).await;
        let Err(Miss::Later(fault)) = &missing else { panic!("{missing:?}") };
        assert!(fault.code == "not-delivered" && fault.text.contains("does not have it"));
        other.put(Bytes::from(bytes.clone())).await.unwrap();
        assert_eq!(obtain(&own, &holders, &proven, TIME_MAX).await.unwrap(), bytes);
        assert_eq!(own.stats().fetched, 1);
        assert_eq!(obtain(&own, &[], &proven, TIME_MAX).await.unwrap(), bytes, "it is here now");
        assert_eq!(own.stats().fetched, 1, "nothing is fetched twice");
    }

    #[tokio::test]
    async fn what_is_proven_too_long_or_longer_than_proven_is_refused() {
        let (bytes, proven) = proven("some words here");
        let own = MemoryBlobs::new(NodeId([1; 32]));
        assert_eq!(code(obtain(&own, &[], &proven, TIME_MAX).await), ("no-holder", false));
        own.linked(NodeId([2; 32])).put(Bytes::from(bytes)).await.unwrap();
        let short = Proven { bytes: proven.bytes - 1, ..proven.clone() };
        let holders = [holder(2)];
        assert_eq!(code(obtain(&own, &holders, &short, TIME_MAX).await), ("too-large", true));
        let long = Proven { bytes: wire::DOCUMENT_MAX as u64 + 1, ..proven };
        assert_eq!(code(obtain(&own, &holders, &long, TIME_MAX).await), ("too-large", true));
        assert_eq!(own.stats().fetched, 0);
    }

    /// A store whose layers below let through what these holders send in place of the blob.
    struct Careless {
        liars: BTreeSet<NodeId>,
        silent: BTreeSet<NodeId>,
        truth: Bytes,
        asked: Mutex<Vec<NodeId>>,
    }

    #[async_trait]
    impl Blobs for Careless {
        async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError> {
            Ok(BlobId::of(&bytes))
        }
        async fn get(&self, _: BlobId) -> Result<Option<Bytes>, StoreError> {
            Ok(None)
        }
        async fn has(&self, _: BlobId) -> Result<bool, StoreError> {
            Ok(false)
        }
        async fn fetch(&self, id: BlobId, _: usize, from: &[Holder]) -> Result<Bytes, FetchError> {
            let Some(Holder { node, .. }) = from.first().cloned() else {
                return Err(FetchError::NoHolder { id });
            };
            self.asked.lock().unwrap().push(node);
            if self.silent.contains(&node) {
                std::future::pending::<()>().await;
            }
            let lies = self.liars.contains(&node);
            Ok(if lies { Bytes::from_static(b"other bytes") } else { self.truth.clone() })
        }
        async fn export(&self, id: BlobId, _: &Path) -> Result<u64, StoreError> {
            Err(StoreError::Missing { id })
        }
        async fn forget(&self, _: BlobId) -> Result<(), StoreError> {
            Ok(())
        }
        fn addresses(&self) -> Vec<SocketAddr> {
            Vec::new()
        }
        fn stats(&self) -> BlobStats {
            BlobStats::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn liars_and_the_silent_are_passed_over_and_named() {
        let (bytes, proven) = proven("some words here");
        let node = |n: u8| NodeId([n; 32]);
        let blobs = Careless {
            liars: [node(1)].into(),
            silent: [node(2)].into(),
            truth: Bytes::from(bytes.clone()),
            asked: Mutex::default(),
        };
        let holders = [holder(1), holder(2), holder(3)];
        assert_eq!(obtain(&blobs, &holders, &proven, TIME_MAX).await.unwrap(), bytes);
        assert_eq!(*blobs.asked.lock().unwrap(), [node(1), node(2), node(3)]);
        let missing = obtain(&blobs, &holders[..2], &proven, TIME_MAX).await;
        let Err(Miss::Later(fault)) = missing else { panic!("{missing:?}") };
        assert!(
            fault.text.contains("other bytes") && fault.text.contains("within 5 s"),
            "{fault:?}"
        );
    }
}

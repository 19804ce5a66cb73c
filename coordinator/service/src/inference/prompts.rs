//! Prompts of campaigns in the coordinator's blob store: there before a task that names them is
//! logged, and kept from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use openledger_rules::State;
use openledger_swarm::{Blobs, StoreError};
use openledger_wire::task::{InferTask, TaskKind};
use openledger_wire::{BlobId, decode, limits as wire};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::core::Core;
use crate::limits;

/// Why prompts cannot be kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeepError {
    /// This coordinator has no blob store.
    #[error(
        "infer: this coordinator keeps no blobs, so that nobody could fetch a prompt; set \
             swarm.enabled in its configuration"
    )]
    NoStore,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store gave a blob another id.
    #[error("keep prompt {asked}: the store named it {found}; restart the coordinator")]
    OtherId {
        /// As computed here.
        asked: BlobId,
        /// As the store says.
        found: BlobId,
    },
}

/// Keeps prompts; clones keep in the same store.
#[derive(Clone)]
pub struct Prompts {
    blobs: Option<Arc<dyn Blobs>>,
    /// Prompts kept since the start. Those before it were in the store when it was opened.
    kept: Arc<Mutex<BTreeSet<BlobId>>>,
}

impl Prompts {
    /// Prompts in this store.
    #[must_use]
    pub fn new(blobs: Option<Arc<dyn Blobs>>) -> Self {
        Self { blobs, kept: Arc::default() }
    }

    /// Whether there is a store at all.
    ///
    /// # Errors
    /// [`KeepError::NoStore`].
    pub fn check(&self) -> Result<(), KeepError> {
        self.blobs.as_ref().map(|_| ()).ok_or(KeepError::NoStore)
    }

    /// Puts prompts into the store; durable once it returns. What is there already stays.
    ///
    /// # Errors
    /// When there is no store, or it fails. Some of the prompts may be kept then.
    pub async fn keep(&self, prompts: BTreeMap<BlobId, Bytes>) -> Result<(), KeepError> {
        let blobs = self.blobs.as_ref().ok_or(KeepError::NoStore)?;
        self.kept.lock().await.extend(prompts.keys().copied());
        let puts = prompts.into_iter().map(|(asked, bytes)| async move {
            let found = blobs.put(bytes).await?;
            if found == asked { Ok(()) } else { Err(KeepError::OtherId { asked, found }) }
        });
        stream::iter(puts).buffer_unordered(limits::PROMPT_PUTS_MAX).try_collect().await
    }

    /// Lets the store drop a blob that a stranger named, unless it is a prompt.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_other(&self, id: BlobId) -> Result<(), StoreError> {
        let Some(blobs) = &self.blobs else { return Ok(()) };
        // Held until the store has forgotten, so that a prompt put meanwhile is put after that.
        let kept = self.kept.lock().await;
        if kept.contains(&id) {
            return Ok(());
        }
        blobs.forget(id).await
    }

    /// Looks whether the prompts of all unfinished tasks are still here, and says it if not: a
    /// blob folder that was lost cannot be made again from the log.
    pub async fn check_open(self, core: Core) {
        let Ok(prompts) = core.look(|state, _| open_prompts(state)).await else { return };
        let Some(blobs) = &self.blobs else {
            if !prompts.is_empty() {
                let count = prompts.len();
                tracing::warn!(count, "inference tasks wait, and {}", KeepError::NoStore);
            }
            return;
        };
        let mut missing = 0_u64;
        for id in prompts {
            match blobs.has(id).await {
                Ok(true) => {}
                Ok(false) => missing = missing.saturating_add(1),
                Err(error) => tracing::warn!("failed to {error}"),
            }
        }
        if missing > 0 {
            tracing::warn!(
                missing,
                "prompts of unfinished tasks are gone from the blob store, so that nodes give these \
                 tasks back; restore the folder, or send the same campaign again, which adds what \
                 is missing"
            );
        }
    }
}

fn open_prompts(state: &State) -> BTreeSet<BlobId> {
    let tasks = state.active_tasks().filter(|(_, task)| task.spec.kind == TaskKind::Infer);
    let body = |body: &[u8]| decode::<InferTask>(body, wire::TASK_BODY_MAX).ok();
    tasks.filter_map(|(_, task)| Some(body(&task.spec.body)?.prompt)).collect()
}

#[cfg(test)]
mod tests {
    use openledger_swarm::MemoryBlobs;
    use openledger_wire::NodeId;

    use super::*;

    fn prompts(count: u8) -> BTreeMap<BlobId, Bytes> {
        let bytes = (0..count).map(|n| Bytes::from(vec![n; 9]));
        bytes.map(|bytes| (BlobId::of(&bytes), bytes)).collect()
    }

    #[tokio::test]
    async fn prompts_are_kept_against_strangers_who_name_them() {
        let blobs = Arc::new(MemoryBlobs::new(NodeId([1; 32])));
        let kept = Prompts::new(Some(Arc::clone(&blobs) as _));
        kept.check().unwrap();
        kept.keep(prompts(40)).await.unwrap();
        kept.keep(prompts(40)).await.unwrap();
        let other = blobs.put(Bytes::from_static(b"a proof")).await.unwrap();
        for id in prompts(40).into_keys().chain([other]) {
            kept.forget_other(id).await.unwrap();
        }
        for id in prompts(40).into_keys() {
            assert!(blobs.has(id).await.unwrap());
        }
        assert!(!blobs.has(other).await.unwrap());
    }

    #[tokio::test]
    async fn without_a_store_the_reason_is_clear() {
        let none = Prompts::new(None);
        assert!(none.check().unwrap_err().to_string().contains("swarm.enabled"));
        assert!(matches!(none.keep(prompts(1)).await, Err(KeepError::NoStore)));
        none.forget_other(BlobId::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_prompt_under_a_wrong_id_is_noticed() {
        let kept = Prompts::new(Some(Arc::new(MemoryBlobs::new(NodeId([1; 32])))));
        let odd = BTreeMap::from([(BlobId([9; 32]), Bytes::from_static(b"x"))]);
        assert!(matches!(kept.keep(odd).await, Err(KeepError::OtherId { .. })));
    }
}

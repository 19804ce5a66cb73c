//! From a closed epoch to its root on chain.
//!
//! Each closed epoch's bundle is published first; then, one epoch after the other, its root is
//! posted with the bond that is due, and the rules are told. Before anything is sent the chain is
//! asked whether it has this epoch already, so that neither a crash nor an unclear answer posts
//! twice. While a root is pending the next one waits. A chain that does not answer costs time,
//! nothing else. A root that a reorganisation took away is posted again.

mod again;
mod chain;

use std::sync::Arc;
use std::time::Duration;

use openledger_contracts::Post;
use openledger_rules::Event;
use openledger_wire::log::Posted;
use openledger_wire::{Epoch, Keccak, RuleSetId};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use chain::{ChainBlocks, RewardsChain};

use crate::bundles::{BundleError, Bundles, Published};
use crate::core::{Core, CoreError};
use crate::limits;

/// What the settler asks of the chain.
#[async_trait::async_trait]
pub trait Settlement: Send + Sync {
    /// How the chain stands.
    async fn standing(&self) -> Result<Standing, SettleError>;
    /// The transaction that posted exactly this, if there is one.
    async fn find(&self, post: &Post) -> Result<Option<Keccak>, SettleError>;
    /// Posts; returns the transaction once it is in a block.
    async fn post(&self, post: &Post) -> Result<Keccak, SettleError>;
}

/// How the chain stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last epoch whose root can be claimed from, if any.
    pub claimable: Option<Epoch>,
    /// An epoch whose window still runs.
    pub pending: Option<Epoch>,
    /// The highest epoch that the chain's clock allows.
    pub latest: Epoch,
}

/// Why an epoch was not settled yet.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The chain.
    #[error("settle an epoch: {0}")]
    Chain(String),
    /// The bundle.
    #[error("settle an epoch: {0}")]
    Bundle(#[from] BundleError),
    /// The core.
    #[error("settle an epoch: {0}")]
    Core(#[from] CoreError),
    /// The rules refused what the chain says.
    #[error("log the post of epoch {epoch}: {reason}")]
    Refused {
        /// The epoch.
        epoch: Epoch,
        /// The rules' words.
        reason: String,
    },
}

/// Publishes and settles epochs.
pub struct Settler {
    core: Core,
    bundles: Bundles,
    chain: Option<Arc<dyn Settlement>>,
    rule_set: RuleSetId,
    claimable: watch::Sender<Option<Epoch>>,
    published: Epoch,
    missing: Option<again::Missing>,
}

impl Settler {
    /// A settler. Without a chain it only publishes bundles, and every closed epoch counts as
    /// claimable.
    #[must_use]
    pub fn new(
        core: Core,
        bundles: Bundles,
        chain: Option<Arc<dyn Settlement>>,
        rule_set: RuleSetId,
        claimable: watch::Sender<Option<Epoch>>,
    ) -> Self {
        let published = Epoch(0);
        Self { core, bundles, chain, rule_set, claimable, published, missing: None }
    }

    /// Runs until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = limits::SETTLE_PAUSE;
        loop {
            match stop.run_until_cancelled(self.step()).await {
                None => return,
                Some(Ok(())) => pause = limits::SETTLE_PAUSE,
                Some(Err(error)) => {
                    tracing::warn!(retry_s = pause.as_secs(), "failed to {error}");
                    pause = longer(pause);
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Publishes what was closed since, and moves the oldest unsettled epoch one step on.
    async fn step(&mut self) -> Result<(), SettleError> {
        let published = self.published;
        let (closed, unposted) = self
            .core
            .look(move |state, _| {
                let closed = state.last_close().map_or(Epoch(0), |close| close.epoch);
                let mut epochs = (1..=closed.0).map(Epoch);
                (closed, epochs.find(|epoch| !state.is_posted(*epoch)))
            })
            .await?;
        for epoch in (published.0.saturating_add(1)..=closed.0).map(Epoch) {
            if self.bundles.meta(epoch).await?.is_none() {
                self.bundles.publish(epoch).await?;
            }
            self.published = epoch;
        }
        let Some(chain) = self.chain.clone() else {
            self.tell_claimable((closed.0 > 0).then_some(closed));
            return Ok(());
        };
        let standing = chain.standing().await?;
        self.tell_claimable(standing.claimable);
        match self.post_again(chain.as_ref(), closed, standing).await {
            Ok(false) => {}
            Ok(true) => return Ok(()),
            // The total of the next epoch covers what this one gave.
            Err(error) if unposted.is_some() => tracing::warn!("failed to {error}"),
            Err(error) => return Err(error),
        }
        match unposted {
            Some(epoch) => self.settle(chain.as_ref(), epoch, standing).await,
            None => Ok(()),
        }
    }

    fn tell_claimable(&self, claimable: Option<Epoch>) {
        self.claimable.send_if_modified(|known| {
            let changed = *known != claimable;
            *known = claimable;
            changed
        });
    }

    async fn settle(
        &self,
        chain: &dyn Settlement,
        epoch: Epoch,
        standing: Standing,
    ) -> Result<(), SettleError> {
        let published = self.bundles.publish(epoch).await?;
        let post = self.post_of(&published);
        let transaction = match chain.find(&post).await? {
            Some(transaction) => transaction,
            None if standing.pending.is_some() || standing.latest < epoch => return Ok(()),
            None => {
                let transaction = chain.post(&post).await?;
                tracing::info!(%epoch, transaction = %transaction, total = %post.total, "posted a root");
                transaction
            }
        };
        let posted = Posted {
            epoch,
            transaction,
            data_commitment: published.meta.data_commitment,
            bundle: published.meta.blob,
        };
        match self.core.submit(Event::Posted(posted)).await {
            Ok(_) => Ok(()),
            Err(refusal) => Err(SettleError::Refused { epoch, reason: refusal.message }),
        }
    }

    fn post_of(&self, published: &Published) -> Post {
        let Published { meta, close, .. } = published;
        Post {
            epoch: close.epoch,
            root: close.root,
            total: close.total,
            size: close.size,
            proofs_root: close.proofs_root,
            call_receipts_root: close.call_receipts_root,
            attribution_root: close.attribution_root,
            data_commitment: meta.data_commitment,
            data_size: meta.bytes,
            log_head: meta.head,
            log_height: meta.height,
            rule_set: self.rule_set,
            unbound: close.unbound,
        }
    }
}

fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).min(limits::SETTLE_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_no_further() {
        let mut pause = limits::SETTLE_PAUSE;
        for _ in 0..20 {
            pause = longer(pause);
        }
        assert_eq!(pause, limits::SETTLE_PAUSE_MAX);
    }
}

//! The settlement chain through `openledger-contracts`: connected when first needed, and again
//! after it was out of reach.

use async_trait::async_trait;
use openledger_contracts::{Anchor, Block, Chain, ChainError, ChainOptions, Post, Rewards};
use openledger_wire::{BeaconValue, EvmAddress, Keccak, UnixMs};
use tokio::sync::OnceCell;

use super::{SettleError, Settlement, Standing};
use crate::beacon::{Blocks, RandomBlock};
use crate::clock;
use crate::limits;

/// Blocks looked at, from the newest back, for the first one after a seal: at two seconds a block
/// this is more than eight minutes.
const BLOCKS_BACK_MAX: u64 = 256;

/// The rewards contract of a network.
pub struct RewardsChain {
    options: ChainOptions,
    at: EvmAddress,
    rewards: OnceCell<(Chain, Rewards)>,
}

impl RewardsChain {
    /// The contract at this address; nothing is connected yet.
    #[must_use]
    pub fn new(options: ChainOptions, at: EvmAddress) -> Self {
        let receipt_timeout = Some(limits::POST_TIME_MAX);
        let options = ChainOptions { receipt_timeout, ..options };
        Self { options, at, rewards: OnceCell::new() }
    }

    async fn rewards(&self) -> Result<&(Chain, Rewards), ChainError> {
        self.rewards
            .get_or_try_init(|| async {
                let chain = Chain::connect(self.options.clone()).await?;
                let rewards = Rewards::attach(&chain, self.at).await?;
                Ok((chain, rewards))
            })
            .await
    }
}

impl From<ChainError> for SettleError {
    fn from(error: ChainError) -> Self {
        Self::Chain(error.to_string())
    }
}

#[async_trait]
impl Settlement for RewardsChain {
    async fn standing(&self) -> Result<Standing, SettleError> {
        let (chain, rewards) = self.rewards().await?;
        let status = rewards.status().await?;
        // A quiet local chain makes no blocks; the next one will carry the time of day.
        let now_s = chain.latest_block().await?.time_s.max(clock::now_s());
        let is_over = |anchor: &Anchor| anchor.final_at_s <= now_s;
        let (over, running) = match status.pending {
            Some(anchor) if is_over(&anchor) => (Some(anchor), None),
            pending => (None, pending),
        };
        Ok(Standing {
            claimable: over.or(status.last_good).map(|anchor| anchor.epoch),
            pending: running.map(|anchor| anchor.epoch),
            latest: status.latest_epoch,
        })
    }

    async fn find(&self, post: &Post) -> Result<Option<Keccak>, SettleError> {
        let (_, rewards) = self.rewards().await?;
        let posts = rewards.posts(post.epoch).await?;
        let same = posts.into_iter().rev().find(|log| log.post == *post);
        Ok(same.map(|log| log.transaction))
    }

    async fn post(&self, post: &Post) -> Result<Keccak, SettleError> {
        let (_, rewards) = self.rewards().await?;
        Ok(rewards.post(post).await?.transaction)
    }
}

/// Blocks of the settlement chain, for their prevrandao.
pub struct ChainBlocks {
    options: ChainOptions,
    chain: OnceCell<Chain>,
}

impl ChainBlocks {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(options: ChainOptions) -> Self {
        Self { options, chain: OnceCell::new() }
    }

    async fn search(&self, sealed_at: UnixMs) -> Result<Option<Block>, ChainError> {
        let connect = || Chain::connect(self.options.clone());
        let chain = self.chain.get_or_try_init(connect).await?;
        let is_after = |block: &Block| block.time_s.saturating_mul(1_000) > sealed_at.0;
        let mut found = None;
        let mut block = chain.latest_block().await?;
        for _ in 0..BLOCKS_BACK_MAX {
            if !is_after(&block) {
                return Ok(found);
            }
            let before = block.number.checked_sub(1);
            found = Some(block);
            let Some(before) = before else { break };
            block = chain.block(before).await?;
        }
        // Genesis, or further back than we look: a seal this old gets no beacon.
        Ok(found.filter(|block| block.number == 0))
    }
}

#[async_trait]
impl Blocks for ChainBlocks {
    async fn first_after(&self, sealed_at: UnixMs) -> Result<Option<RandomBlock>, String> {
        let block = self.search(sealed_at).await.map_err(|error| error.to_string())?;
        Ok(block.map(|block| RandomBlock {
            number: block.number,
            hash: block.hash,
            prevrandao: BeaconValue(block.prevrandao.0),
        }))
    }
}

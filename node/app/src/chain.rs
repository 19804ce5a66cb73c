//! What a node asks of the settlement chain: what was claimed, what was posted, a claim.

use std::time::Duration;

use openledger_contracts::{
    Chain, ChainError, ChainOptions, Claim, ClaimOutcome, PostedLog, Rewards,
};
use openledger_wire::link;
use openledger_wire::profile::Profile;
use openledger_wire::{Epoch, EvmAddress, Open, SettlementKey};

/// The rewards contract of a network, to read from and, with a key, to claim at.
///
/// # Errors
/// The chain's.
pub async fn rewards(profile: &Profile, key: Option<SettlementKey>) -> Result<Rewards, ChainError> {
    let chain = Chain::connect(ChainOptions {
        rpc: profile.chain.rpc.iter().map(|url| url.to_string()).collect(),
        chain_id: Some(profile.chain.chain_id),
        key,
        receipt_timeout: None,
    })
    .await?;
    Rewards::attach(&chain, profile.chain.rewards).await
}

/// What an address was paid so far, or `None` when the chain does not answer within `time_max`.
pub async fn claimed(profile: &Profile, payout: EvmAddress, time_max: Duration) -> Option<Open> {
    let asked = async {
        let rewards = rewards(profile, None).await?;
        rewards.claimed(payout).await
    };
    match tokio::time::timeout(time_max, asked).await {
        Ok(Ok(claimed)) => Some(claimed),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the chain did not say what was claimed");
            None
        }
        Err(_) => None,
    }
}

/// Claims what a leaf says.
///
/// # Errors
/// The chain's.
pub async fn claim(
    profile: &Profile,
    key: SettlementKey,
    leaf: &link::Claim,
) -> Result<ClaimOutcome, ChainError> {
    let claim = Claim {
        earner: leaf.payout,
        cumulative: leaf.cumulative,
        index: leaf.index,
        siblings: leaf.siblings.to_vec(),
    };
    rewards(profile, Some(key)).await?.claim(&claim).await
}

/// The latest post of an epoch.
///
/// # Errors
/// The chain's.
pub async fn posted(rewards: &Rewards, epoch: Epoch) -> Result<Option<PostedLog>, ChainError> {
    Ok(rewards.posts(epoch).await?.pop())
}

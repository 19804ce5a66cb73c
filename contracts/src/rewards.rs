//! `EpochRewards`: funding, posting, watching, challenging, claiming.

use std::time::Duration;

use alloy::providers::Provider;
use alloy::rpc::types::{Filter, TransactionReceipt};
use alloy::sol_types::{SolCall, SolEvent};
use alloy_primitives::{Address, B256, U256};
use openledger_wire::{Epoch, EvmAddress, Open};

use crate::abi::EpochRewards;
use crate::chain::Chain;
use crate::error::ChainError;
use crate::limits::CLAIM_BATCH_MAX;
use crate::send::summary;
use crate::token::Token;
use crate::types::{
    Claim, ClaimOutcome, Paid, Post, PostedLog, Receipt, RewardsConfig, RewardsStatus,
    RewardsTerms, address, evm, keccak, open,
};

/// The rewards contract on a chain.
#[derive(Clone, Debug)]
pub struct Rewards {
    chain: Chain,
    at: EvmAddress,
    token: Option<Token>,
}

impl Rewards {
    /// The contract at this address; fails if there is no code.
    pub async fn attach(chain: &Chain, at: EvmAddress) -> Result<Self, ChainError> {
        chain.require_code("EpochRewards", at).await?;
        let token = chain.read("read the rewards' token", at, &EpochRewards::tokenCall {}).await?;
        let token = (token != Address::ZERO).then(|| Token::new(chain, evm(token)));
        Ok(Self { chain: chain.clone(), at, token })
    }

    /// Where it is: the verifying contract of everything that it judges.
    #[must_use]
    pub fn address(&self) -> EvmAddress {
        self.at
    }

    /// The ERC-20 that it pays; `None` where it pays native currency.
    #[must_use]
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    async fn ask<C: SolCall + Sync>(&self, call: &C) -> Result<C::Return, ChainError> {
        self.chain.read("read EpochRewards", self.at, call).await
    }

    async fn tell<C: SolCall>(
        &self,
        what: &'static str,
        value: Open,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        self.chain.send(what, Some(self.at), value, call.abi_encode()).await
    }

    /// What was fixed when it was deployed.
    pub async fn terms(&self) -> Result<RewardsTerms, ChainError> {
        let bond = self.ask(&EpochRewards::bondCall {}).await?;
        Ok(RewardsTerms {
            config: RewardsConfig {
                token: self.token.as_ref().map(Token::address),
                proposer: evm(self.ask(&EpochRewards::proposerCall {}).await?),
                bond: open("read EpochRewards", bond)?,
                window: Duration::from_secs(self.ask(&EpochRewards::windowCall {}).await?),
                epoch_budget: Open(self.ask(&EpochRewards::epochBudgetCall {}).await?),
                epoch_length: Duration::from_secs(
                    self.ask(&EpochRewards::epochSecondsCall {}).await?,
                ),
                first_epoch: Epoch(self.ask(&EpochRewards::firstEpochCall {}).await?),
            },
            deployed_at_s: self.ask(&EpochRewards::deployedAtCall {}).await?,
        })
    }

    /// The roots and the money, now.
    pub async fn status(&self) -> Result<RewardsStatus, ChainError> {
        let what = "read EpochRewards";
        let good = self.ask(&EpochRewards::lastGoodCall {}).await?;
        let pending = self.ask(&EpochRewards::pendingCall {}).await?;
        Ok(RewardsStatus {
            last_good: (good.postHash != B256::ZERO).then(|| good.into()),
            pending: (pending.finalAt != 0).then(|| pending.into()),
            latest_epoch: Epoch(self.ask(&EpochRewards::latestEpochCall {}).await?),
            funded: open(what, self.ask(&EpochRewards::fundedCall {}).await?)?,
            fees_collected: open(what, self.ask(&EpochRewards::feesCollectedCall {}).await?)?,
            total_claimed: open(what, self.ask(&EpochRewards::totalClaimedCall {}).await?)?,
            bond_due: open(what, self.ask(&EpochRewards::bondDueCall {}).await?)?,
        })
    }

    /// The highest total that a post of `epoch` may have now, in 10^-18 OPEN.
    pub async fn max_total(&self, epoch: Epoch) -> Result<Open, ChainError> {
        let total = self.ask(&EpochRewards::maxTotalCall { epoch: epoch.0 }).await?;
        open("read EpochRewards", total)
    }

    /// What an earner was paid so far, in 10^-18 OPEN.
    pub async fn claimed(&self, earner: EvmAddress) -> Result<Open, ChainError> {
        self.ask(&EpochRewards::claimedCall { earner: address(earner) }).await.map(Open)
    }

    /// What an account holds of what the contract pays, in 10^-18 OPEN.
    pub async fn balance_of(&self, account: EvmAddress) -> Result<Open, ChainError> {
        match &self.token {
            Some(token) => token.balance_of(account).await,
            None => self.chain.native_balance(account).await,
        }
    }

    /// The value to send with `amount`; lets the contract take it where it is an ERC-20.
    async fn pay(&self, amount: Open) -> Result<Open, ChainError> {
        match &self.token {
            Some(token) => token.allow(self.at, amount).await.map(|()| Open::ZERO),
            None => Ok(amount),
        }
    }

    /// Puts `amount` into the pool; it leaves it by claims only.
    pub async fn fund(&self, amount: Open) -> Result<Receipt, ChainError> {
        let value = self.pay(amount).await?;
        let call = EpochRewards::fundCall { amount: U256::from(amount.0) };
        Ok(summary(&self.tell("fund EpochRewards", value, &call).await?))
    }

    /// Adds `amount` as fees, which raise what the next roots may pay out.
    pub async fn collect_fees(&self, amount: Open) -> Result<Receipt, ChainError> {
        let value = self.pay(amount).await?;
        let call = EpochRewards::collectFeesCall { amount: U256::from(amount.0) };
        Ok(summary(&self.tell("add fees to EpochRewards", value, &call).await?))
    }

    /// Posts an epoch with the bond that is due.
    pub async fn post(&self, post: &Post) -> Result<Receipt, ChainError> {
        let due = self.ask(&EpochRewards::bondDueCall {}).await?;
        let value = open("read EpochRewards", due)?;
        let call = EpochRewards::postCall { p: post.into() };
        Ok(summary(&self.tell("post an epoch", value, &call).await?))
    }

    /// All posts of an epoch, oldest first; more than one if a root died.
    pub async fn posts(&self, epoch: Epoch) -> Result<Vec<PostedLog>, ChainError> {
        let what = "read an epoch's posts";
        let filter = Filter::new()
            .address(address(self.at))
            .from_block(0)
            .event_signature(EpochRewards::Posted::SIGNATURE_HASH)
            .topic1(B256::from(U256::from(epoch.0)));
        let logs = self
            .chain
            .rpc()
            .run(what, None, |p| {
                let filter = filter.clone();
                async move { p.get_logs(&filter).await }
            })
            .await?;
        logs.iter()
            .map(|log| {
                let posted = EpochRewards::Posted::decode_log(&log.inner)
                    .map_err(|error| ChainError::BadAnswer { what, found: error.to_string() })?;
                Ok(PostedLog {
                    post: posted.data.post.into(),
                    final_at_s: posted.data.finalAt,
                    block: log.block_number.unwrap_or_default(),
                    transaction: keccak(log.transaction_hash.unwrap_or_default()),
                })
            })
            .collect()
    }

    /// Makes a root good whose window has passed. Claims and posts do it by themselves.
    pub async fn finalise(&self) -> Result<Receipt, ChainError> {
        let call = EpochRewards::finaliseCall {};
        Ok(summary(&self.tell("finalise a root", Open::ZERO, &call).await?))
    }

    /// Claims for one earner; anybody may, the earner is paid.
    pub async fn claim(&self, claim: &Claim) -> Result<ClaimOutcome, ChainError> {
        let leaf: crate::abi::SumTree::Leaf = claim.into();
        let call = EpochRewards::claimCall {
            earner: leaf.earner,
            cumulative: leaf.cumulative,
            index: leaf.index,
            siblingHashes: leaf.siblingHashes,
            siblingSums: leaf.siblingSums,
        };
        Ok(outcome(&self.tell("claim", Open::ZERO, &call).await?))
    }

    /// Claims for up to [`CLAIM_BATCH_MAX`] earners. Who has nothing left or refuses the payment is
    /// passed over; a wrong proof refuses the batch.
    pub async fn claim_many(&self, claims: &[Claim]) -> Result<ClaimOutcome, ChainError> {
        if claims.len() > CLAIM_BATCH_MAX {
            return Err(ChainError::BatchTooLarge { given: claims.len(), max: CLAIM_BATCH_MAX });
        }
        let leaves = claims.iter().map(Into::into).collect();
        let call = EpochRewards::claimManyCall { leaves };
        Ok(outcome(&self.tell("claim for many", Open::ZERO, &call).await?))
    }

    /// Kills the pending root by two neighbouring leaves that do not ascend; earns its bond.
    pub async fn challenge_order(
        &self,
        left: &Claim,
        right: &Claim,
    ) -> Result<Receipt, ChainError> {
        let call = EpochRewards::challengeOrderCall { left: left.into(), right: right.into() };
        Ok(summary(&self.tell("challenge the order of leaves", Open::ZERO, &call).await?))
    }

    /// Kills the pending root by a first or last leaf that is no sentinel; earns its bond.
    pub async fn challenge_end(&self, end: &Claim) -> Result<Receipt, ChainError> {
        let call = EpochRewards::challengeEndCall { end: end.into() };
        Ok(summary(&self.tell("challenge an end of the tree", Open::ZERO, &call).await?))
    }

    /// Native currency that an account can withdraw: bonds given back or won, in 10^-18.
    pub async fn bond_balance(&self, account: EvmAddress) -> Result<Open, ChainError> {
        let call = EpochRewards::bondBalanceCall { account: address(account) };
        open("read EpochRewards", self.ask(&call).await?)
    }

    /// Pays the sender its bond balance.
    pub async fn withdraw_bond(&self) -> Result<Receipt, ChainError> {
        let call = EpochRewards::withdrawBondCall {};
        Ok(summary(&self.tell("withdraw the bond", Open::ZERO, &call).await?))
    }
}

/// What a claim's events tell.
fn outcome(receipt: &TransactionReceipt) -> ClaimOutcome {
    let mut paid = Vec::new();
    let mut refused = Vec::new();
    for log in receipt.logs() {
        if let Ok(event) = EpochRewards::Claimed::decode_log(&log.inner) {
            paid.push(Paid {
                earner: evm(event.earner),
                amount: Open(event.paid),
                cumulative: Open(event.cumulative),
            });
        } else if let Ok(event) = EpochRewards::PaymentSkipped::decode_log(&log.inner) {
            // The contract books first and takes it back when the payment is refused.
            paid.retain(|entry| entry.earner != evm(event.earner));
            refused.push((evm(event.earner), Open(event.amount)));
        }
    }
    ClaimOutcome { receipt: summary(receipt), paid, refused }
}

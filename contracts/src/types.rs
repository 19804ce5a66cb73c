//! What goes in and comes out, in the words of `openledger-wire`; no type of alloy.

use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use openledger_wire::{Epoch, EvmAddress, Height, Keccak, LogHead, Open, RuleSetId};

use crate::abi::{CallEscrow, EpochRewards, SumTree};
use crate::error::ChainError;

/// What the proposer posts about an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The epoch.
    pub epoch: Epoch,
    /// Root of the Merkle-sum tree of cumulative rewards.
    pub root: Keccak,
    /// The tree's sum, in 10^-18 OPEN.
    pub total: Open,
    /// Leaves of the tree, both sentinels included.
    pub size: u64,
    /// Root over the sorted verdict rows.
    pub proofs_root: Keccak,
    /// Root over the call receipts.
    pub call_receipts_root: Keccak,
    /// Root over the attributions.
    pub attribution_root: Keccak,
    /// Root over the chunks of the published bundle.
    pub data_commitment: Keccak,
    /// Bytes of the bundle.
    pub data_size: u64,
    /// Head of the coordinator's log after the close.
    pub log_head: LogHead,
    /// Height of that head.
    pub log_height: Height,
    /// The rule set that the epoch was closed by.
    pub rule_set: RuleSetId,
    /// Rewards of accounts that have bound no payout address yet, in 10^-18 OPEN.
    pub unbound: Open,
}

/// A root as the contract keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The epoch.
    pub epoch: Epoch,
    /// Root of the tree.
    pub root: Keccak,
    /// The tree's sum, in 10^-18 OPEN.
    pub total: Open,
    /// What is earned by accounts without an address, in 10^-18 OPEN.
    pub unbound: Open,
    /// Leaves of the tree, both sentinels included.
    pub size: u64,
    /// keccak-256 of the whole post, ABI-encoded.
    pub post_hash: Keccak,
    /// What of the rise of the total is paid from fees, in 10^-18 OPEN.
    pub fees: Open,
    /// When it becomes or became good, by the chain's clock, seconds since 1970.
    pub final_at_s: u64,
}

/// A leaf with its path, as `claim` and the challenges take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who is paid.
    pub earner: EvmAddress,
    /// The cumulative amount in the tree, in 10^-18 OPEN.
    pub cumulative: Open,
    /// Position of the leaf, counting the first sentinel as 0.
    pub index: u64,
    /// Hash and sum of each sibling, bottom up.
    pub siblings: Vec<(Keccak, Open)>,
}

/// What happened to one earner of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The earner.
    pub earner: EvmAddress,
    /// What was paid now, in 10^-18 OPEN.
    pub amount: Open,
    /// What was paid so far, this included.
    pub cumulative: Open,
}

/// What a claim transaction did. Earners who had nothing left appear in neither list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimOutcome {
    /// The transaction.
    pub receipt: Receipt,
    /// Who was paid.
    pub paid: Vec<Paid>,
    /// Who did not accept the payment, and how much stays owed.
    pub refused: Vec<(EvmAddress, Open)>,
}

/// What the rewards contract says at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewardsStatus {
    /// The root that claims are paid from; `None` before the first one.
    pub last_good: Option<Anchor>,
    /// The root that waits for its window.
    pub pending: Option<Anchor>,
    /// The highest epoch that the chain's clock allows to post.
    pub latest_epoch: Epoch,
    /// All that was ever put in, fees included.
    pub funded: Open,
    /// The fees among it.
    pub fees_collected: Open,
    /// All that was ever paid.
    pub total_claimed: Open,
    /// Native currency that the proposer has to send with its next post.
    pub bond_due: Open,
}

/// What is fixed when the rewards contract is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewardsConfig {
    /// The ERC-20 that is paid; `None` for native currency.
    pub token: Option<EvmAddress>,
    /// The only account that may post.
    pub proposer: EvmAddress,
    /// Native currency at stake per post, in 10^-18.
    pub bond: Open,
    /// Until a root is good. At least 24 hours, except on a local chain.
    pub window: Duration,
    /// What an epoch may add to the total, without fees.
    pub epoch_budget: Open,
    /// The shortest epoch; epoch numbers come no faster.
    pub epoch_length: Duration,
    /// The first epoch that can be posted.
    pub first_epoch: Epoch,
}

/// The terms of a deployed rewards contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewardsTerms {
    /// What it was deployed with.
    pub config: RewardsConfig,
    /// When, by the chain's clock, seconds since 1970.
    pub deployed_at_s: u64,
}

/// What is fixed when the escrow is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowConfig {
    /// The ERC-20 that is paid; `None` for native currency. Must be the pool's.
    pub token: Option<EvmAddress>,
    /// The rewards contract, which gets the attribution part as fees.
    pub pool: EvmAddress,
    /// Gets the protocol's part.
    pub treasury: EvmAddress,
    /// The operator's part in hundredths of a per cent.
    pub operator_bps: u16,
    /// The protocol's part; the rest of 10,000 goes to the pool.
    pub protocol_bps: u16,
    /// Between asking for money back and taking it. At least 24 hours, except on a local chain.
    pub thaw: Duration,
}

/// The money of one payer for one payee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// All of it, in 10^-18 OPEN.
    pub balance: Open,
    /// What the payer has asked back; a payee relies on `balance - thawing` only.
    pub thawing: Open,
    /// When the payer may take it, seconds since 1970.
    pub thawed_at_s: u64,
}

/// A mined, successful transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its hash.
    pub transaction: Keccak,
    /// The block that holds it.
    pub block: u64,
    /// Gas that it used.
    pub gas_used: u64,
    /// What the gas cost, in 10^-18 of the native currency.
    pub cost: Open,
}

/// A post as the chain recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostedLog {
    /// The post.
    pub post: Post,
    /// When its window ends, seconds since 1970.
    pub final_at_s: u64,
    /// The block that holds it.
    pub block: u64,
    /// The transaction.
    pub transaction: Keccak,
}

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Keccak,
    /// Its time, seconds since 1970.
    pub time_s: u64,
    /// The beacon chain's randomness that it carries (EIP-4399).
    pub prevrandao: Keccak,
}

pub(crate) fn address(value: EvmAddress) -> Address {
    Address::from(value.0)
}

pub(crate) fn evm(value: Address) -> EvmAddress {
    EvmAddress(value.into_array())
}

pub(crate) fn word(value: Keccak) -> B256 {
    B256::from(value.0)
}

pub(crate) fn keccak(value: B256) -> Keccak {
    Keccak(value.0)
}

/// The token's address as the contracts take it.
pub(crate) fn token_address(token: Option<EvmAddress>) -> Address {
    token.map_or(Address::ZERO, address)
}

/// An amount that the contracts keep in 256 bits.
pub(crate) fn open(what: &'static str, value: U256) -> Result<Open, ChainError> {
    u128::try_from(value).map(Open).map_err(|_| ChainError::BadAnswer {
        what,
        found: format!("{value}, which exceeds 128 bits"),
    })
}

impl From<&Post> for EpochRewards::Post {
    fn from(p: &Post) -> Self {
        Self {
            epoch: p.epoch.0,
            root: word(p.root),
            total: p.total.0,
            size: p.size,
            proofsRoot: word(p.proofs_root),
            callReceiptsRoot: word(p.call_receipts_root),
            attributionRoot: word(p.attribution_root),
            dataCommitment: word(p.data_commitment),
            dataSize: p.data_size,
            logHead: B256::from(p.log_head.0),
            logHeight: p.log_height.0,
            ruleSet: B256::from(p.rule_set.0),
            unbound: p.unbound.0,
        }
    }
}

impl From<EpochRewards::Post> for Post {
    fn from(p: EpochRewards::Post) -> Self {
        Self {
            epoch: Epoch(p.epoch),
            root: keccak(p.root),
            total: Open(p.total),
            size: p.size,
            proofs_root: keccak(p.proofsRoot),
            call_receipts_root: keccak(p.callReceiptsRoot),
            attribution_root: keccak(p.attributionRoot),
            data_commitment: keccak(p.dataCommitment),
            data_size: p.dataSize,
            log_head: LogHead(p.logHead.0),
            log_height: Height(p.logHeight),
            rule_set: RuleSetId(p.ruleSet.0),
            unbound: Open(p.unbound),
        }
    }
}

impl Post {
    /// The hash that the contract keeps: keccak-256 of the ABI-encoded post.
    #[must_use]
    pub fn hash(&self) -> Keccak {
        use alloy::sol_types::SolValue;
        keccak(alloy_primitives::keccak256(EpochRewards::Post::from(self).abi_encode()))
    }
}

impl From<EpochRewards::Anchor> for Anchor {
    fn from(a: EpochRewards::Anchor) -> Self {
        Self {
            epoch: Epoch(a.epoch),
            root: keccak(a.root),
            total: Open(a.total),
            unbound: Open(a.unbound),
            size: a.size,
            post_hash: keccak(a.postHash),
            fees: Open(a.fees),
            final_at_s: a.finalAt,
        }
    }
}

impl From<&Claim> for SumTree::Leaf {
    fn from(c: &Claim) -> Self {
        Self {
            earner: address(c.earner),
            cumulative: c.cumulative.0,
            index: c.index,
            siblingHashes: c.siblings.iter().map(|(hash, _)| word(*hash)).collect(),
            siblingSums: c.siblings.iter().map(|(_, sum)| sum.0).collect(),
        }
    }
}

impl From<&RewardsConfig> for EpochRewards::Config {
    fn from(c: &RewardsConfig) -> Self {
        Self {
            token: token_address(c.token),
            proposer: address(c.proposer),
            bond: U256::from(c.bond.0),
            window: c.window.as_secs(),
            epochBudget: c.epoch_budget.0,
            epochSeconds: c.epoch_length.as_secs(),
            firstEpoch: c.first_epoch.0,
        }
    }
}

impl From<&EscrowConfig> for CallEscrow::Config {
    fn from(c: &EscrowConfig) -> Self {
        Self {
            token: token_address(c.token),
            pool: address(c.pool),
            treasury: address(c.treasury),
            operatorBps: c.operator_bps,
            protocolBps: c.protocol_bps,
            thawSeconds: c.thaw.as_secs(),
        }
    }
}

impl From<CallEscrow::Lane> for Lane {
    fn from(l: CallEscrow::Lane) -> Self {
        Self { balance: Open(l.balance), thawing: Open(l.thawing), thawed_at_s: l.thawedAt }
    }
}

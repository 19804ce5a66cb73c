//! What can go wrong between us and the chain, and what to do about it.

use std::time::Duration;

use alloy::sol_types::SolInterface;
use alloy::transports::TransportError;
use alloy_primitives::{Bytes, hex};
use openledger_wire::{Epoch, EvmAddress, Keccak, Open};
use thiserror::Error;

use crate::abi::{CallEscrow, EpochRewards, OpenToken};
use crate::limits::REVERT_SHOWN_BYTES;
use crate::types::{evm, keccak};

/// Why a call to the chain did not give what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No URL, or too many of them.
    #[error("connect to the chain: {given} RPC URLs are configured; give 1 to {max} of them")]
    Endpoints {
        /// How many there are.
        given: usize,
        /// How many there may be.
        max: usize,
    },
    /// A URL that cannot be used.
    #[error("connect to the chain: {url:?} is not an http or https URL: {reason}")]
    BadUrl {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error("connect to the chain: set up the HTTP client: {reason}")]
    Client {
        /// What the client says.
        reason: String,
    },
    /// No endpoint answers.
    #[error(
        "{what}: {endpoint} does not answer after {attempts} attempts ({source}); check that the chain's RPC runs and that its URL is right"
    )]
    Unreachable {
        /// What was asked.
        what: &'static str,
        /// The endpoint that was asked last, without path and credentials.
        endpoint: String,
        /// Rounds over all endpoints.
        attempts: u32,
        /// The last failure.
        source: TransportError,
    },
    /// An endpoint of another chain.
    #[error(
        "use {endpoint}: it serves chain {found}, not chain {expected}; correct the chain id or the URL"
    )]
    WrongChain {
        /// The endpoint.
        endpoint: String,
        /// The id that it gives.
        found: u64,
        /// The id that was configured, or given by the first endpoint.
        expected: u64,
    },
    /// A transaction without a key to sign it.
    #[error("{what}: this connection has no key to sign with; configure the settlement key")]
    NoKey {
        /// What was to be sent.
        what: &'static str,
    },
    /// The signing key is not usable.
    #[error("{what}: sign the transaction: {reason}")]
    Signing {
        /// What was to be sent.
        what: &'static str,
        /// What the signer says.
        reason: String,
    },
    /// There is no contract at the address.
    #[error("find {contract} at 0x{address}: there is no code; check the address and the chain")]
    NoContract {
        /// Which contract was expected.
        contract: &'static str,
        /// Where.
        address: EvmAddress,
    },
    /// The contract refused the call; nothing has changed.
    #[error("{what}: the contract refuses: {refusal}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// The sender cannot pay for value and gas.
    #[error(
        "{what}: 0x{account} has too little native currency for value and gas ({message}); send it some"
    )]
    InsufficientFunds {
        /// What was asked.
        what: &'static str,
        /// The sender.
        account: EvmAddress,
        /// What the node says.
        message: String,
    },
    /// Another transaction took the nonce.
    #[error(
        "{what}: another transaction of the same key took nonce {nonce}; let only one process use the key, then try again"
    )]
    NonceTaken {
        /// What was asked.
        what: &'static str,
        /// The nonce.
        nonce: u64,
    },
    /// The connection failed while the transaction was handed over.
    #[error(
        "{what}: it is not known whether transaction 0x{transaction} was accepted ({source}); look for its receipt before sending anything again"
    )]
    Unsure {
        /// What was asked.
        what: &'static str,
        /// The transaction.
        transaction: Keccak,
        /// The last failure.
        source: Box<Self>,
    },
    /// The transaction is not in a block yet.
    #[error(
        "{what}: transaction 0x{transaction} is in no block after {waited:?}; it may still come: look for its receipt before sending again"
    )]
    NotMined {
        /// What was asked.
        what: &'static str,
        /// The transaction.
        transaction: Keccak,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The transaction is in a block, but reverted there.
    #[error(
        "{what}: transaction 0x{transaction} reverted in block {block}, although it was accepted before: the chain's state has moved; read it again"
    )]
    Reverted {
        /// What was asked.
        what: &'static str,
        /// The transaction.
        transaction: Keccak,
        /// The block.
        block: u64,
    },
    /// The node refuses the request.
    #[error("{what}: the node refuses: {message} (code {code})")]
    Node {
        /// What was asked.
        what: &'static str,
        /// JSON-RPC error code.
        code: i64,
        /// What the node says, cut to a few hundred characters.
        message: String,
    },
    /// The node's answer makes no sense.
    #[error("{what}: the node answered {found}; use another RPC")]
    BadAnswer {
        /// What was asked.
        what: &'static str,
        /// What came.
        found: String,
    },
    /// The chain has no such block yet.
    #[error("read block {number}: the chain has not reached it; wait or choose an earlier one")]
    NoBlock {
        /// The block's number.
        number: u64,
    },
    /// Too many claims at once.
    #[error("claim for {given} earners at once: {max} fit a transaction; split the batch")]
    BatchTooLarge {
        /// How many were given.
        given: usize,
        /// How many may be.
        max: usize,
    },
}

/// Why a contract refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The caller may not post.
    #[error("0x{caller} is not the proposer; post with the key of 0x{proposer}")]
    NotProposer {
        /// The caller.
        caller: EvmAddress,
        /// Who may.
        proposer: EvmAddress,
    },
    /// Another root waits for its window.
    #[error("the root of epoch {epoch} is pending; post after {final_at_s} (Unix seconds)")]
    RootPending {
        /// Its epoch.
        epoch: Epoch,
        /// When its window ends.
        final_at_s: u64,
    },
    /// Nothing can be challenged.
    #[error("no root is pending, so there is nothing to challenge")]
    NoPendingRoot,
    /// The epoch was posted before.
    #[error("epoch {epoch} is past; the next one is {next}")]
    EpochPast {
        /// The epoch.
        epoch: Epoch,
        /// The first one that can be posted.
        next: Epoch,
    },
    /// The epoch is ahead of the chain's clock.
    #[error("epoch {epoch} is ahead of the chain's clock, which allows {latest}; wait")]
    EpochTooEarly {
        /// The epoch.
        epoch: Epoch,
        /// The highest that can be posted now.
        latest: Epoch,
    },
    /// The total is below that of the last good root.
    #[error(
        "the total {total} OPEN is below the last one, {last} OPEN; cumulative sums never fall"
    )]
    TotalDecreased {
        /// The total.
        total: Open,
        /// That of the last good root.
        last: Open,
    },
    /// Total and unbound together are below those of the last good root.
    #[error(
        "total and unbound together are {given} OPEN, below the last {last} OPEN; what was given is never taken back"
    )]
    GivenDecreased {
        /// The sum.
        given: Open,
        /// That of the last good root.
        last: Open,
    },
    /// The sum of total and unbound rises by more than budget and fees.
    #[error(
        "the sum of total and unbound rises by {increase} OPEN, {allowed} OPEN are allowed; check the budget and the fees"
    )]
    OverBudget {
        /// The rise.
        increase: Open,
        /// What is allowed.
        allowed: Open,
    },
    /// The total exceeds what was put in.
    #[error("the total {total} OPEN exceeds the {funded} OPEN in the contract; fund it first")]
    OverFunded {
        /// The total.
        total: Open,
        /// What was ever put in.
        funded: Open,
    },
    /// The bond is not there.
    #[error("the bond is {bond}, only {given} was given; send `bond_due`")]
    BondTooSmall {
        /// What was given, in 10^-18 of the native currency.
        given: Open,
        /// What is needed.
        bond: Open,
    },
    /// The proof does not fit the root.
    #[error("the proof of 0x{earner} does not fit root 0x{root}; fetch a proof for that root")]
    ProofMismatch {
        /// The earner.
        earner: EvmAddress,
        /// The root that it was checked against.
        root: Keccak,
    },
    /// All was paid before.
    #[error("0x{earner} was already paid {claimed} OPEN; there is nothing to claim")]
    NothingToClaim {
        /// The earner.
        earner: EvmAddress,
        /// Paid so far.
        claimed: Open,
    },
    /// The delay is too short for this chain.
    #[error("a delay of {given_s} s is too short on this chain; {min_s} s is the least")]
    DelayTooShort {
        /// What was given.
        given_s: u64,
        /// The least.
        min_s: u64,
    },
    /// A voucher adds nothing that could be paid.
    #[error(
        "the voucher over {value} OPEN adds nothing: {collected} OPEN are collected, {balance} OPEN are in the lane"
    )]
    NothingToCollect {
        /// The voucher's aggregate.
        value: Open,
        /// Collected so far.
        collected: Open,
        /// What the lane holds.
        balance: Open,
    },
    /// The signature is of somebody else.
    #[error("0x{signer} does not sign for 0x{payer}; let the payer authorise it")]
    NotASigner {
        /// The payer.
        payer: EvmAddress,
        /// Whose signature it is.
        signer: EvmAddress,
    },
    /// The receiver did not accept the payment.
    #[error("0x{to} does not accept the payment of {amount} OPEN")]
    PaymentRefused {
        /// The receiver.
        to: EvmAddress,
        /// The amount.
        amount: Open,
    },
    /// Any other error of our contracts, or of the token, in words.
    #[error("{0}")]
    Other(String),
}

/// An amount for a message; more than 128 bits is shown as the most.
fn shown(value: alloy_primitives::U256) -> Open {
    Open(value.saturating_to())
}

impl Refusal {
    /// Reads revert data.
    pub(crate) fn decode(data: &Bytes) -> Self {
        if let Ok(error) = EpochRewards::EpochRewardsErrors::abi_decode(data) {
            return Self::of_rewards(error);
        }
        if let Ok(error) = CallEscrow::CallEscrowErrors::abi_decode(data) {
            return Self::of_escrow(error);
        }
        if let Ok(error) = OpenToken::OpenTokenErrors::abi_decode(data) {
            return Self::Other(format!("the token says {error:?}"));
        }
        if let Some(reason) = alloy::sol_types::decode_revert_reason(data) {
            return Self::Other(reason);
        }
        let start = data.get(..REVERT_SHOWN_BYTES).unwrap_or(data);
        Self::Other(format!(
            "it gives no reason that this version knows (0x{})",
            hex::encode(start)
        ))
    }

    fn of_rewards(error: EpochRewards::EpochRewardsErrors) -> Self {
        use EpochRewards::EpochRewardsErrors as E;
        match error {
            E::NotProposer(e) => {
                Self::NotProposer { caller: evm(e.caller), proposer: evm(e.proposer) }
            }
            E::RootPending(e) => Self::RootPending { epoch: Epoch(e.epoch), final_at_s: e.finalAt },
            E::NoPendingRoot(_) => Self::NoPendingRoot,
            E::EpochPast(e) => Self::EpochPast { epoch: Epoch(e.epoch), next: Epoch(e.nextEpoch) },
            E::EpochTooEarly(e) => {
                Self::EpochTooEarly { epoch: Epoch(e.epoch), latest: Epoch(e.latestEpoch) }
            }
            E::TotalDecreased(e) => {
                Self::TotalDecreased { total: Open(e.total), last: Open(e.lastTotal) }
            }
            E::GivenDecreased(e) => {
                Self::GivenDecreased { given: shown(e.given), last: shown(e.lastGiven) }
            }
            E::OverBudget(e) => {
                Self::OverBudget { increase: shown(e.increase), allowed: shown(e.allowed) }
            }
            E::OverFunded(e) => Self::OverFunded { total: shown(e.total), funded: shown(e.funded) },
            E::BondTooSmall(e) => Self::BondTooSmall { given: shown(e.given), bond: shown(e.bond) },
            E::ProofMismatch(e) => {
                Self::ProofMismatch { earner: evm(e.earner), root: keccak(e.root) }
            }
            E::NothingToClaim(e) => {
                Self::NothingToClaim { earner: evm(e.earner), claimed: Open(e.claimed) }
            }
            E::DelayTooShort(e) => {
                Self::DelayTooShort { given_s: e.delaySeconds, min_s: e.minSeconds }
            }
            E::PaymentRefused(e) => Self::PaymentRefused { to: evm(e.to), amount: shown(e.amount) },
            other => Self::Other(format!("{other:?}")),
        }
    }

    fn of_escrow(error: CallEscrow::CallEscrowErrors) -> Self {
        use CallEscrow::CallEscrowErrors as E;
        match error {
            E::NothingToCollect(e) => Self::NothingToCollect {
                value: Open(e.valueAggregate),
                collected: Open(e.collected),
                balance: Open(e.balance),
            },
            E::NotASigner(e) => Self::NotASigner { payer: evm(e.payer), signer: evm(e.signer) },
            other => Self::Other(format!("{other:?}")),
        }
    }
}

//! The contracts on chain: bindings and RPC through alloy, the only crate that names it.
//!
//! [`Chain`] is a checked, time-bounded connection, with a key if it is to send. [`Rewards`] posts,
//! watches, challenges and claims; [`Escrow`] pays for calls; [`Token`] is OPEN where it is an
//! ERC-20. [`Anvil`] runs a local chain for tests and devnets.
//!
//! Deliberately absent: how sums and trees are computed (`openledger-rules`), what is signed
//! (`openledger-wire`), and when to post or claim (the service and the node).

mod abi;
mod anvil;
mod chain;
mod deploy;
mod error;
mod escrow;
mod limits;
mod rewards;
mod rpc;
mod send;
mod token;
mod types;

pub use anvil::{Anvil, AnvilError, AnvilOptions, find_anvil};
pub use chain::{Chain, ChainOptions};
pub use error::{ChainError, Refusal};
pub use escrow::Escrow;
pub use limits::{CLAIM_BATCH_MAX, RECEIPT_TIMEOUT};
pub use rewards::Rewards;
pub use token::Token;
pub use types::{
    Anchor, Block, Claim, ClaimOutcome, EscrowConfig, Lane, Paid, Post, PostedLog, Receipt,
    RewardsConfig, RewardsStatus, RewardsTerms,
};

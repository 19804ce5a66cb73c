//! The crate against a real local chain.
//!
//! Needs anvil: `npm ci` in contracts/solidity, or `OPENLEDGER_ANVIL`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod escrow;
mod failures;
mod rewards;
mod support;
mod vectors;

//! OPEN where it is an ERC-20.

use alloy::sol_types::SolCall;
use alloy_primitives::U256;
use openledger_wire::{EvmAddress, Open};

use crate::abi::OpenToken;
use crate::chain::Chain;
use crate::error::ChainError;
use crate::send::summary;
use crate::types::{Receipt, address, open};

/// An ERC-20 on a chain.
#[derive(Clone, Debug)]
pub struct Token {
    chain: Chain,
    at: EvmAddress,
}

impl Token {
    /// The token at this address; fails if there is no code.
    pub async fn attach(chain: &Chain, at: EvmAddress) -> Result<Self, ChainError> {
        chain.require_code("the token", at).await?;
        Ok(Self::new(chain, at))
    }

    pub(crate) fn new(chain: &Chain, at: EvmAddress) -> Self {
        Self { chain: chain.clone(), at }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> EvmAddress {
        self.at
    }

    /// What an account holds, in 10^-18 OPEN.
    pub async fn balance_of(&self, account: EvmAddress) -> Result<Open, ChainError> {
        let what = "read a token balance";
        let call = OpenToken::balanceOfCall { account: address(account) };
        open(what, self.chain.read(what, self.at, &call).await?)
    }

    /// Sends `amount` to `to`.
    pub async fn transfer(&self, to: EvmAddress, amount: Open) -> Result<Receipt, ChainError> {
        let call = OpenToken::transferCall { to: address(to), value: U256::from(amount.0) };
        let sent = self
            .chain
            .send("transfer tokens", Some(self.at), Open::ZERO, call.abi_encode())
            .await?;
        Ok(summary(&sent))
    }

    /// Lets `spender` take `amount`, unless it may already.
    pub(crate) async fn allow(&self, spender: EvmAddress, amount: Open) -> Result<(), ChainError> {
        let what = "approve tokens";
        let owner = self.chain.sender(what)?.account();
        let call = OpenToken::allowanceCall { owner: address(owner), spender: address(spender) };
        if self.chain.read(what, self.at, &call).await? >= U256::from(amount.0) {
            return Ok(());
        }
        let call =
            OpenToken::approveCall { spender: address(spender), value: U256::from(amount.0) };
        self.chain.send(what, Some(self.at), Open::ZERO, call.abi_encode()).await?;
        Ok(())
    }
}

//! Deploying the contracts, for devnets and operators. The sender pays for the gas.

use alloy::sol_types::SolConstructor;
use openledger_wire::{EvmAddress, Open};

use crate::abi::{CallEscrow, EpochRewards, OpenToken};
use crate::chain::Chain;
use crate::error::ChainError;
use crate::escrow::Escrow;
use crate::rewards::Rewards;
use crate::token::Token;
use crate::types::{EscrowConfig, RewardsConfig, address, evm};

impl Chain {
    /// Deploys OPEN as an ERC-20; the whole supply, a billion, goes to `recipient`.
    pub async fn deploy_token(&self, recipient: EvmAddress) -> Result<Token, ChainError> {
        let arguments = OpenToken::constructorCall { recipient: address(recipient) }.abi_encode();
        let at = self.deploy("deploy OpenToken", &OpenToken::BYTECODE, arguments).await?;
        Ok(Token::new(self, at))
    }

    /// Deploys the rewards contract. A window below 24 hours is refused, except on a local chain.
    pub async fn deploy_rewards(&self, config: &RewardsConfig) -> Result<Rewards, ChainError> {
        let arguments = EpochRewards::constructorCall { config: config.into() }.abi_encode();
        let at = self.deploy("deploy EpochRewards", &EpochRewards::BYTECODE, arguments).await?;
        Rewards::attach(self, at).await
    }

    /// Deploys the escrow for calls. A thaw below 24 hours is refused, except on a local chain.
    pub async fn deploy_escrow(&self, config: &EscrowConfig) -> Result<Escrow, ChainError> {
        let arguments = CallEscrow::constructorCall { config: config.into() }.abi_encode();
        let at = self.deploy("deploy CallEscrow", &CallEscrow::BYTECODE, arguments).await?;
        Escrow::attach(self, at).await
    }

    async fn deploy(
        &self,
        what: &'static str,
        bytecode: &[u8],
        arguments: Vec<u8>,
    ) -> Result<EvmAddress, ChainError> {
        let mut input = bytecode.to_vec();
        input.extend(arguments);
        let receipt = self.send(what, None, Open::ZERO, input).await?;
        receipt.contract_address.map(evm).ok_or_else(|| ChainError::BadAnswer {
            what,
            found: "a receipt without a contract address".to_owned(),
        })
    }
}

//! `CallEscrow`: lanes, vouchers, and money that comes back.

use alloy::sol_types::SolCall;
use alloy_primitives::{Address, Bytes};
use openledger_wire::eip712::{Domain, Voucher};
use openledger_wire::{EvmAddress, EvmSignature, Keccak, Open};

use crate::abi::CallEscrow;
use crate::chain::Chain;
use crate::error::ChainError;
use crate::send::summary;
use crate::token::Token;
use crate::types::{Lane, Receipt, address, evm, word};

/// The escrow for calls on a chain.
#[derive(Clone, Debug)]
pub struct Escrow {
    chain: Chain,
    at: EvmAddress,
    token: Option<Token>,
}

impl Escrow {
    /// The contract at this address; fails if there is no code.
    pub async fn attach(chain: &Chain, at: EvmAddress) -> Result<Self, ChainError> {
        chain.require_code("CallEscrow", at).await?;
        let token = chain.read("read the escrow's token", at, &CallEscrow::tokenCall {}).await?;
        let token = (token != Address::ZERO).then(|| Token::new(chain, evm(token)));
        Ok(Self { chain: chain.clone(), at, token })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> EvmAddress {
        self.at
    }

    /// The EIP-712 domain of its vouchers.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.chain.chain_id(), contract: self.at }
    }

    async fn tell<C: SolCall>(
        &self,
        what: &'static str,
        value: Open,
        call: &C,
    ) -> Result<Receipt, ChainError> {
        let sent = self.chain.send(what, Some(self.at), value, call.abi_encode()).await?;
        Ok(summary(&sent))
    }

    /// Adds `amount` to the sender's lane for `payee`.
    pub async fn deposit(&self, payee: EvmAddress, amount: Open) -> Result<Receipt, ChainError> {
        let value = match &self.token {
            Some(token) => token.allow(self.at, amount).await.map(|()| Open::ZERO)?,
            None => amount,
        };
        let call = CallEscrow::depositCall { payee: address(payee), amount: amount.0 };
        self.tell("deposit into the escrow", value, &call).await
    }

    /// The lane of a payer for a payee.
    pub async fn lane(&self, payer: EvmAddress, payee: EvmAddress) -> Result<Lane, ChainError> {
        let call = CallEscrow::laneOfCall { payer: address(payer), payee: address(payee) };
        self.chain.read("read a lane", self.at, &call).await.map(Into::into)
    }

    /// What was collected so far of the vouchers for a payer, a payee and a model.
    pub async fn collected(
        &self,
        payer: EvmAddress,
        payee: EvmAddress,
        model: Keccak,
    ) -> Result<Open, ChainError> {
        let call = CallEscrow::collectedCall {
            payer: address(payer),
            payee: address(payee),
            model: word(model),
        };
        self.chain.read("read what was collected", self.at, &call).await.map(Open)
    }

    /// Collects what a voucher adds, as far as the lane reaches. Anybody may send it.
    pub async fn collect(
        &self,
        voucher: &Voucher,
        signature: &EvmSignature,
    ) -> Result<Receipt, ChainError> {
        let call = CallEscrow::collectCall {
            voucher: CallEscrow::Voucher {
                payer: address(voucher.payer),
                payee: address(voucher.payee),
                model: word(voucher.model),
                valueAggregate: voucher.value_aggregate.0,
                receiptsRoot: word(voucher.receipts_root),
            },
            signature: Bytes::copy_from_slice(&signature.0),
        };
        self.tell("collect a voucher", Open::ZERO, &call).await
    }

    /// Lets `signer` sign vouchers for the sender.
    pub async fn authorise_signer(&self, signer: EvmAddress) -> Result<Receipt, ChainError> {
        let call = CallEscrow::authoriseSignerCall { signer: address(signer) };
        self.tell("authorise a signer", Open::ZERO, &call).await
    }

    /// Ends a signer's right after the thawing time.
    pub async fn revoke_signer(&self, signer: EvmAddress) -> Result<Receipt, ChainError> {
        let call = CallEscrow::revokeSignerCall { signer: address(signer) };
        self.tell("revoke a signer", Open::ZERO, &call).await
    }

    /// Asks `amount` of the sender's lane for `payee` back; 0 ends an earlier request.
    pub async fn thaw(&self, payee: EvmAddress, amount: Open) -> Result<Receipt, ChainError> {
        let call = CallEscrow::thawCall { payee: address(payee), amount: amount.0 };
        self.tell("thaw a lane", Open::ZERO, &call).await
    }

    /// Pays the sender what has thawed of its lane for `payee`.
    pub async fn withdraw(&self, payee: EvmAddress) -> Result<Receipt, ChainError> {
        let call = CallEscrow::withdrawCall { payee: address(payee) };
        self.tell("withdraw from a lane", Open::ZERO, &call).await
    }
}

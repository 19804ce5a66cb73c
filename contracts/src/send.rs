//! Sending: a transaction is priced, signed once, handed over and waited for.
//!
//! What is repeated after a lost connection are always the same signed bytes, so nothing happens
//! twice. One transaction of a connection is under way at a time, so nonces follow each other.
//! Reorganisations are not followed: on the chains meant here a block of the sequencer stays.

use std::time::Duration;

use alloy::consensus::TxEnvelope;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{B256, Bytes, TxKind, U256};
use openledger_wire::{EvmAddress, Keccak, Open, SettlementKey};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::chain::Chain;
use crate::error::ChainError;
use crate::limits::{GAS_MARGIN_PERCENT, RECEIPT_POLL, RECEIPT_POLL_MAX};
use crate::types::{Receipt, address, evm, keccak, word};

/// The key that sends.
#[derive(Debug)]
pub(crate) struct Sender {
    account: EvmAddress,
    wallet: EthereumWallet,
    /// Held while a transaction is under way.
    turn: Mutex<()>,
}

impl Sender {
    pub(crate) fn new(key: &SettlementKey) -> Result<Self, ChainError> {
        let signer = PrivateKeySigner::from_slice(key.secret().as_slice()).map_err(|error| {
            ChainError::Signing { what: "load the settlement key", reason: error.to_string() }
        })?;
        let account = evm(signer.address());
        Ok(Self { account, wallet: EthereumWallet::from(signer), turn: Mutex::new(()) })
    }

    pub(crate) fn account(&self) -> EvmAddress {
        self.account
    }
}

impl Chain {
    /// Sends a transaction and waits for its block. `to` is `None` for a deployment.
    pub(crate) async fn send(
        &self,
        what: &'static str,
        to: Option<EvmAddress>,
        value: Open,
        input: Vec<u8>,
    ) -> Result<TransactionReceipt, ChainError> {
        let sender = self.sender(what)?;
        let _turn = sender.turn.lock().await;
        let (envelope, nonce) = self.prepare(what, sender, to, value, input).await?;
        let hash = *envelope.tx_hash();
        tracing::debug!(what, %hash, nonce, "sending");
        self.hand_over(what, sender, envelope, nonce).await?;
        self.await_receipt(what, hash, self.receipt_timeout()).await
    }

    async fn prepare(
        &self,
        what: &'static str,
        sender: &Sender,
        to: Option<EvmAddress>,
        value: Open,
        input: Vec<u8>,
    ) -> Result<(TxEnvelope, u64), ChainError> {
        let from = address(sender.account);
        let mut request = TransactionRequest::default()
            .with_from(from)
            .with_kind(to.map_or(TxKind::Create, |to| TxKind::Call(address(to))))
            .with_value(U256::from(value.0))
            .with_input(Bytes::from(input))
            .with_chain_id(self.chain_id());
        let account = Some(sender.account);
        // The estimate runs the call, so a refusal shows here, with its reason and without cost.
        let gas = self
            .rpc()
            .run(what, account, |p| {
                let request = request.clone();
                async move { p.estimate_gas(request).await }
            })
            .await?;
        let fees = self
            .rpc()
            .run(what, account, |p| async move { p.estimate_eip1559_fees().await })
            .await?;
        let nonce = self
            .rpc()
            .run(what, account, |p| async move { p.get_transaction_count(from).pending().await })
            .await?;
        request = request
            .with_nonce(nonce)
            .with_gas_limit(gas.saturating_add(gas / 100 * GAS_MARGIN_PERCENT))
            .with_max_fee_per_gas(fees.max_fee_per_gas)
            .with_max_priority_fee_per_gas(fees.max_priority_fee_per_gas);
        let envelope = request
            .build(&sender.wallet)
            .await
            .map_err(|error| ChainError::Signing { what, reason: error.to_string() })?;
        Ok((envelope, nonce))
    }

    async fn hand_over(
        &self,
        what: &'static str,
        sender: &Sender,
        envelope: TxEnvelope,
        nonce: u64,
    ) -> Result<(), ChainError> {
        let hash = *envelope.tx_hash();
        let sent = self
            .rpc()
            .run(what, Some(sender.account), |p| {
                let envelope = envelope.clone();
                async move { p.send_tx_envelope(envelope).await.map(|_| ()) }
            })
            .await;
        match sent {
            Ok(()) => Ok(()),
            Err(ChainError::Node { message, .. }) if is_known(&message) => Ok(()),
            // The first try may have reached the chain although its answer was lost.
            Err(ChainError::Node { message, .. }) if is_nonce(&message) => {
                match self.find_receipt(what, hash).await? {
                    Some(_) => Ok(()),
                    None => Err(ChainError::NonceTaken { what, nonce }),
                }
            }
            Err(error @ (ChainError::Unreachable { .. } | ChainError::BadAnswer { .. })) => {
                Err(ChainError::Unsure { what, transaction: keccak(hash), source: Box::new(error) })
            }
            Err(error) => Err(error),
        }
    }

    async fn find_receipt(
        &self,
        what: &'static str,
        hash: B256,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        self.rpc().run(what, None, |p| async move { p.get_transaction_receipt(hash).await }).await
    }

    async fn await_receipt(
        &self,
        what: &'static str,
        hash: B256,
        timeout: Duration,
    ) -> Result<TransactionReceipt, ChainError> {
        let deadline = Instant::now() + timeout;
        let mut pause = RECEIPT_POLL;
        loop {
            if let Some(receipt) = self.find_receipt(what, hash).await? {
                return succeeded(what, receipt);
            }
            if Instant::now() + pause > deadline {
                return Err(ChainError::NotMined {
                    what,
                    transaction: keccak(hash),
                    waited: timeout,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECEIPT_POLL_MAX);
        }
    }

    /// The receipt of a transaction that an earlier call left behind, waiting for it if needed.
    pub async fn wait_receipt(
        &self,
        transaction: Keccak,
        timeout: Duration,
    ) -> Result<Receipt, ChainError> {
        let receipt =
            self.await_receipt("wait for a transaction", word(transaction), timeout).await?;
        Ok(summary(&receipt))
    }

    /// Sends native currency.
    pub async fn transfer_native(
        &self,
        to: EvmAddress,
        amount: Open,
    ) -> Result<Receipt, ChainError> {
        let receipt = self.send("transfer native currency", Some(to), amount, Vec::new()).await?;
        Ok(summary(&receipt))
    }
}

fn succeeded(
    what: &'static str,
    receipt: TransactionReceipt,
) -> Result<TransactionReceipt, ChainError> {
    if receipt.status() {
        return Ok(receipt);
    }
    Err(ChainError::Reverted {
        what,
        transaction: keccak(receipt.transaction_hash),
        block: receipt.block_number.unwrap_or_default(),
    })
}

pub(crate) fn summary(receipt: &TransactionReceipt) -> Receipt {
    Receipt {
        transaction: keccak(receipt.transaction_hash),
        block: receipt.block_number.unwrap_or_default(),
        gas_used: receipt.gas_used,
        cost: Open(receipt.effective_gas_price.saturating_mul(u128::from(receipt.gas_used))),
    }
}

/// The node has these very bytes already.
fn is_known(message: &str) -> bool {
    let lower = message.to_lowercase();
    lower.contains("already known") || lower.contains("already imported")
}

fn is_nonce(message: &str) -> bool {
    let lower = message.to_lowercase();
    lower.contains("nonce") || lower.contains("underpriced")
}

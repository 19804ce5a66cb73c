//! A checked connection to one chain, with a key if it is to send.

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::network::TransactionBuilder;
use alloy::providers::Provider;
use alloy::rpc::types::{BlockTransactionsKind, TransactionRequest};
use alloy::sol_types::SolCall;
use alloy_primitives::Bytes;
use openledger_wire::{EvmAddress, Open, SettlementKey};

use crate::error::ChainError;
use crate::limits::RECEIPT_TIMEOUT;
use crate::rpc::Rpc;
use crate::send::Sender;
use crate::types::{Block, address, keccak, open};

/// How to reach a chain.
#[derive(Clone, Debug, Default)]
pub struct ChainOptions {
    /// JSON-RPC URLs (http or https), tried in order.
    pub rpc: Vec<String>,
    /// The id that they must serve; without it, that of the first to answer.
    pub chain_id: Option<u64>,
    /// The key that sends; without it the connection only reads.
    pub key: Option<SettlementKey>,
    /// How long a transaction may wait for its block; [`RECEIPT_TIMEOUT`] by default.
    pub receipt_timeout: Option<Duration>,
}

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub struct Chain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rpc: Rpc,
    chain_id: u64,
    sender: Option<Sender>,
    receipt_timeout: Duration,
}

impl Chain {
    /// Connects, and checks the chain's id.
    pub async fn connect(options: ChainOptions) -> Result<Self, ChainError> {
        let rpc = Rpc::new(&options.rpc, options.chain_id)?;
        let asked =
            rpc.run("read the chain's id", None, |p| async move { p.get_chain_id().await }).await?;
        let chain_id = rpc.chain_id().unwrap_or(asked);
        let sender = options.key.as_ref().map(Sender::new).transpose()?;
        let receipt_timeout = options.receipt_timeout.unwrap_or(RECEIPT_TIMEOUT);
        Ok(Self(Arc::new(Inner { rpc, chain_id, sender, receipt_timeout })))
    }

    /// EIP-155 id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.0.chain_id
    }

    /// Whether this is a chain of one's own machine, where the contracts allow short windows.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.0.chain_id, 31337 | 1337 | 900 | 901)
    }

    /// The account that sends, if there is a key.
    #[must_use]
    pub fn account(&self) -> Option<EvmAddress> {
        self.0.sender.as_ref().map(Sender::account)
    }

    /// Native currency of an account, in 10^-18.
    pub async fn native_balance(&self, account: EvmAddress) -> Result<Open, ChainError> {
        let what = "read a native balance";
        let balance = self
            .0
            .rpc
            .run(what, None, |p| async move { p.get_balance(address(account)).await })
            .await?;
        open(what, balance)
    }

    /// The newest block.
    pub async fn latest_block(&self) -> Result<Block, ChainError> {
        self.read_block(BlockNumberOrTag::Latest).await?.ok_or(ChainError::BadAnswer {
            what: "read the newest block",
            found: "none".to_owned(),
        })
    }

    /// A block by its number, with its prevrandao.
    pub async fn block(&self, number: u64) -> Result<Block, ChainError> {
        let block = self.read_block(BlockNumberOrTag::Number(number)).await?;
        match block {
            Some(block) if block.number == number => Ok(block),
            Some(block) => Err(ChainError::BadAnswer {
                what: "read a block",
                found: format!("block {} instead of {number}", block.number),
            }),
            None => Err(ChainError::NoBlock { number }),
        }
    }

    async fn read_block(&self, which: BlockNumberOrTag) -> Result<Option<Block>, ChainError> {
        let block = self
            .0
            .rpc
            .run("read a block", None, |p| async move {
                p.get_block_by_number(which).kind(BlockTransactionsKind::Hashes).await
            })
            .await?;
        Ok(block.map(|block| Block {
            number: block.header.number,
            hash: keccak(block.header.hash),
            time_s: block.header.timestamp,
            prevrandao: keccak(block.header.mix_hash),
        }))
    }

    /// Whether there is a contract at the address.
    pub async fn has_code(&self, at: EvmAddress) -> Result<bool, ChainError> {
        let code = self
            .0
            .rpc
            .run(
                "read a contract's code",
                None,
                |p| async move { p.get_code_at(address(at)).await },
            )
            .await?;
        Ok(!code.is_empty())
    }

    pub(crate) async fn require_code(
        &self,
        contract: &'static str,
        at: EvmAddress,
    ) -> Result<(), ChainError> {
        if self.has_code(at).await? {
            Ok(())
        } else {
            Err(ChainError::NoContract { contract, address: at })
        }
    }

    /// Calls a view.
    pub(crate) async fn read<C: SolCall + Sync>(
        &self,
        what: &'static str,
        at: EvmAddress,
        call: &C,
    ) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default()
            .with_to(address(at))
            .with_input(Bytes::from(call.abi_encode()));
        let answer = self
            .0
            .rpc
            .run(what, None, |p| {
                let request = request.clone();
                async move { p.call(request).await }
            })
            .await?;
        C::abi_decode_returns(&answer)
            .map_err(|error| ChainError::BadAnswer { what, found: error.to_string() })
    }

    pub(crate) fn rpc(&self) -> &Rpc {
        &self.0.rpc
    }

    pub(crate) fn sender(&self, what: &'static str) -> Result<&Sender, ChainError> {
        self.0.sender.as_ref().ok_or(ChainError::NoKey { what })
    }

    pub(crate) fn receipt_timeout(&self) -> Duration {
        self.0.receipt_timeout
    }
}

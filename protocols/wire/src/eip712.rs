//! EIP-712 digests of what a contract may have to judge.
//!
//! Domain: name `OpenLedger`, version `1`, the chain id and the verifying contract. The types are
//! listed with their definitions in [`Typed::TYPE`]; the same strings stand in the contracts, and
//! shared vectors keep both sides equal.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, Epoch, EvmAddress, EvmSignature, Height, Keccak, LogHead, NetworkId};
use crate::keys::{KeyError, SettlementKey};
use crate::merkle::{keccak, keccak_bytes};

const DOMAIN_TYPE: &[u8] =
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

/// Where a typed signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The contract that may check it.
    pub contract: EvmAddress,
}

impl Domain {
    /// The domain separator.
    #[must_use]
    pub fn separator(&self) -> Keccak {
        keccak(&[
            &keccak_bytes(DOMAIN_TYPE).0,
            &keccak_bytes(b"OpenLedger").0,
            &keccak_bytes(b"1").0,
            &word_u128(u128::from(self.chain_id)),
            &word_address(&self.contract),
        ])
    }
}

fn word_u128(value: u128) -> [u8; 32] {
    let mut word = [0u8; 32];
    word[16..].copy_from_slice(&value.to_be_bytes());
    word
}

fn word_address(address: &EvmAddress) -> [u8; 32] {
    let mut word = [0u8; 32];
    word[12..].copy_from_slice(&address.0);
    word
}

/// A struct with an EIP-712 hash.
pub trait Typed {
    /// The type string, as in the contracts.
    const TYPE: &'static str;

    /// The fields as 32-byte words, in order.
    fn words(&self) -> Vec<[u8; 32]>;

    /// The digest that is signed.
    fn digest(&self, domain: &Domain) -> Keccak {
        let words = self.words();
        let mut parts: Vec<&[u8]> = Vec::with_capacity(words.len() + 1);
        let type_hash = keccak_bytes(Self::TYPE.as_bytes());
        parts.push(&type_hash.0);
        parts.extend(words.iter().map(|word| word.as_slice()));
        let hash = keccak(&parts);
        keccak(&[b"\x19\x01", &domain.separator().0, &hash.0])
    }

    /// Signs it.
    fn sign(&self, domain: &Domain, key: &SettlementKey) -> Result<EvmSignature, KeyError> {
        key.sign_digest(&self.digest(domain))
    }

    /// Checks that `signer` signed it.
    fn verify(
        &self,
        domain: &Domain,
        signature: &EvmSignature,
        signer: &EvmAddress,
    ) -> Result<(), KeyError> {
        let recovered = signature.recover(&self.digest(domain))?;
        if recovered == *signer { Ok(()) } else { Err(KeyError::BadSignature) }
    }
}

/// The head of the coordinator's log; two different ones of one height are slashable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// The network.
    pub network: NetworkId,
    /// Height of the last entry.
    pub height: Height,
    /// Hash after that entry.
    pub head: LogHead,
}

impl Typed for SignedHead {
    const TYPE: &'static str = "LogHead(bytes32 network,uint64 height,bytes32 head)";
    fn words(&self) -> Vec<[u8; 32]> {
        vec![self.network.0, word_u128(u128::from(self.height.0)), self.head.0]
    }
}

/// One signature under the receipts of a batch of proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptBatch {
    /// The network.
    pub network: NetworkId,
    /// Log head after the entry that lists these proofs.
    pub log_head: LogHead,
    /// Height of that entry.
    pub log_height: Height,
    /// Plain Merkle root over [`crate::merkle::receipt_leaf`].
    pub root: Keccak,
    /// Number of receipts.
    pub size: u32,
    /// The epoch in which all of them will count at the latest.
    pub count_by: Epoch,
}

impl Typed for ReceiptBatch {
    const TYPE: &'static str = "ReceiptBatch(bytes32 network,bytes32 logHead,uint64 logHeight,bytes32 root,uint32 size,uint64 countBy)";
    fn words(&self) -> Vec<[u8; 32]> {
        vec![
            self.network.0,
            self.log_head.0,
            word_u128(u128::from(self.log_height.0)),
            self.root.0,
            word_u128(u128::from(self.size)),
            word_u128(u128::from(self.count_by.0)),
        ]
    }
}

/// One signature under a batch of verdicts; the highest number about a proof holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictBatch {
    /// The network.
    pub network: NetworkId,
    /// The epoch in which they count.
    pub epoch: Epoch,
    /// Running number of verdict batches.
    pub number: u64,
    /// Plain Merkle root over [`crate::merkle::verdict_leaf`].
    pub root: Keccak,
    /// Number of verdicts.
    pub size: u32,
}

impl Typed for VerdictBatch {
    const TYPE: &'static str =
        "VerdictBatch(bytes32 network,uint64 epoch,uint64 number,bytes32 root,uint32 size)";
    fn words(&self) -> Vec<[u8; 32]> {
        vec![
            self.network.0,
            word_u128(u128::from(self.epoch.0)),
            word_u128(u128::from(self.number)),
            self.root.0,
            word_u128(u128::from(self.size)),
        ]
    }
}

/// The EVM side of a payout binding: the address agrees to be this account's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayoutBinding {
    /// The network.
    pub network: NetworkId,
    /// The account.
    pub account: AccountId,
    /// Where its OPEN goes.
    pub payout: EvmAddress,
    /// Rises with each binding of the account.
    pub nonce: u64,
}

impl Typed for PayoutBinding {
    const TYPE: &'static str =
        "PayoutBinding(bytes32 network,bytes32 account,address payout,uint64 nonce)";
    fn words(&self) -> Vec<[u8; 32]> {
        vec![
            self.network.0,
            self.account.0,
            word_address(&self.payout),
            word_u128(u128::from(self.nonce)),
        ]
    }
}

/// A payer's cumulative promise to one payee for one model, paid from their lane of the escrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// Who pays.
    pub payer: EvmAddress,
    /// Who is paid.
    pub payee: EvmAddress,
    /// Model ID whose split holds.
    pub model: Keccak,
    /// All that was ever promised to this payee for this model, in 10^-18 OPEN.
    pub value_aggregate: crate::amount::Open,
    /// Root over the call receipts behind it.
    pub receipts_root: Keccak,
}

impl Typed for Voucher {
    const TYPE: &'static str = "Voucher(address payer,address payee,bytes32 model,uint128 valueAggregate,bytes32 receiptsRoot)";
    fn words(&self) -> Vec<[u8; 32]> {
        vec![
            word_address(&self.payer),
            word_address(&self.payee),
            self.model.0,
            word_u128(self.value_aggregate.0),
            self.receipts_root.0,
        ]
    }
}

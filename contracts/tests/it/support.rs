//! A local chain with contracts on it, and trees built without the rules crate.

use std::time::Duration;

use openledger_contracts::{
    Anvil, AnvilOptions, Chain, ChainOptions, Claim, Post, Rewards, RewardsConfig, find_anvil,
};
use openledger_wire::merkle::keccak;
use openledger_wire::{Epoch, EvmAddress, Height, Keccak, LogHead, Open, RuleSetId, SettlementKey};

/// 100 OPEN per epoch.
pub(crate) const BUDGET: Open = Open(100 * Open::ONE.0);
pub(crate) const WINDOW: Duration = Duration::from_secs(600);

pub(crate) fn anvil() -> Anvil {
    let binary = find_anvil().unwrap_or_else(|error| panic!("failed to {error}"));
    Anvil::start(&AnvilOptions::new(binary)).unwrap_or_else(|error| panic!("failed to {error}"))
}

pub(crate) async fn connect(anvil: &Anvil, key: usize) -> Chain {
    let options = ChainOptions {
        rpc: vec![anvil.url().to_owned()],
        chain_id: Some(anvil.chain_id()),
        key: Some(anvil.keys()[key].clone()),
        receipt_timeout: None,
    };
    Chain::connect(options).await.unwrap()
}

pub(crate) fn config(proposer: EvmAddress, token: Option<EvmAddress>) -> RewardsConfig {
    RewardsConfig {
        token,
        proposer,
        bond: Open::ONE,
        window: WINDOW,
        epoch_budget: BUDGET,
        epoch_length: Duration::from_secs(60),
        first_epoch: Epoch(1),
    }
}

/// The rewards contract as a chain's proposer sees it, over an ERC-20 or over native currency.
pub(crate) async fn deploy(chain: &Chain, native: bool) -> Rewards {
    let me = chain.account().unwrap();
    let token = if native { None } else { Some(chain.deploy_token(me).await.unwrap().address()) };
    chain.deploy_rewards(&config(me, token)).await.unwrap()
}

/// An address that nobody has the key of; ascends with `number`.
pub(crate) fn earner(number: u8) -> EvmAddress {
    let mut bytes = [0x11; 20];
    bytes[0] = number;
    EvmAddress(bytes)
}

pub(crate) fn open(amount: u128) -> Open {
    Open(amount * Open::ONE.0)
}

/// A sum tree over four leaves: two earners between the sentinels.
pub(crate) struct SmallTree {
    leaves: [(EvmAddress, Open); 4],
}

impl SmallTree {
    pub(crate) fn new(first: (EvmAddress, Open), second: (EvmAddress, Open)) -> Self {
        let last = EvmAddress([0xff; 20]);
        Self { leaves: [(EvmAddress::ZERO, Open::ZERO), first, second, (last, Open::ZERO)] }
    }

    fn leaf(&self, index: usize) -> (Keccak, Open) {
        let (earner, amount) = self.leaves[index];
        (keccak(&[&[0], &earner.0, &amount.0.to_be_bytes()]), amount)
    }

    fn inner(left: (Keccak, Open), right: (Keccak, Open)) -> (Keccak, Open) {
        let (left_sum, right_sum) = (left.1.0.to_be_bytes(), right.1.0.to_be_bytes());
        let hash = keccak(&[&[1], &left.0.0, &left_sum, &right.0.0, &right_sum]);
        (hash, left.1.checked_add(right.1).unwrap())
    }

    fn halves(&self) -> [(Keccak, Open); 2] {
        [Self::inner(self.leaf(0), self.leaf(1)), Self::inner(self.leaf(2), self.leaf(3))]
    }

    pub(crate) fn post(&self, epoch: u64) -> Post {
        let [left, right] = self.halves();
        let (top, total) = Self::inner(left, right);
        let root = keccak(&[&[2], &top.0, &total.0.to_be_bytes(), &4u64.to_be_bytes()]);
        Post {
            epoch: Epoch(epoch),
            root,
            total,
            size: 4,
            proofs_root: keccak(&[b"proofs"]),
            call_receipts_root: keccak(&[b"receipts"]),
            attribution_root: keccak(&[b"attribution"]),
            data_commitment: keccak(&[b"data"]),
            data_size: 12_345,
            log_head: LogHead([7; 32]),
            log_height: Height(99),
            rule_set: RuleSetId([8; 32]),
            unbound: Open::ZERO,
        }
    }

    pub(crate) fn claim(&self, index: usize) -> Claim {
        let (earner, cumulative) = self.leaves[index];
        let other_half = self.halves()[1 - index / 2];
        Claim {
            earner,
            cumulative,
            index: index as u64,
            siblings: vec![self.leaf(index ^ 1), other_half],
        }
    }
}

/// A key that has no money.
pub(crate) fn poor_key() -> SettlementKey {
    SettlementKey::from_secret(&[0x42; 32]).unwrap()
}

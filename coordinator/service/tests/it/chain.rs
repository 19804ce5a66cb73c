//! The whole way on a real local chain: from a campaign to OPEN in an account's payout address.
//!
//! Needs anvil: `npm ci` in contracts/solidity, or `OPENLEDGER_ANVIL`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openledger_contracts::{
    Anvil, AnvilOptions, Chain, ChainOptions, Claim, Rewards, RewardsConfig, find_anvil,
};
use openledger_ledger::EmbeddedLedger;
use openledger_rules::Event;
use openledger_service::link::account_status;
use openledger_wire::eip712::{PayoutBinding, Typed};
use openledger_wire::identity::Binding;
use openledger_wire::{Envelope, Epoch, EvmAddress, List, Open, SettlementKey, Text};

use crate::network::Network;
use crate::node::Node;

/// A chain with a funded rewards contract whose proposer is the second key.
pub(crate) async fn deploy(anvil: &Anvil, budget: Open) -> (Chain, Rewards) {
    let options = ChainOptions {
        rpc: vec![anvil.url().to_owned()],
        chain_id: Some(anvil.chain_id()),
        key: Some(anvil.keys()[0].clone()),
        receipt_timeout: None,
    };
    let chain = Chain::connect(options).await.unwrap();
    let token = chain.deploy_token(chain.account().unwrap()).await.unwrap();
    let config = RewardsConfig {
        token: Some(token.address()),
        proposer: anvil.keys()[1].address(),
        bond: Open::ONE,
        window: Duration::from_secs(2),
        epoch_budget: budget,
        epoch_length: Duration::from_secs(1),
        first_epoch: Epoch(1),
    };
    let rewards = chain.deploy_rewards(&config).await.unwrap();
    rewards.fund(Open(budget.0 * 100)).await.unwrap();
    (chain, rewards)
}

/// The owner's binding of a payout address.
fn binding(network: &Network, number: u8, payout: &SettlementKey) -> Envelope {
    let (_, owner) = Node::keys(number);
    let id = network.profile.network();
    let account = owner.public().account();
    let typed = PayoutBinding { network: id, account, payout: payout.address(), nonce: 1 };
    let payout_signature = typed.sign(&network.profile.domain(), payout).unwrap();
    let binding = Binding { typed, payout_signature, former_signature: None };
    Envelope::seal_as_owner(&binding, id, &owner).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vested_points_become_open_in_the_payout_address() {
    let binary = find_anvil().unwrap_or_else(|error| panic!("failed to {error}"));
    let anvil = Anvil::start(&AnvilOptions::new(binary)).unwrap();
    let founding: Vec<_> = (1..=3).map(|n| Node::keys(n).0.public()).collect();
    let mut network = Network::new(&founding);
    let (_, rewards) = deploy(&anvil, network.rules.epoch_budget).await;
    network.keys.settlement = anvil.keys()[1].clone();
    network.profile.coordinator.settlement = network.keys.settlement.address();
    network.profile.chain.rpc = List::new(vec![Text::clipped(anvil.url())]).unwrap();
    network.profile.chain.rewards = rewards.address();
    network.settles = true;

    let ledger = Arc::new(EmbeddedLedger::in_memory().unwrap());
    let coordinator = network.start(ledger, "127.0.0.1:0".parse().unwrap()).await;
    let nodes: Vec<Node> = (1..=3).map(|n| Node::new(n, &network.profile)).collect();
    let links: Vec<_> = nodes.iter().map(|node| node.connect(coordinator.link_address())).collect();
    let payout = SettlementKey::from_secret(&[77; 32]).unwrap();
    let account = Node::keys(1).1.public().account();
    let deadline = Instant::now() + Duration::from_secs(90);
    let bind = Event::Bind(binding(&network, 1, &payout));
    // An address is bound to an account that has a node, so the node must have said hello.
    while coordinator.core().submit(bind.clone()).await.is_err() {
        assert!(Instant::now() < deadline, "no node of the account joined in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    network.fund(&coordinator.url(), 8).await;

    let paid = loop {
        assert!(Instant::now() < deadline, "nothing could be claimed in time");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let claimable = coordinator.claimable();
        let look =
            coordinator.core().look(move |state, _| account_status(state, account, claimable));
        let Some(claim) = look.await.unwrap().claim else { continue };
        let leaf = Claim {
            earner: claim.payout,
            cumulative: claim.cumulative,
            index: claim.index,
            siblings: claim.siblings.to_vec(),
        };
        // The next root may become good between the two; then its leaf is the one to claim.
        if rewards.claim(&leaf).await.is_ok() {
            break claim.cumulative;
        }
    };
    assert!(paid > Open::ZERO);
    let balance = rewards.balance_of(EvmAddress(payout.address().0)).await.unwrap();
    assert_eq!(balance, paid, "what the leaf says is what the address holds");
    links.iter().for_each(tokio::task::JoinHandle::abort);
    coordinator.shutdown().await.unwrap();
}

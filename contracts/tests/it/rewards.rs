//! Epochs from funding to the second claim.

use std::time::Duration;

use openledger_contracts::{Anvil, Chain, ChainError, Post, Refusal, Rewards};
use openledger_wire::{Epoch, EvmAddress, Open};

use crate::support::{BUDGET, SmallTree, WINDOW, anvil, config, connect, deploy, earner, open};

async fn good(anvil: &Anvil, rewards: &Rewards, post: &Post) {
    rewards.post(post).await.unwrap();
    anvil.advance(WINDOW).await.unwrap();
}

async fn two_epochs(native: bool) {
    let anvil = anvil();
    let proposer = connect(&anvil, 0).await;
    let rewards = deploy(&proposer, native).await;
    rewards.fund(open(1000)).await.unwrap();

    let tree = SmallTree::new((earner(1), open(10)), (earner(2), open(20)));
    let status = rewards.status().await.unwrap();
    assert_eq!((status.last_good, status.pending), (None, None));
    assert_eq!(status.bond_due, Open::ONE);
    rewards.post(&tree.post(1)).await.unwrap();
    let pending = rewards.status().await.unwrap().pending.unwrap();
    assert_eq!((pending.root, pending.total), (tree.post(1).root, open(30)));
    assert_eq!(pending.post_hash, tree.post(1).hash());

    // A stranger claims for the earner, once the window has passed and not before.
    let stranger = connect(&anvil, 1).await;
    let seen = Rewards::attach(&stranger, rewards.address()).await.unwrap();
    let early = seen.claim(&tree.claim(1)).await.unwrap_err();
    assert!(
        matches!(early, ChainError::Refused { refusal: Refusal::ProofMismatch { .. }, .. }),
        "{early}"
    );
    anvil.advance(WINDOW).await.unwrap();
    let outcome = seen.claim(&tree.claim(1)).await.unwrap();
    assert_eq!(outcome.paid.len(), 1);
    assert_eq!(outcome.paid[0].amount, open(10));
    assert_eq!(rewards.balance_of(earner(1)).await.unwrap(), open(10));
    assert_eq!(rewards.claimed(earner(1)).await.unwrap(), open(10));

    // The next epoch pays the difference; a batch passes over who has nothing left.
    let next = SmallTree::new((earner(1), open(15)), (earner(2), open(20)));
    good(&anvil, &rewards, &next.post(2)).await;
    let outcome = seen.claim_many(&[next.claim(1), next.claim(2)]).await.unwrap();
    assert_eq!(
        outcome.paid.iter().map(|paid| (paid.earner, paid.amount)).collect::<Vec<_>>(),
        [(earner(1), open(5)), (earner(2), open(20))]
    );
    assert!(outcome.refused.is_empty());
    let again = seen.claim_many(&[next.claim(1), next.claim(2)]).await.unwrap();
    assert!(again.paid.is_empty());
    let nothing = seen.claim(&next.claim(2)).await.unwrap_err();
    assert!(
        matches!(
            nothing,
            ChainError::Refused { refusal: Refusal::NothingToClaim { claimed, .. }, .. }
                if claimed == open(20)
        ),
        "{nothing}"
    );
    let status = rewards.status().await.unwrap();
    assert_eq!(status.total_claimed, open(35));
    assert_eq!(status.last_good.unwrap().epoch, Epoch(2));
    assert_eq!(status.bond_due, Open::ZERO, "one bond serves every post");
}

#[tokio::test]
async fn two_epochs_of_tokens() {
    two_epochs(false).await;
}

#[tokio::test]
async fn two_epochs_of_native_currency() {
    two_epochs(true).await;
}

#[tokio::test]
async fn posts_are_read_back_whole() {
    let anvil = anvil();
    let rewards = deploy(&connect(&anvil, 0).await, false).await;
    rewards.fund(open(10)).await.unwrap();
    let post = SmallTree::new((earner(1), open(1)), (earner(2), open(2))).post(1);
    let receipt = rewards.post(&post).await.unwrap();
    let logs = rewards.posts(Epoch(1)).await.unwrap();
    assert_eq!(logs.len(), 1);
    assert_eq!(logs[0].post, post);
    assert_eq!((logs[0].block, logs[0].transaction), (receipt.block, receipt.transaction));
    assert!(rewards.posts(Epoch(2)).await.unwrap().is_empty());
}

async fn refusal(rewards: &Rewards, post: &Post) -> Refusal {
    match rewards.post(post).await.unwrap_err() {
        ChainError::Refused { refusal, .. } => refusal,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_bad_post_is_refused_with_its_reason() {
    let anvil = anvil();
    let chain = connect(&anvil, 0).await;
    let rewards = deploy(&chain, false).await;
    let tree = SmallTree::new((earner(1), BUDGET), (earner(2), Open(1)));
    let over = BUDGET.checked_add(Open(1)).unwrap();
    assert_eq!(
        refusal(&rewards, &tree.post(1)).await,
        Refusal::OverFunded { total: over, funded: Open::ZERO }
    );
    rewards.fund(open(1000)).await.unwrap();
    assert_eq!(
        refusal(&rewards, &tree.post(1)).await,
        Refusal::OverBudget { increase: over, allowed: BUDGET }
    );
    assert_eq!(rewards.max_total(Epoch(1)).await.unwrap(), BUDGET);
    assert!(matches!(refusal(&rewards, &tree.post(9)).await, Refusal::EpochTooEarly { .. }));
    assert!(matches!(refusal(&rewards, &tree.post(0)).await, Refusal::EpochPast { .. }));

    // Fees raise the limit.
    rewards.collect_fees(Open(1)).await.unwrap();
    rewards.post(&tree.post(1)).await.unwrap();
    assert!(matches!(refusal(&rewards, &tree.post(2)).await, Refusal::RootPending { .. }));
    let other = Rewards::attach(&connect(&anvil, 3).await, rewards.address()).await.unwrap();
    assert!(matches!(refusal(&other, &tree.post(2)).await, Refusal::NotProposer { .. }));
}

#[tokio::test]
async fn a_malformed_root_dies_and_its_bond_pays_the_challenger() {
    let anvil = anvil();
    let rewards = deploy(&connect(&anvil, 0).await, false).await;
    rewards.fund(open(100)).await.unwrap();
    let tree = SmallTree::new((earner(5), open(1)), (earner(3), open(2)));
    rewards.post(&tree.post(1)).await.unwrap();

    let challenger = connect(&anvil, 2).await;
    let watched = Rewards::attach(&challenger, rewards.address()).await.unwrap();
    watched.challenge_order(&tree.claim(1), &tree.claim(2)).await.unwrap();
    assert_eq!(rewards.status().await.unwrap().pending, None);
    let me = challenger.account().unwrap();
    assert_eq!(watched.bond_balance(me).await.unwrap(), Open::ONE);
    let before = challenger.native_balance(me).await.unwrap();
    let receipt = watched.withdraw_bond().await.unwrap();
    let after = challenger.native_balance(me).await.unwrap();
    assert_eq!(after.0 + receipt.cost.0 - before.0, Open::ONE.0);
    let late = watched.challenge_end(&tree.claim(0)).await.unwrap_err();
    assert!(matches!(late, ChainError::Refused { refusal: Refusal::NoPendingRoot, .. }), "{late}");
}

#[tokio::test]
async fn the_terms_are_those_of_the_deployment() {
    let anvil = anvil();
    let chain = connect(&anvil, 0).await;
    let rewards = deploy(&chain, false).await;
    let terms = rewards.terms().await.unwrap();
    let token = rewards.token().unwrap().address();
    assert_eq!(terms.config, config(chain.account().unwrap(), Some(token)));
    let block = chain.latest_block().await.unwrap();
    assert!(terms.deployed_at_s <= block.time_s);
}

#[tokio::test]
async fn blocks_carry_randomness_and_future_ones_are_not_there() {
    let anvil = anvil();
    let chain = connect(&anvil, 0).await;
    let before = chain.latest_block().await.unwrap();
    anvil.advance(Duration::from_secs(100)).await.unwrap();
    let after = chain.latest_block().await.unwrap();
    assert!(after.time_s >= before.time_s + 100);
    let read = chain.block(after.number).await.unwrap();
    assert_eq!(read, after);
    assert_ne!(read.prevrandao, before.prevrandao);
    let future = chain.block(after.number + 50).await.unwrap_err();
    assert!(matches!(future, ChainError::NoBlock { .. }), "{future}");
}

#[tokio::test]
async fn many_tasks_may_send_with_one_connection() {
    let anvil = anvil();
    let chain: Chain = connect(&anvil, 0).await;
    let sends: Vec<_> = (1..=8u8)
        .map(|number| {
            let chain = chain.clone();
            tokio::spawn(async move { chain.transfer_native(earner(number), Open(5)).await })
        })
        .collect();
    for send in sends {
        send.await.unwrap().unwrap();
    }
    let nobody: EvmAddress = earner(1);
    assert_eq!(chain.native_balance(nobody).await.unwrap(), Open(5));
}

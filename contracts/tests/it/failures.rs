//! What is said when something is missing or wrong.

use std::time::Duration;

use openledger_contracts::{
    Anvil, AnvilError, AnvilOptions, Chain, ChainError, ChainOptions, Refusal, Rewards, Token,
    find_anvil,
};
use openledger_wire::{Epoch, Open};

use crate::support::{anvil, config, connect, earner, open, poor_key};

fn only(url: &str) -> ChainOptions {
    ChainOptions { rpc: vec![url.to_owned()], ..ChainOptions::default() }
}

#[tokio::test]
async fn a_dead_rpc_is_named() {
    let url = {
        let anvil = anvil();
        anvil.url().to_owned()
    };
    // Nothing listens any more: the process ended with its handle.
    let error = Chain::connect(only(&url)).await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn a_chain_that_goes_away_is_noticed_and_a_spare_is_used() {
    let dead = anvil();
    let spare = anvil();
    let rpc = vec![dead.url().to_owned(), spare.url().to_owned()];
    let options = ChainOptions { rpc, chain_id: Some(31337), ..ChainOptions::default() };
    let chain = Chain::connect(options).await.unwrap();
    let lone = Chain::connect(only(dead.url())).await.unwrap();
    drop(dead);
    chain.latest_block().await.unwrap();
    let error = lone.latest_block().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_chain_is_refused() {
    let anvil = anvil();
    let options = ChainOptions { chain_id: Some(1612), ..only(anvil.url()) };
    let error = Chain::connect(options).await.unwrap_err();
    assert!(
        matches!(error, ChainError::WrongChain { found: 31337, expected: 1612, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn sending_needs_a_key_and_money() {
    let anvil = anvil();
    let reader = Chain::connect(only(anvil.url())).await.unwrap();
    let error = reader.transfer_native(earner(1), Open(1)).await.unwrap_err();
    assert!(matches!(error, ChainError::NoKey { .. }), "{error}");

    let options = ChainOptions { key: Some(poor_key()), ..only(anvil.url()) };
    let poor = Chain::connect(options).await.unwrap();
    let error = poor.transfer_native(earner(1), open(1)).await.unwrap_err();
    let account = poor_key().address();
    assert!(
        matches!(&error, ChainError::InsufficientFunds { account: who, .. } if *who == account),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_without_code_is_no_contract() {
    let anvil = anvil();
    let chain = connect(&anvil, 0).await;
    let error = Rewards::attach(&chain, earner(1)).await.unwrap_err();
    assert!(matches!(error, ChainError::NoContract { .. }), "{error}");
    let error = Token::attach(&chain, earner(1)).await.unwrap_err();
    assert!(matches!(error, ChainError::NoContract { .. }), "{error}");
}

#[tokio::test]
async fn a_public_chain_wants_a_long_window() {
    let options = AnvilOptions { chain_id: 1612, ..AnvilOptions::new(find_anvil().unwrap()) };
    let anvil = Anvil::start(&options).unwrap();
    let chain = connect(&anvil, 0).await;
    assert!(!chain.is_local());
    let mut terms = config(chain.account().unwrap(), None);
    let error = chain.deploy_rewards(&terms).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::Refused {
                refusal: Refusal::DelayTooShort { given_s: 600, min_s: 86_400 },
                ..
            }
        ),
        "{error}"
    );
    terms.window = Duration::from_secs(86_400);
    let rewards = chain.deploy_rewards(&terms).await.unwrap();
    assert_eq!(rewards.max_total(Epoch(1)).await.unwrap(), Open::ZERO);
}

#[tokio::test]
async fn a_transaction_that_waits_is_found_later() {
    let block_time = Some(Duration::from_secs(3));
    let options = AnvilOptions { block_time, ..AnvilOptions::new(find_anvil().unwrap()) };
    let anvil = Anvil::start(&options).unwrap();
    let options = ChainOptions {
        key: Some(anvil.keys()[0].clone()),
        receipt_timeout: Some(Duration::from_millis(1)),
        ..only(anvil.url())
    };
    let chain = Chain::connect(options).await.unwrap();
    let error = chain.transfer_native(earner(1), Open(7)).await.unwrap_err();
    let ChainError::NotMined { transaction, .. } = error else { panic!("{error}") };
    chain.wait_receipt(transaction, Duration::from_secs(60)).await.unwrap();
    assert_eq!(chain.native_balance(earner(1)).await.unwrap(), Open(7));
}

#[test]
fn a_missing_or_broken_anvil_is_named() {
    let start = |binary: &str| Anvil::start(&AnvilOptions::new(binary.into())).unwrap_err();
    let error = start("/nowhere/anvil");
    assert!(matches!(error, AnvilError::Spawn { .. }), "{error}");
    let error = start("/bin/false");
    assert!(matches!(error, AnvilError::Ended { .. }), "{error}");
}

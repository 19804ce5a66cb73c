//! A voucher from deposit to the attribution pool.

use std::time::Duration;

use openledger_contracts::{ChainError, Escrow, EscrowConfig, Refusal};
use openledger_wire::eip712::{Typed, Voucher};
use openledger_wire::merkle::keccak;
use openledger_wire::{EvmAddress, Open};

use crate::support::{anvil, connect, deploy, earner, open, poor_key};

#[tokio::test]
async fn a_voucher_signed_by_the_wire_crate_is_collected_once() {
    let anvil = anvil();
    let payer = connect(&anvil, 0).await;
    let rewards = deploy(&payer, false).await;
    let treasury = earner(9);
    let config = EscrowConfig {
        token: rewards.token().map(|token| token.address()),
        pool: rewards.address(),
        treasury,
        operator_bps: 6000,
        protocol_bps: 500,
        thaw: Duration::from_secs(3600),
    };
    let escrow = payer.deploy_escrow(&config).await.unwrap();
    let payee: EvmAddress = earner(4);
    escrow.deposit(payee, open(100)).await.unwrap();

    let voucher = Voucher {
        payer: payer.account().unwrap(),
        payee,
        model: keccak(&[b"model"]),
        value_aggregate: open(10),
        receipts_root: keccak(&[b"receipts"]),
    };
    let key = &anvil.keys()[0];
    let signature = voucher.sign(&escrow.domain(), key).unwrap();
    let anyone = Escrow::attach(&connect(&anvil, 1).await, escrow.address()).await.unwrap();
    anyone.collect(&voucher, &signature).await.unwrap();
    assert_eq!(rewards.balance_of(payee).await.unwrap(), open(6));
    assert_eq!(rewards.balance_of(treasury).await.unwrap(), Open(Open::ONE.0 / 2));
    assert_eq!(rewards.status().await.unwrap().fees_collected, Open(7 * Open::ONE.0 / 2));
    assert_eq!(escrow.lane(voucher.payer, payee).await.unwrap().balance, open(90));
    assert_eq!(escrow.collected(voucher.payer, payee, voucher.model).await.unwrap(), open(10));

    let again = anyone.collect(&voucher, &signature).await.unwrap_err();
    assert!(
        matches!(again, ChainError::Refused { refusal: Refusal::NothingToCollect { .. }, .. }),
        "{again}"
    );
    let forged = Voucher { value_aggregate: open(11), ..voucher };
    let signature = forged.sign(&escrow.domain(), &poor_key()).unwrap();
    let refused = anyone.collect(&forged, &signature).await.unwrap_err();
    assert!(
        matches!(
            refused,
            ChainError::Refused { refusal: Refusal::NotASigner { signer, .. }, .. }
                if signer == poor_key().address()
        ),
        "{refused}"
    );

    // An authorised signer speaks for the payer; what is thawed comes back after the delay.
    escrow.authorise_signer(poor_key().address()).await.unwrap();
    anyone.collect(&forged, &signature).await.unwrap();
    escrow.revoke_signer(poor_key().address()).await.unwrap();
    escrow.thaw(payee, open(89)).await.unwrap();
    assert!(escrow.withdraw(payee).await.is_err());
    anvil.advance(Duration::from_secs(3600)).await.unwrap();
    escrow.withdraw(payee).await.unwrap();
    assert_eq!(escrow.lane(voucher.payer, payee).await.unwrap().balance, Open::ZERO);
}

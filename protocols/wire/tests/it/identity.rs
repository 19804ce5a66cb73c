//! Who may speak for whom.

use openledger_wire::eip712::Typed;
use openledger_wire::identity::{
    Binding, Delegation, IdentityError, open_binding, open_registration,
};
use openledger_wire::{Envelope, EnvelopeError, UnixMs, limits};

use crate::samples::{self, DAY_MS, GENESIS};

fn register(delegation: &Envelope) -> Result<openledger_wire::identity::Member, IdentityError> {
    let envelope = samples::as_node(&samples::registration_with(delegation.clone()));
    open_registration(&envelope, samples::network(), GENESIS.plus_ms(DAY_MS))
}

#[test]
fn a_delegated_node_joins_for_its_owner() {
    let member = register(&samples::as_owner(&samples::delegation())).unwrap();
    assert_eq!(member.node, samples::node().public());
    assert_eq!(member.owner, samples::owner().public());
    assert_eq!(member.account, samples::owner().public().account());
    assert_eq!(member.delegation, samples::delegation());
}

#[test]
fn a_delegation_holds_from_its_start_to_before_its_end() {
    let delegation = samples::delegation();
    assert!(delegation.holds_at(delegation.not_before));
    assert!(!delegation.holds_at(UnixMs(delegation.not_before.0 - 1)));
    assert!(delegation.holds_at(UnixMs(delegation.expires.0 - 1)));
    assert!(!delegation.holds_at(delegation.expires));
}

#[test]
fn expired_early_backward_and_endless_delegations_are_refused() {
    let good = samples::delegation();
    let now = GENESIS.plus_ms(DAY_MS);
    let wrong = [
        Delegation { expires: now, ..good.clone() },
        Delegation { not_before: now.plus_ms(1), ..good.clone() },
        Delegation { not_before: now.plus_ms(1), expires: now, ..good.clone() },
        Delegation { expires: GENESIS.plus_ms(limits::DELEGATION_MS_MAX + 1), ..good.clone() },
        Delegation { not_before: UnixMs(0), expires: UnixMs(u64::MAX), ..good.clone() },
    ];
    for delegation in wrong {
        let error = register(&samples::as_owner(&delegation)).unwrap_err();
        assert!(matches!(error, IdentityError::NotValidNow { .. }), "{error}");
        assert!(error.to_string().contains("renew"), "{error}");
    }
    let longest = Delegation { expires: GENESIS.plus_ms(limits::DELEGATION_MS_MAX), ..good };
    assert!(register(&samples::as_owner(&longest)).is_ok());
}

#[test]
fn a_delegation_of_another_node_is_refused() {
    let other = Delegation { node: samples::other_node().public(), ..samples::delegation() };
    let error = register(&samples::as_owner(&other)).unwrap_err();
    assert!(matches!(error, IdentityError::OtherNode { .. }), "{error}");
}

#[test]
fn a_delegation_of_another_network_or_kind_is_refused() {
    let there = samples::public().network();
    let elsewhere =
        Envelope::seal_as_owner(&samples::delegation(), there, &samples::owner()).unwrap();
    let error = register(&elsewhere).unwrap_err();
    assert!(
        matches!(error, IdentityError::Envelope(EnvelopeError::OtherNetwork { .. })),
        "{error}"
    );
    let error = register(&samples::as_owner(&samples::revocation())).unwrap_err();
    assert!(matches!(error, IdentityError::Envelope(EnvelopeError::OtherDomain { .. })), "{error}");
}

/// A node that delegates itself is an account of its own, never one of somebody else.
#[test]
fn a_node_that_signs_its_own_delegation_joins_another_account() {
    let member = register(&samples::as_node(&samples::delegation())).unwrap();
    assert_ne!(member.account, samples::owner().public().account());
}

fn bind(binding: &Binding) -> Result<Binding, IdentityError> {
    let envelope = samples::as_owner(binding);
    open_binding(&envelope, samples::network(), &samples::devnet().domain())
}

#[test]
fn a_binding_needs_the_account_the_network_and_the_address() {
    let good = samples::binding();
    assert_eq!(bind(&good).unwrap(), good);
    let mut other_account = good.clone();
    other_account.typed.account.0[0] ^= 1;
    assert!(matches!(bind(&other_account), Err(IdentityError::OtherAccount)));
    let mut other_network = good.clone();
    other_network.typed.network = samples::public().network();
    assert!(matches!(bind(&other_network), Err(IdentityError::OtherAccount)));
    let mut redirected = good.clone();
    redirected.typed.payout = samples::settlement().address();
    assert!(matches!(bind(&redirected), Err(IdentityError::Payout(_))));
    let mut replayed = good.clone();
    replayed.typed.nonce += 1;
    assert!(matches!(bind(&replayed), Err(IdentityError::Payout(_))));
    let mut zero = good;
    zero.payout_signature.0 = [0; 65];
    assert!(matches!(bind(&zero), Err(IdentityError::Payout(_))));
}

#[test]
fn a_binding_for_another_chain_or_by_another_owner_is_refused() {
    let mut elsewhere = samples::binding();
    let domain = samples::public().domain();
    elsewhere.payout_signature = elsewhere.typed.sign(&domain, &samples::payout()).unwrap();
    assert!(matches!(bind(&elsewhere), Err(IdentityError::Payout(_))));
    let stolen = samples::as_node(&samples::binding());
    let opened = open_binding(&stolen, samples::network(), &samples::devnet().domain());
    assert!(matches!(opened, Err(IdentityError::OtherAccount)));
}

/// EIP-2: the mirrored signature is as valid to the curve and must not be to us.
#[test]
fn a_mirrored_or_mislabelled_payout_signature_is_refused() {
    let mut mirrored = samples::binding();
    let order =
        hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap();
    let mut borrow = 0i16;
    for at in (0..32).rev() {
        let digit = i16::from(order[at]) - i16::from(mirrored.payout_signature.0[32 + at]) - borrow;
        borrow = i16::from(digit < 0);
        mirrored.payout_signature.0[32 + at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    mirrored.payout_signature.0[64] ^= 27 ^ 28;
    assert!(matches!(bind(&mirrored), Err(IdentityError::Payout(_))));
    for v in [0, 1, 26, 29, 255] {
        let mut odd = samples::binding();
        odd.payout_signature.0[64] = v;
        assert!(matches!(bind(&odd), Err(IdentityError::Payout(_))), "v = {v}");
    }
}

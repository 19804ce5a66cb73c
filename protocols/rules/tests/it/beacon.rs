//! Beacons against recorded rounds of drand's quicknet, and what must be refused.

use openledger_rules::beacon::{BeaconError, drand_round_after, stub_value, verify};
use openledger_wire::log::{Beacon, BeaconProof};
use openledger_wire::profile::BeaconSource;
use openledger_wire::{BeaconValue, Blob, Keccak, List, NetworkId, Round, Text, UnixMs};

/// Chain 52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971.
const QUICKNET_KEY: &str = "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a";
const GENESIS_S: u64 = 1_692_803_367;

/// Round, signature and randomness as drand's relays serve them.
const RECORDED: [(u64, &str, &str); 3] = [
    (
        123,
        "b75c69d0b72a5d906e854e808ba7e2accb1542ac355ae486d591aa9d43765482e26cd02df835d3546d23c4b13e0dfc92",
        "fb8f7bc29bf24db51871ec8c79f3a1e4bd0557bc0dfcee9ed1d924e69d1c60dc",
    ),
    (
        1_000,
        "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
        "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd",
    ),
    (
        1_001,
        "b33bf3667cbd5a82de3a24b4e0e9fe5513cc1a0e840368c6e31f5fcfa79bea03f73896b25883abf2853d10337fb8fa41",
        "b0a591ad1b9002cfc372ac6e30abd3da8d3088d4caae026961743474fb94235f",
    ),
];

const NETWORK: NetworkId = NetworkId([7; 32]);
const PUBLIC_CHAIN: u64 = 1;

fn quicknet() -> BeaconSource {
    BeaconSource::Drand {
        public_key: Text::clipped(QUICKNET_KEY),
        genesis_s: GENESIS_S,
        period_s: 3,
        relays: List::default(),
    }
}

fn due_ms(round: u64) -> u64 {
    (GENESIS_S + (round - 1) * 3) * 1_000
}

fn recorded(at: usize) -> (Beacon, u64) {
    let (drand_round, signature, randomness) = RECORDED[at];
    let signature = Blob::new(hex::decode(signature).unwrap()).unwrap();
    let proof = BeaconProof::Drand { round: drand_round, signature };
    (Beacon { round: Round(5), value: randomness.parse().unwrap(), proof }, drand_round)
}

fn check(beacon: &Beacon, sealed_at: u64) -> Result<(), BeaconError> {
    verify(&quicknet(), PUBLIC_CHAIN, NETWORK, beacon, UnixMs(sealed_at))
}

#[test]
fn recorded_rounds_verify_for_every_seal_before_them_and_no_other() {
    for at in 0..RECORDED.len() {
        let (beacon, round) = recorded(at);
        let due = due_ms(round);
        for sealed_at in [due - 3_000, due - 1_500, due - 1] {
            assert_eq!(check(&beacon, sealed_at), Ok(()), "round {round}");
        }
        // Sealed when it was already known, or so early that an earlier round was the first.
        for sealed_at in [due, due + 1, due - 3_001] {
            let refused = check(&beacon, sealed_at).unwrap_err();
            assert!(
                matches!(refused, BeaconError::OtherDrandRound { found, .. } if found == round)
            );
        }
    }
}

#[test]
fn a_later_valid_round_cannot_be_picked_instead() {
    let (beacon, _) = recorded(2);
    let refused = check(&beacon, due_ms(1_000) - 1).unwrap_err();
    assert!(matches!(refused, BeaconError::OtherDrandRound { expected: 1_000, found: 1_001, .. }));
    let text = refused.to_string();
    assert!(text.contains("1001") && text.contains("1000"), "{text}");
}

#[test]
fn signatures_of_other_rounds_and_damaged_ones_are_refused() {
    let (beacon, round) = recorded(1);
    let sealed_at = due_ms(round) - 1;
    let (other, _) = recorded(2);
    let BeaconProof::Drand { signature: of_other, .. } = other.proof else { unreachable!() };
    let BeaconProof::Drand { signature, .. } = &beacon.proof else { unreachable!() };
    let mut damaged = signature.to_vec();
    damaged[20] ^= 1;
    let short = signature[..47].to_vec();
    for bad in [of_other.into_vec(), damaged, short, Vec::new(), vec![0; 96]] {
        let proof = BeaconProof::Drand { round, signature: Blob::new(bad).unwrap() };
        let refused = check(&Beacon { proof, ..beacon.clone() }, sealed_at).unwrap_err();
        assert_eq!(refused, BeaconError::BadSignature { round: Round(5), drand_round: round });
    }
}

#[test]
fn the_value_must_follow_from_the_signature() {
    let (beacon, round) = recorded(1);
    let wrong = Beacon { value: BeaconValue([1; 32]), ..beacon };
    let refused = check(&wrong, due_ms(round) - 1).unwrap_err();
    assert!(matches!(refused, BeaconError::OtherValue { .. }));
}

#[test]
fn unusable_drand_parameters_are_named() {
    let (beacon, round) = recorded(1);
    for (key, period_s) in [("00", 3), (&QUICKNET_KEY[..190], 3), (QUICKNET_KEY, 0)] {
        let source = BeaconSource::Drand {
            public_key: Text::clipped(key),
            genesis_s: GENESIS_S,
            period_s,
            relays: List::default(),
        };
        let sealed_at = UnixMs(due_ms(round) - 1);
        let refused = verify(&source, PUBLIC_CHAIN, NETWORK, &beacon, sealed_at).unwrap_err();
        assert!(matches!(refused, BeaconError::BadSource { .. }), "{refused}");
    }
}

#[test]
fn drand_rounds_are_counted_from_genesis() {
    let source = quicknet();
    let after = |ms| drand_round_after(&source, UnixMs(ms));
    assert_eq!(after(0), 1);
    assert_eq!(after(GENESIS_S * 1_000 - 1), 1);
    assert_eq!(after(GENESIS_S * 1_000), 2, "round 1 is out at genesis, so it was known");
    assert_eq!(after(GENESIS_S * 1_000 + 2_999), 2);
    assert_eq!(after(GENESIS_S * 1_000 + 3_000), 3);
    for round in [2, 3, 1_000, 30_000_000] {
        assert_eq!(after(due_ms(round) - 1), round);
        assert_eq!(after(due_ms(round)), round + 1);
    }
    assert_eq!(drand_round_after(&BeaconSource::Stub, UnixMs(9)), 0);
    assert!(after(u64::MAX) > 0);
}

#[test]
fn the_stub_holds_on_local_chains_only_and_for_one_network_and_round() {
    let beacon =
        Beacon { round: Round(5), value: stub_value(NETWORK, Round(5)), proof: BeaconProof::Stub };
    let stub = BeaconSource::Stub;
    let check = |chain, network, beacon: &Beacon| verify(&stub, chain, network, beacon, UnixMs(0));
    assert_eq!(check(31_337, NETWORK, &beacon), Ok(()));
    let refused = check(PUBLIC_CHAIN, NETWORK, &beacon).unwrap_err();
    assert_eq!(refused, BeaconError::NotLocal { round: Round(5), chain_id: 1 });
    assert!(check(31_337, NetworkId([8; 32]), &beacon).is_err());
    assert!(check(31_337, NETWORK, &Beacon { round: Round(6), ..beacon }).is_err());
}

#[test]
fn a_proof_of_another_kind_is_refused_by_name() {
    let (beacon, _) = recorded(0);
    let at = UnixMs(0);
    let refused = verify(&BeaconSource::Stub, 31_337, NETWORK, &beacon, at).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("kind drand") && text.contains("names stub"), "{text}");
    let stub = Beacon { proof: BeaconProof::Stub, ..beacon };
    assert!(verify(&quicknet(), 31_337, NETWORK, &stub, at).is_err());
    assert!(verify(&BeaconSource::Prevrandao, 31_337, NETWORK, &stub, at).is_err());
}

#[test]
fn prevrandao_is_checked_in_shape() {
    let check = |value: [u8; 32], hash: [u8; 32]| {
        let proof = BeaconProof::Prevrandao { number: 9, hash: Keccak(hash) };
        let beacon = Beacon { round: Round(5), value: BeaconValue(value), proof };
        verify(&BeaconSource::Prevrandao, PUBLIC_CHAIN, NETWORK, &beacon, UnixMs(0))
    };
    assert_eq!(check([3; 32], [4; 32]), Ok(()));
    assert!(matches!(check([0; 32], [4; 32]), Err(BeaconError::Empty { .. })));
    assert!(matches!(check([3; 32], [0; 32]), Err(BeaconError::Empty { .. })));
}

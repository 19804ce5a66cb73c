//! Public randomness of a round: is this the one value that it may be?
//!
//! The beacon must come after the seal of the round, so that nobody knew it when nodes and tasks
//! were fixed, and it must be the *first* one after, so that nobody picks among many (THREATS 3).
//! drand's quicknet is verified here from its BLS signature alone. A prevrandao can only be
//! checked in shape: the shell asks the chain for the block. The devnet's stand-in is a hash, and
//! refused wherever money is real.
//!
//! That `sealed_at` was not backdated is not shown here: the head of the seal is gossiped and
//! signed, and nodes refuse a seal whose head came after the beacon.

use drand_verify::{G2PubkeyRfc, Pubkey, derive_randomness};
use openledger_wire::log::{Beacon, BeaconProof};
use openledger_wire::profile::{BeaconSource, LOCAL_CHAINS};
use openledger_wire::{BeaconValue, Keccak, NetworkId, Round, UnixMs, tagged_hash};
use thiserror::Error;

/// Why a beacon was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BeaconError {
    /// The proof is of another kind than the network's source.
    #[error(
        "verify the beacon of round {round}: its proof is of kind {found}, the network profile names {expected}; fetch it from the profile's source"
    )]
    OtherSource {
        /// The round.
        round: Round,
        /// The kind named in the profile.
        expected: &'static str,
        /// The kind of the proof.
        found: &'static str,
    },
    /// The profile's drand parameters are unusable.
    #[error(
        "verify the beacon of round {round}: {what} in the network profile is unusable; get the profile from its publisher again"
    )]
    BadSource {
        /// The round.
        round: Round,
        /// Which parameter.
        what: &'static str,
    },
    /// Not the first drand round after the seal.
    #[error(
        "verify the beacon of round {round}: it is drand round {found}, but the first one after the seal at {sealed_at} ms is {expected}; use that one"
    )]
    OtherDrandRound {
        /// The round.
        round: Round,
        /// The drand round that must be used.
        expected: u64,
        /// The drand round offered.
        found: u64,
        /// When the round was sealed.
        sealed_at: UnixMs,
    },
    /// drand did not sign this.
    #[error(
        "verify the beacon of round {round}: drand's key did not sign round {drand_round} with this signature; fetch it from another relay"
    )]
    BadSignature {
        /// The round.
        round: Round,
        /// The drand round offered.
        drand_round: u64,
    },
    /// The value does not follow from the proof.
    #[error(
        "verify the beacon of round {round}: value {found} does not follow from its proof, {expected} does; derive it anew"
    )]
    OtherValue {
        /// The round.
        round: Round,
        /// What follows from the proof.
        expected: BeaconValue,
        /// What was offered.
        found: BeaconValue,
    },
    /// All zero where a chain has randomness.
    #[error(
        "verify the beacon of round {round}: {what} is all zero; read the block again from a node of the settlement chain"
    )]
    Empty {
        /// The round.
        round: Round,
        /// What is empty.
        what: &'static str,
    },
    /// The stand-in on a chain where money is real.
    #[error(
        "verify the beacon of round {round}: the stub beacon is allowed on local chains only, this is chain {chain_id}; use drand or prevrandao"
    )]
    NotLocal {
        /// The round.
        round: Round,
        /// The chain.
        chain_id: u64,
    },
}

/// Checks the beacon of a round that was sealed at `sealed_at` (the `at` of its seal's entry).
///
/// That `beacon.round` is the round in question is the caller's to check.
pub fn verify(
    source: &BeaconSource,
    chain_id: u64,
    network: NetworkId,
    beacon: &Beacon,
    sealed_at: UnixMs,
) -> Result<(), BeaconError> {
    match (source, &beacon.proof) {
        (
            BeaconSource::Drand { public_key, period_s, .. },
            BeaconProof::Drand { round, signature },
        ) => {
            if *period_s == 0 {
                let what = "drand's period of 0 s";
                return Err(BeaconError::BadSource { round: beacon.round, what });
            }
            let expected = drand_round_after(source, sealed_at);
            verify_drand(public_key, beacon, (*round, signature), (expected, sealed_at))
        }
        (BeaconSource::Prevrandao, BeaconProof::Prevrandao { hash, .. }) => {
            verify_prevrandao(beacon, hash)
        }
        (BeaconSource::Stub, BeaconProof::Stub) => verify_stub(chain_id, network, beacon),
        (source, proof) => Err(BeaconError::OtherSource {
            round: beacon.round,
            expected: source_kind(source),
            found: proof_kind(proof),
        }),
    }
}

/// The first drand round whose time is after `t`: round `r` is due at
/// `genesis + (r - 1) * period`. 0, which is no round, for other sources.
#[must_use]
pub fn drand_round_after(source: &BeaconSource, t: UnixMs) -> u64 {
    let BeaconSource::Drand { genesis_s, period_s, .. } = source else { return 0 };
    // Saturation only matters for a profile that starts in the year 500 million.
    let genesis_ms = genesis_s.saturating_mul(1_000);
    let Some(since_genesis_ms) = t.0.checked_sub(genesis_ms) else { return 1 };
    let period_ms = period_s.saturating_mul(1_000).max(1);
    since_genesis_ms.checked_div(period_ms).unwrap_or(0).saturating_add(2)
}

/// The devnet's stand-in for a round of a network.
#[must_use]
pub fn stub_value(network: NetworkId, round: Round) -> BeaconValue {
    let parts: [&[u8]; 2] = [&network.0, &round.0.to_be_bytes()];
    BeaconValue(tagged_hash("openledger stub beacon v1", &parts))
}

/// `(drand round, signature)` as offered against `(drand round, seal time)` as expected.
fn verify_drand(
    public_key: &str,
    beacon: &Beacon,
    (drand_round, signature): (u64, &[u8]),
    (expected, sealed_at): (u64, UnixMs),
) -> Result<(), BeaconError> {
    let round = beacon.round;
    if drand_round != expected {
        return Err(BeaconError::OtherDrandRound {
            round,
            expected,
            found: drand_round,
            sealed_at,
        });
    }
    let bad_key = BeaconError::BadSource { round, what: "drand's public key" };
    let digits = public_key.strip_prefix("0x").unwrap_or(public_key);
    let mut key = [0u8; 96];
    hex::decode_to_slice(digits, &mut key).map_err(|_| bad_key.clone())?;
    let key = G2PubkeyRfc::from_fixed(key).map_err(|_| bad_key)?;
    // Quicknet is unchained: no previous signature goes into the message.
    if !key.verify(drand_round, b"", signature).unwrap_or(false) {
        return Err(BeaconError::BadSignature { round, drand_round });
    }
    same_value(beacon, BeaconValue(derive_randomness(signature)))
}

/// Shape only: that the block exists, is final and carries this value is asked of the chain.
fn verify_prevrandao(beacon: &Beacon, hash: &Keccak) -> Result<(), BeaconError> {
    let empty = |what| Err(BeaconError::Empty { round: beacon.round, what });
    if *hash == Keccak::ZERO {
        return empty("the block's hash");
    }
    if beacon.value == BeaconValue::ZERO {
        return empty("the block's prevrandao");
    }
    Ok(())
}

fn verify_stub(chain_id: u64, network: NetworkId, beacon: &Beacon) -> Result<(), BeaconError> {
    if !LOCAL_CHAINS.contains(&chain_id) {
        return Err(BeaconError::NotLocal { round: beacon.round, chain_id });
    }
    same_value(beacon, stub_value(network, beacon.round))
}

fn same_value(beacon: &Beacon, expected: BeaconValue) -> Result<(), BeaconError> {
    if beacon.value == expected {
        return Ok(());
    }
    Err(BeaconError::OtherValue { round: beacon.round, expected, found: beacon.value })
}

const fn source_kind(source: &BeaconSource) -> &'static str {
    match source {
        BeaconSource::Drand { .. } => "drand",
        BeaconSource::Prevrandao => "prevrandao",
        BeaconSource::Stub => "stub",
    }
}

const fn proof_kind(proof: &BeaconProof) -> &'static str {
    match proof {
        BeaconProof::Drand { .. } => "drand",
        BeaconProof::Prevrandao { .. } => "prevrandao",
        BeaconProof::Stub => "stub",
    }
}

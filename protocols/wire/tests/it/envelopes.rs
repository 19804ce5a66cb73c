//! Signed envelopes: every byte is covered, nothing replays elsewhere.

use openledger_wire::gossip::{Announcement, ProofAt};
use openledger_wire::identity::{Binding, Delegation, Registration, Revocation};
use openledger_wire::proof::{Commit, Proof};
use openledger_wire::{Envelope, EnvelopeError, NetworkId, Signable, limits};
use proptest::prelude::*;

use crate::samples;

/// Opens an envelope as the statement of that name.
fn open(name: &str, envelope: &Envelope, network: NetworkId) -> Result<(), EnvelopeError> {
    fn as_a<T: Signable>(envelope: &Envelope, network: NetworkId) -> Result<(), EnvelopeError> {
        envelope.open::<T>(network).map(|opened| assert_eq!(opened.id, envelope.id()))
    }
    match name {
        "delegation" => as_a::<Delegation>(envelope, network),
        "revocation" => as_a::<Revocation>(envelope, network),
        "binding" => as_a::<Binding>(envelope, network),
        "registration" => as_a::<Registration>(envelope, network),
        "commit" => as_a::<Commit>(envelope, network),
        "proof" => as_a::<Proof>(envelope, network),
        "announcement" => as_a::<Announcement>(envelope, network),
        "proof at" => as_a::<ProofAt>(envelope, network),
        other => panic!("no statement {other}"),
    }
}

/// Whether bytes are a good envelope of that statement here.
fn accepted(name: &str, bytes: &[u8]) -> bool {
    Envelope::from_bytes(bytes).is_ok_and(|e| open(name, &e, samples::network()).is_ok())
}

#[test]
fn a_statement_opens_only_as_itself_and_only_on_its_network() {
    let there = samples::public().network();
    for (name, envelope) in samples::envelopes() {
        open(name, &envelope, samples::network()).unwrap();
        let replayed = open(name, &envelope, there).unwrap_err();
        assert!(matches!(replayed, EnvelopeError::OtherNetwork { .. }), "{name}: {replayed}");
        assert!(replayed.to_string().contains(&there.to_string()), "{replayed}");
        for (other, _) in samples::envelopes().iter().filter(|(other, _)| *other != name) {
            let error = open(other, &envelope, samples::network()).unwrap_err();
            assert!(matches!(error, EnvelopeError::OtherDomain { .. }), "{name} as {other}");
        }
    }
}

#[test]
fn any_flipped_bit_of_any_statement_is_refused() {
    for (name, envelope) in samples::envelopes() {
        let bytes = envelope.to_bytes().unwrap();
        assert!(accepted(name, &bytes));
        // Every bit of the shortest statement, one bit of every byte of the others.
        let bits = if name == "revocation" { 0..8 } else { 0..1 };
        for at in 0..bytes.len() {
            for bit in bits.clone() {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << ((at + bit) % 8);
                assert!(!accepted(name, &altered), "{name}: byte {at}, bit {}", (at + bit) % 8);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn altered_envelopes_are_refused(which in 0usize..8, edits in prop::collection::vec(any::<(u16, u8)>(), 1..8)) {
        let (name, envelope) = samples::envelopes().swap_remove(which);
        let bytes = envelope.to_bytes().unwrap();
        let mut altered = bytes.clone();
        for (at, byte) in edits {
            let at = usize::from(at) % altered.len();
            altered[at] = byte;
        }
        prop_assert!(altered == bytes || !accepted(name, &altered));
    }

    #[test]
    fn arbitrary_bytes_are_no_envelope(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!accepted("commit", &bytes));
    }

    #[test]
    fn signed_rubbish_is_refused_as_malformed(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let envelope = samples::sealed_raw("commit", &body, &samples::node());
        let error = open("commit", &envelope, samples::network()).unwrap_err();
        prop_assert!(matches!(error, EnvelopeError::Decode(_)), "{}", error);
    }
}

#[test]
fn a_raw_seal_of_good_bytes_is_the_same_envelope() {
    let commit = samples::works()[0].commit();
    let raw = samples::sealed_raw("commit", &samples::bytes_of(&commit), &samples::node());
    assert_eq!(raw, samples::as_node(&commit));
}

#[test]
fn a_signed_body_over_its_bound_is_refused() {
    let body = vec![0; Commit::BYTES_MAX + 1];
    let envelope = samples::sealed_raw("commit", &body, &samples::node());
    let error = open("commit", &envelope, samples::network()).unwrap_err();
    assert!(error.to_string().contains("limit of 256"), "{error}");
    let whole = vec![0; limits::ENVELOPE_MAX + 513];
    assert!(Envelope::from_bytes(&whole).unwrap_err().to_string().contains("more than the limit"));
}

#[test]
fn sealing_what_is_too_long_fails_where_it_is_made() {
    let delegation = samples::sealed_raw("delegation", &[0; 9_000], &samples::node());
    let registration = samples::registration_with(delegation);
    let error = Envelope::seal(&registration, samples::network(), &samples::node()).unwrap_err();
    assert!(error.to_string().contains("limit 8192"), "{error}");
}

#[test]
fn the_largest_proof_fits_its_envelope_and_the_envelope_its_bound() {
    let mut proof = samples::works()[0].proof.clone();
    let bytes = vec![0xab; limits::PROOF_BODY_MAX];
    proof.body.bytes = openledger_wire::Blob::new(bytes).unwrap();
    let envelope = samples::as_node(&proof).to_bytes().unwrap();
    assert!(Envelope::from_bytes(&envelope).is_ok());
    assert!(accepted("proof", &envelope));
}

//! Lies about lengths: what a message announces is not what gets allocated.
//!
//! The checks run in a process of their own whose address space is limited, so that an allocation
//! on a stranger's word ends it.

use std::process::Command;

use openledger_wire::identity::{open_binding, open_registration};
use openledger_wire::profile::Profile;
use openledger_wire::{Envelope, Prose, Text, UnixMs, decode, encode};
use proptest::prelude::*;

use crate::{kinds, samples};

/// Set in the limited process.
const INSIDE: &str = "OPENLEDGER_HOSTILE_LENGTHS";
/// Address space of the limited process in kB: the test program itself, and a little.
const SPACE_KB: u32 = 1_024 * 1_024;

#[test]
fn announced_lengths_are_not_believed() {
    if std::env::var_os(INSIDE).is_some() {
        replace_every_length();
        return;
    }
    let this = std::env::current_exe().unwrap();
    let line = format!(
        "ulimit -v {SPACE_KB} && exec \"$0\" --exact hostile::announced_lengths_are_not_believed --test-threads 1"
    );
    let output =
        Command::new("sh").arg("-c").arg(line).arg(this).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// Puts a huge length wherever a string, list or map may start, in a value of every variant.
fn replace_every_length() {
    for kind in kinds::all() {
        for variant in 0..kind.variants() {
            let cbor = kind.draw(7, variant).unwrap().cbor;
            for (at, head) in
                cbor.iter().enumerate().filter(|(_, head)| (2..6).contains(&(*head >> 5)))
            {
                for length in [70_000u64, 1 << 24, 1 << 32, 1 << 60, u64::MAX] {
                    let lie = [&[(head & 0xe0) | 27][..], &length.to_be_bytes()].concat();
                    let bytes = [&cbor[..at], &lie, &cbor[at + 1..]].concat();
                    if let Ok(again) = kind.again(&bytes) {
                        assert_eq!(again, bytes, "{} has two encodings", kind.name);
                    }
                }
            }
        }
    }
}

#[test]
fn nesting_is_bounded() {
    for kind in kinds::all() {
        for head in [0x81, 0xa1, 0xc1, 0xd8, 0x9f, 0xbf, 0x5f] {
            let deep = vec![head; kind.max.min(200_000)];
            assert!(kind.again(&deep).is_err(), "{} of {head:#x}", kind.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn checks_of_identity_end_in_an_error_whatever_is_signed(
        body in prop::collection::vec(any::<u8>(), 0..300),
        domain in prop::sample::select(vec!["registration", "binding", "delegation"]),
    ) {
        let envelope = samples::sealed_raw(domain, &body, &samples::node());
        let bytes = envelope.to_bytes().unwrap();
        let envelope = Envelope::from_bytes(&bytes).unwrap();
        let (network, chain) = (samples::network(), samples::devnet().domain());
        prop_assert!(open_registration(&envelope, network, UnixMs(0)).is_err());
        prop_assert!(open_binding(&envelope, network, &chain).is_err());
    }

    #[test]
    fn arbitrary_texts_are_no_profile(text in "\\PC{0,200}(# signed )?\\PC{0,80}") {
        prop_assert!(Profile::open(&text).is_err());
    }
}

#[test]
fn prose_holds_any_characters_within_its_bound_and_shows_none() {
    let said = "line\n\ttab \u{0}\u{1b}[2J \u{202e}\u{1f600}";
    let prose = Prose::<64>::new(said).unwrap();
    assert!(Text::<64>::new(said).is_err(), "names hold none of these");
    let bytes = encode(&prose).unwrap();
    assert_eq!(decode::<Prose<64>>(&bytes, 128).unwrap(), prose);
    assert!(decode::<Prose<8>>(&bytes, 128).is_err());
    assert_eq!(format!("{prose:?}"), format!("{} bytes of text", said.len()));
    assert_eq!(&*Prose::<5>::clipped("abcd\u{e4}"), "abcd", "cut between characters");
    assert_eq!(Prose::<4>::new("abcde").unwrap_err().len, 5);
    assert_eq!(prose.into_string(), said);
}

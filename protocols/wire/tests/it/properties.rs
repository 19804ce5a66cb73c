//! Properties of every message type's encoding.

use openledger_wire::{DecodeError, decode, limits};
use proptest::prelude::*;

use crate::draw::{self, Draw};
use crate::kinds::{self, Kind};

/// What is accepted must be the one encoding of what it means.
fn refused_or_canonical(kind: &Kind, bytes: &[u8]) {
    if let Ok(again) = kind.again(bytes) {
        assert_eq!(hex::encode(again), hex::encode(bytes), "{} has two encodings", kind.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_decodes_to_itself_and_no_prefix_or_extension_of_it_does(seed: u64) {
        for kind in kinds::all() {
            let variant = draw::Draw::new(seed).below(kind.variants());
            // Drawing checks both round trips.
            let cbor = kind.draw(seed, variant).unwrap().cbor;
            prop_assert_eq!(kind.again(&cbor).unwrap(), cbor.clone());
            let longer = [&cbor[..], &[0]].concat();
            prop_assert!(kind.again(&longer).is_err(), "{} with a byte behind it", kind.name);
            prop_assert!(kind.again(&cbor[..cbor.len() - 1]).is_err(), "{} cut", kind.name);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for kind in kinds::all() {
            refused_or_canonical(&kind, &bytes);
        }
    }

    #[test]
    fn altered_messages_are_refused_or_canonical(seed: u64) {
        let mut choice = Draw::new(seed);
        for kind in kinds::all() {
            let variant = choice.below(kind.variants());
            let mut cbor = kind.draw(seed, variant).unwrap().cbor;
            for _ in 0..=choice.below(4) {
                alter(&mut choice, &mut cbor);
            }
            refused_or_canonical(&kind, &cbor);
        }
    }
}

fn alter(choice: &mut Draw, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = choice.below(bytes.len());
    match choice.below(5) {
        0 => bytes[at] ^= 1 << choice.below(8),
        1 => bytes[at] = choice.next() as u8,
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, choice.next() as u8),
        _ => {
            let to = choice.below(bytes.len());
            bytes.swap(at, to);
        }
    }
}

/// A variant's name without the map around it, and the map around a bare name, are what the decoder
/// would take as well.
#[test]
fn enums_have_one_spelling() {
    for kind in kinds::all() {
        for variant in 0..kind.variants() {
            let cbor = kind.draw(5, variant).unwrap().cbor;
            for at in 0..cbor.len() {
                let (before, rest) = cbor.split_at(at);
                // Names of variants start with a capital letter, names of fields do not.
                let name = |at: usize| {
                    rest.get(at).is_some_and(|head| head >> 5 == 3)
                        && rest.get(at + 1).is_some_and(u8::is_ascii_uppercase)
                };
                if rest[0] == 0xa1 && name(1) {
                    refused_or_canonical(&kind, &[before, &rest[1..]].concat());
                } else if name(0) {
                    refused_or_canonical(&kind, &[before, &[0xa1], rest].concat());
                }
            }
        }
    }
}

#[test]
fn more_bytes_than_a_message_may_have_are_refused_before_decoding() {
    for kind in kinds::all() {
        let error = kind.again(&vec![0xff; kind.max + 1]).unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { .. }), "{}: {error}", kind.name);
        assert!(error.to_string().contains(&kind.max.to_string()), "{error}");
    }
}

#[test]
fn maps_out_of_order_doubled_or_with_unknown_fields_are_refused() {
    // {"node": .., "serial": 1} of a revocation.
    let node = [&[0x58, 0x20][..], &[7; 32]].concat();
    let field = |name: &str, value: &[u8]| {
        [&[0x60 + u8::try_from(name.len()).unwrap()], name.as_bytes(), value].concat()
    };
    let (node, serial) = (field("node", &node), field("serial", &[1]));
    let read = |count: u8, fields: &[&[u8]]| {
        let bytes = [&[0xa0 + count][..], &fields.concat()].concat();
        decode::<openledger_wire::identity::Revocation>(&bytes, 512)
    };
    assert!(read(2, &[&node, &serial]).is_ok());
    assert!(read(2, &[&serial, &node]).is_err(), "out of order");
    assert!(read(3, &[&node, &serial, &serial]).is_err(), "doubled");
    assert!(read(3, &[&node, &serial, &field("unknown", &[1])]).is_err(), "unknown field");
    assert!(read(1, &[&node]).is_err(), "a field missing");
    assert!(read(2, &[&node, &field("serial", &[0x18, 0x01])]).is_err(), "a long integer");
    assert!(read(2, &[&node, &field("serial", &[0xf9, 0x3c, 0x00])]).is_err(), "a float");
    let mut indefinite = [&[0xbf][..], &node, &serial].concat();
    indefinite.push(0xff);
    assert!(decode::<openledger_wire::identity::Revocation>(&indefinite, 512).is_err());
}

#[test]
fn a_list_one_item_longer_than_allowed_is_refused() {
    let max = limits::ADDRESSES_MAX;
    let list = |len: usize| [&[0x80 + u8::try_from(len).unwrap()][..], &vec![0x60; len]].concat();
    type Addresses = openledger_wire::List<openledger_wire::Text<16>, { limits::ADDRESSES_MAX }>;
    assert!(decode::<Addresses>(&list(max), 64).is_ok());
    assert!(decode::<Addresses>(&list(max + 1), 64).is_err());
    assert!(decode::<openledger_wire::Text<4>>(b"\x64abcd", 64).is_ok());
    assert!(decode::<openledger_wire::Text<4>>(b"\x65abcde", 64).is_err());
    assert!(decode::<openledger_wire::Text<4>>(b"\x63a\x1bb", 64).is_err(), "a control character");
    assert!(decode::<openledger_wire::Blob<4>>(b"\x44abcd", 64).is_ok());
    assert!(decode::<openledger_wire::Blob<4>>(b"\x45abcde", 64).is_err());
}

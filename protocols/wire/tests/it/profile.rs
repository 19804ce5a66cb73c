//! The network profile as a signed text.

use openledger_wire::limits;
use openledger_wire::profile::{BeaconSource, LOCAL_CHAINS, Profile, ProfileError};

use crate::samples;

fn signed(profile: &Profile) -> String {
    profile.sign(&samples::coordinator()).unwrap()
}

#[test]
fn profiles_read_back_with_the_key_that_signed_them() {
    for profile in [samples::devnet(), samples::public()] {
        let (read, key) = Profile::open(&signed(&profile)).unwrap();
        assert_eq!(read, profile);
        assert_eq!(key, samples::coordinator().public());
    }
    assert_ne!(samples::devnet().network(), samples::public().network());
}

#[test]
fn addresses_may_change_without_making_another_network() {
    let mut moved = samples::devnet();
    moved.coordinator.api = samples::text("http://127.0.0.9:9");
    moved.bootstrap = samples::list(vec![]);
    assert_eq!(moved.network(), samples::network());
    moved.chain.chain_id = 1_337;
    assert_ne!(moved.network(), samples::network());
}

#[test]
fn unsigned_and_half_signed_texts_are_refused() {
    let text = signed(&samples::devnet());
    let at = text.rfind("# signed ").unwrap();
    for unsigned in ["", "schema = 1\n", &text[..at], &text[..at + 9], &text[..at + 80]] {
        let error = Profile::open(unsigned).unwrap_err();
        assert!(matches!(error, ProfileError::NotSigned), "{error}");
    }
    let twice = text.trim_end().to_owned() + " more\n";
    assert!(matches!(Profile::open(&twice), Err(ProfileError::NotSigned)));
}

#[test]
fn every_edited_character_is_noticed() {
    let text = signed(&samples::devnet());
    let body = text.rfind("# signed ").unwrap();
    for (at, old) in text.char_indices().filter(|(at, _)| *at < body) {
        let new = if old == 'x' { "y" } else { "x" };
        let edited = [&text[..at], new, &text[at + old.len_utf8()..]].concat();
        let error = Profile::open(&edited).unwrap_err();
        assert!(matches!(error, ProfileError::Signature(_)), "byte {at}: {error}");
    }
    let other = samples::other_node().public().to_string();
    let forged = text.replace(
        &format!("# signed {}", samples::coordinator().public()),
        &format!("# signed {other}"),
    );
    assert!(matches!(Profile::open(&forged), Err(ProfileError::Signature(_))));
}

#[test]
fn devnet_means_are_refused_on_public_chains() {
    let mut stub = samples::public();
    stub.beacon = BeaconSource::Stub;
    let mut private = samples::public();
    private.private_hosts = samples::devnet().private_hosts;
    for profile in [stub, private] {
        let error = Profile::open(&signed(&profile)).unwrap_err();
        assert!(matches!(error, ProfileError::OnlyLocal { chain_id: 1_612, .. }), "{error}");
    }
    for chain_id in LOCAL_CHAINS {
        let mut local = samples::devnet();
        local.chain.chain_id = chain_id;
        assert!(Profile::open(&signed(&local)).is_ok(), "chain {chain_id}");
    }
}

#[test]
fn other_schemas_fields_and_sizes_are_refused() {
    let newer = Profile { schema: 2, ..samples::devnet() };
    let error = Profile::open(&signed(&newer)).unwrap_err();
    assert!(matches!(error, ProfileError::UnknownSchema { found: 2 }), "{error}");
    let long = "#".repeat(limits::PROFILE_MAX + 1);
    assert!(matches!(Profile::open(&long), Err(ProfileError::TooLong { .. })));
    let mut many = samples::devnet();
    many.private_hosts = (0..=limits::PRIVATE_HOSTS_MAX)
        .map(|n| (format!("h{n}.test:80"), samples::list(vec!["127.0.0.1:80".parse().unwrap()])))
        .collect();
    assert!(matches!(Profile::open(&signed(&many)), Err(ProfileError::Malformed(_))));
}

//! What is missing or broken is named, with what to do.

use crate::support::{Place, WILLING, tiny};

#[test]
fn a_missing_peer_is_a_matter_of_setting_up() {
    let place = Place::new().model(&tiny());
    for benchmark in ["parity", "inference", "accuracy", "memory"] {
        let said = place.fails(&[benchmark, "--quick", "--json"], 2);
        assert!(said.contains("`openledger-sim setup peers"), "{said}");
    }
}

#[test]
fn a_missing_model_is_named_with_where_it_comes_from() {
    let said = Place::new().peer(WILLING).fails(&["parity"], 2);
    assert!(said.contains("tiny.gguf") && said.contains("OPENLEDGER_MODEL"), "{said}");
}

#[test]
fn a_damaged_model_is_no_matter_of_setting_up() {
    let model = tiny();
    let place = Place::new().peer(WILLING).model(&model[..model.len() / 2]);
    let said = place.fails(&["inference"], 1);
    assert!(said.contains("failed to read") && said.contains("tiny.gguf"), "{said}");
}

#[test]
fn a_part_of_nothing_and_tallies_of_nobody_are_refused() {
    let place = Place::new().model(&tiny());
    let said = place.fails(&["fingerprints", "--part", "3/2"], 2);
    assert!(said.contains("write K/N with K from 1 to N"), "{said}");
    let file = place.folder.path().join("tiny.gguf");
    let said = place.fails(&["fingerprints", "--merge", file.to_str().unwrap()], 1);
    assert!(said.contains("tiny.gguf: no part's tallies"), "{said}");
}

#[test]
fn a_peer_that_fails_is_quoted() {
    for (each, expected) in [
        (r#"echo '{"error": "out of memory"}'"#, "it says \"out of memory\""),
        ("exit 7", "exit status: 7"),
        ("kill -9 $$", "signal: 9"),
        ("echo llama", "its answer to \"about\" makes no sense"),
        (r#"echo '{"number": 3}'"#, "missing field `version`"),
    ] {
        let said = Place::new().peer(each).model(&tiny()).fails(&["inference", "--quick"], 1);
        assert!(said.contains(expected), "{each}: {said}");
    }
}

#[test]
fn ids_for_fewer_strings_than_were_sent_are_no_agreement() {
    let said = Place::new().peer(WILLING).model(&tiny()).fails(&["parity", "--quick"], 1);
    assert!(said.contains("compare 1000 strings: llama.cpp answered for 0"), "{said}");
}

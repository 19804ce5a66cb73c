//! The committed corpus, replayed and continued a little.

use openledger_fuzz::engine::{self, Budget};
use openledger_fuzz::{TARGETS, corpus, limits};

#[test]
fn every_target_has_a_corpus_that_it_survives_and_some_derived_inputs_too() {
    let mut bytes = 0;
    for (name, target) in TARGETS {
        let inputs = corpus::load(&corpus::folder(), name).unwrap();
        assert!(!inputs.is_empty(), "{name} has no corpus; run `openledger-fuzz seed-corpus`");
        assert!(inputs.iter().all(|input| input.len() <= limits::SEED_BYTES_MAX), "{name}");
        bytes += inputs.iter().map(Vec::len).sum::<usize>();
        let report = engine::run(name, *target, &inputs, 3, Some(Budget::Iterations(100)));
        assert_eq!(report.map_err(|crash| crash.to_string()).unwrap().derived, 100);
    }
    assert!(bytes < 300_000, "the corpus has {bytes} bytes");
}

#[test]
fn folders_of_the_corpus_are_targets_in_alphabetical_order() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert!(names.is_sorted());
    for entry in std::fs::read_dir(corpus::folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name.as_str()), "{name} is no target");
    }
}

#[test]
fn inputs_are_read_as_bytes_or_hex() {
    let folder = tempfile::tempdir().unwrap();
    let path = corpus::store(folder.path(), "page", b"\x01\x02").unwrap();
    assert_eq!(corpus::read(&path).unwrap(), b"\x01\x02");
    let path = corpus::store_hex(folder.path(), "page", b"\x01\x02").unwrap();
    assert_eq!(corpus::read(&path).unwrap(), b"\x01\x02");
    assert_eq!(corpus::load(folder.path(), "page").unwrap(), [b"\x01\x02"]);
    assert!(corpus::load(folder.path(), "absent").unwrap().is_empty());
    std::fs::write(&path, "0x").unwrap();
    let error = corpus::read(&path).unwrap_err().to_string();
    assert!(error.contains(".hex"), "{error}");
}

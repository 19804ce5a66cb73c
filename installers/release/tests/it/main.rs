//! The workspace itself against the table of crates and the rules of tidiness.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};

use openledger_release::arrows::Arrows;
use openledger_release::layers::LAYERS;
use openledger_release::tidy::{Tree, check};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn lines<T: ToString>(found: &[T]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn arrows_between_crates_are_those_of_the_table() {
    let (arrows, violations) = Arrows::read(&root()).unwrap();
    assert_eq!(lines(&violations), "");
    let folders: Vec<&String> = arrows.0.keys().collect();
    for needed in ["protocols/wire", "protocols/rules", "node/app", "coordinator/service"] {
        assert!(folders.iter().any(|folder| *folder == needed), "{needed} was not seen");
    }
    assert!(arrows.0.len() <= LAYERS.len() + 16);
    assert!(arrows.to_string().contains("protocols/rules          -> wire\n"), "{arrows}");
}

#[test]
fn the_tree_is_tidy() {
    let tree = Tree::read(&root()).unwrap();
    assert!(tree.files.len() > 100, "only {} files were seen", tree.files.len());
    assert_eq!(lines(&check(&tree)), "");
}

#[test]
fn an_untidy_tree_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("node/app/src");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("lib.rs"), "fn a() {}\n").unwrap();
    std::fs::write(folder.path().join("node/app/Cargo.toml"), "[package]\nname = \"a\"\n").unwrap();
    std::fs::write(folder.path().join("README.md"), "[a](gone.md)\n").unwrap();
    let said = lines(&check(&Tree::read(folder.path()).unwrap()));
    for part in [
        "lib.rs:1: does not start",
        "lib.rs:1: holds more",
        "Cargo.toml: has no description",
        "README.md:1: links to gone.md",
        "LICENSE-MIT: is missing",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
}

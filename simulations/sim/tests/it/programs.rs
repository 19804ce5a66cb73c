//! Benchmarks of other programs: started from beside this one, their words and codes passed on.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// The program in a folder of its own.
fn alone(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("openledger-sim");
    std::fs::copy(env!("CARGO_BIN_EXE_openledger-sim"), &path).unwrap();
    path
}

fn bench(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(folder.join("openledger-sim")).arg("bench").args(arguments).output().unwrap()
}

#[test]
fn a_missing_program_is_named_with_the_command_that_builds_it() {
    let folder = tempfile::tempdir().unwrap();
    alone(folder.path());
    let output = bench(folder.path(), &["parity", "--quick", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cargo build -p openledger-bench-inference"), "{said}");
    let said = String::from_utf8(bench(folder.path(), &["nonsense"]).stderr).unwrap();
    for name in ["known: rules", "accuracy", "gpu", "inference", "memory", "parity", "soak"] {
        assert!(said.contains(name), "{name}: {said}");
    }
}

#[test]
fn a_program_is_given_the_size_and_gives_its_figures_and_code() {
    let folder = tempfile::tempdir().unwrap();
    alone(folder.path());
    let program = folder.path().join("openledger-bench-inference");
    std::fs::write(&program, "#!/bin/sh\necho \"$@\"\nexit 2\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (arguments, given) in [
        (&["parity", "--quick", "--json"][..], "parity --quick --json\n"),
        (&["inference", "--full"], "inference --full\n"),
        (&["inference"], "inference\n"),
    ] {
        let output = bench(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), given);
    }
}

//! The guard ends its program when standard input ends, as it does when the parent is killed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::procs::{below, survivors};

fn guard(program: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_openledger-devnet"))
        .args(["guard", "--"])
        .args(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_guarded_program_ends_with_the_guards_input() {
    let mut guard = guard(&["sleep", "1000"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut guarded = below(guard.id());
    while !guarded.values().any(|name| name == "sleep") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        guarded = below(guard.id());
    }
    assert!(guarded.values().any(|name| name == "sleep"), "{guarded:?}");
    assert!(guard.try_wait().unwrap().is_none());
    drop(guard.stdin.take());
    assert!(guard.wait().unwrap().success());
    assert_eq!(survivors(&guarded, Duration::from_secs(20)), []);
}

#[test]
fn the_guard_hands_on_output_and_failure() {
    let mut guarded = guard(&["sh", "-c", "echo said; exit 3"]);
    // Held open meanwhile, as a parent that lives does.
    let _input = guarded.stdin.take();
    let done = guarded.wait_with_output().unwrap();
    assert!(!done.status.success());
    assert_eq!(done.stdout, b"said\n");
    let missing = guard(&["/nowhere/program"]).wait().unwrap();
    assert!(!missing.success());
}

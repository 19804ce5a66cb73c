//! The guard ends its program when standard input ends, as it does when the parent is killed.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::procs::{below, survivors};

fn guard(program: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_openledger-guard"))
        .args(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The processes below the guard, once the program runs.
fn wait_for(guard: &Child, program: &str) -> BTreeMap<u32, String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut guarded = below(guard.id());
    while !guarded.values().any(|name| name == program) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        guarded = below(guard.id());
    }
    assert!(guarded.values().any(|name| name == program), "{guarded:?}");
    guarded
}

#[test]
fn a_guarded_program_ends_with_the_guards_input() {
    let mut guard = guard(&["sleep", "1000"]);
    let guarded = wait_for(&guard, "sleep");
    assert!(guard.try_wait().unwrap().is_none());
    drop(guard.stdin.take());
    assert!(guard.wait().unwrap().success());
    assert_eq!(survivors(&guarded, Duration::from_secs(20)), []);
}

#[test]
fn a_guarded_program_ends_with_a_killed_guard() {
    let mut guard = guard(&["sleep", "1000"]);
    let guarded = wait_for(&guard, "sleep");
    guard.kill().unwrap();
    guard.wait().unwrap();
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
    let mut missing = guard(&["/nowhere/program"]);
    let _input = missing.stdin.take();
    assert!(!missing.wait().unwrap().success());
}

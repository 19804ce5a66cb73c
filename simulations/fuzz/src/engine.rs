//! Runs targets: over a corpus, and over inputs derived from it.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::limits::STACK_BYTES;
use crate::mutate;
use crate::targets::Target;

/// How long to go on with one target.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// This many derived inputs.
    Iterations(u64),
    /// As many as fit into this time.
    Time(Duration),
}

/// An input that made a target panic.
#[derive(Clone, Debug, Error)]
#[error("{target} panicked on an input of {bytes} bytes: {message}", bytes = input.len())]
pub struct Crash {
    /// The target.
    pub target: String,
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said, and where.
    pub message: String,
}

/// What running a target came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Committed inputs that were run.
    pub replayed: u64,
    /// Derived inputs that were run.
    pub derived: u64,
    /// Microseconds that the slowest input took; for people, never a gate.
    pub slowest_us: u64,
    /// That input's length in bytes.
    pub slowest_bytes: usize,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Keeps the place of a panic for the report, and the terminal quiet. Threads of others keep the
/// hook that was there.
fn keep_panics() {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name().is_some_and(|name| name.starts_with("fuzz ")) {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                PANIC.with_borrow_mut(|kept| *kept = Some(place));
            } else {
                before(info);
            }
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let said = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let place = PANIC.with_borrow_mut(Option::take).unwrap_or_default();
    format!("{said} ({place})")
}

/// Runs one input.
fn execute(name: &str, target: Target, input: &[u8]) -> Result<(), Box<Crash>> {
    panic::catch_unwind(AssertUnwindSafe(|| target(input))).map_err(|payload| {
        let message = message(payload.as_ref());
        Box::new(Crash { target: name.to_owned(), input: input.to_vec(), message })
    })
}

/// Runs a target over its corpus and then over derived inputs, on a thread with the stack of
/// production.
///
/// # Errors
/// The first [`Crash`].
pub fn run(
    name: &str,
    target: Target,
    corpus: &[Vec<u8>],
    seed: u64,
    budget: Option<Budget>,
) -> Result<Report, Box<Crash>> {
    keep_panics();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(format!("fuzz {name}")).stack_size(STACK_BYTES);
        let handle = thread.spawn_scoped(scope, || inside(name, target, corpus, seed, budget));
        let failed = |message: String| {
            Err(Box::new(Crash { target: name.to_owned(), input: Vec::new(), message }))
        };
        match handle.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(report)) => report,
            Ok(Err(payload)) => failed(message(payload.as_ref())),
            Err(e) => failed(format!("no thread could be started: {e}")),
        }
    })
}

fn inside(
    name: &str,
    target: Target,
    corpus: &[Vec<u8>],
    seed: u64,
    budget: Option<Budget>,
) -> Result<Report, Box<Crash>> {
    let mut report = Report::default();
    for input in corpus {
        one(name, target, input, &mut report)?;
        report.replayed += 1;
    }
    let started = Instant::now();
    loop {
        let go_on = match budget {
            None => false,
            Some(Budget::Iterations(n)) => report.derived < n,
            Some(Budget::Time(time)) => started.elapsed() < time,
        };
        if !go_on {
            return Ok(report);
        }
        let input = mutate::input(seed, name, report.derived, corpus);
        one(name, target, &input, &mut report)?;
        report.derived += 1;
    }
}

fn one(name: &str, target: Target, input: &[u8], report: &mut Report) -> Result<(), Box<Crash>> {
    let started = Instant::now();
    execute(name, target, input)?;
    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if took_us > report.slowest_us {
        (report.slowest_us, report.slowest_bytes) = (took_us, input.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dislikes_zeros(bytes: &[u8]) {
        assert!(!bytes.starts_with(&[0]), "a zero came first");
    }

    #[test]
    fn a_panic_is_reported_with_its_input_and_place() {
        let corpus = vec![vec![1], vec![0, 5]];
        let crash = run("planted", dislikes_zeros, &corpus, 1, None).unwrap_err();
        assert_eq!((crash.target.as_str(), crash.input.as_slice()), ("planted", &[0, 5][..]));
        assert!(crash.message.contains("a zero came first"), "{}", crash.message);
        assert!(crash.message.contains("engine.rs"), "{}", crash.message);
    }

    #[test]
    fn derived_inputs_find_what_the_corpus_does_not_show() {
        let corpus = vec![vec![1, 2, 3]];
        assert_eq!(run("planted", dislikes_zeros, &corpus, 1, None).unwrap().replayed, 1);
        let found = |seed| {
            run("planted", dislikes_zeros, &corpus, seed, Some(Budget::Iterations(100_000)))
                .unwrap_err()
                .input
        };
        assert_eq!(found(1), found(1), "the same seed finds the same input");
    }

    #[test]
    fn budgets_end_a_run() {
        let report = run("idle", |_| {}, &[vec![]], 1, Some(Budget::Iterations(10))).unwrap();
        assert_eq!((report.replayed, report.derived), (1, 10));
        let time = Some(Budget::Time(Duration::from_millis(1)));
        assert!(run("idle", |_| {}, &[], 1, time).unwrap().derived > 0);
    }
}

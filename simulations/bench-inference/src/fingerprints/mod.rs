//! Whether fingerprints tell honest answers from cheats, between the classes of backend, and what
//! they cost.
//!
//! Answers are written by real engines and checked by real engines
//! ([`Engine::verify_claim`](openledger_inference::Engine::verify_claim)): honest ones by every
//! class, checked by every class that may judge it; and cheats as a dishonest node would compute
//! them ([`cheats`]). Nothing of that is timed. The whole is an hour's work of a core or two, so it
//! can be done in parts, on several machines or one after the other: [`Part`]. What taking
//! fingerprints costs is measured beside it ([`cost`]).

mod bench;
mod cheats;
mod cost;
mod part;
mod prompts;
mod spoil;
mod tally;

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result};
use openledger_inference::{BackendKind, Tolerance};
use openledger_sim::figures::{Figures, Kind};

use crate::limits::{
    CAUGHT_PERCENT_MIN, FINGERPRINTS, FINGERPRINTS_QUICK, HONEST_REJECTED_PERMILLE_MAX,
};
use crate::subject::{Class, Subject};
use bench::Plan;
use cheats::Cheat;
pub use part::{Part, PartError};
pub use tally::Tallies;

/// The classes, where this machine has them; a quick run takes the first two.
const CLASSES: [Class; 6] = [
    Class::REFERENCE,
    Class::CPU,
    Class::CPU_KV8,
    Class::of(BackendKind::Int12Whole),
    Class::ONNX,
    Class::GPU,
];

/// Runs it whole; `note` hears what is being done.
///
/// # Errors
/// An engine that fails, or a model that is none.
pub fn run(subject: &Subject, quick: bool, note: &mut (dyn FnMut(&str) + Send)) -> Result<Figures> {
    let tallies = run_part(subject, quick, Part::WHOLE, note)?;
    let mut figures = figures(subject, &tallies);
    note("what fingerprints cost");
    let sizes = if quick { FINGERPRINTS_QUICK } else { FINGERPRINTS };
    cost::show(subject, &sizes, &mut figures)?;
    Ok(figures)
}

/// Runs a part of it, on as many threads as the machine has cores.
///
/// # Errors
/// An engine that fails, or a model that is none.
pub fn run_part(
    subject: &Subject,
    quick: bool,
    part: Part,
    note: &mut (dyn FnMut(&str) + Send),
) -> Result<Tallies> {
    let (sizes, known) =
        if quick { (FINGERPRINTS_QUICK, &CLASSES[..2]) } else { (FINGERPRINTS, &CLASSES[..]) };
    let classes = subject.available(known, note);
    let plan = Plan::new(&classes, &sizes);
    let note = Mutex::new(note);
    let one = |thread: u64| {
        let mut note = |text: &str| {
            if let Ok(mut note) = note.lock() {
                note(text);
            }
        };
        let part = part.share(thread, subject.cores as u64);
        bench::run(subject, &plan, part, &mut note)
    };
    let parts: Vec<Result<Tallies>> = thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> =
            (0..subject.cores as u64).map(|thread| scope.spawn(move || one(thread))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|found| found.unwrap_or_else(|_| anyhow::bail!("a thread panicked"))).collect()
    });
    let mut all = Tallies::default();
    for part in parts {
        all.merge(part?);
    }
    Ok(all)
}

/// Puts parts together that were run before, each one's tallies in a file.
///
/// # Errors
/// A file that is none of a part.
pub fn merge(subject: &Subject, files: &[impl AsRef<Path>]) -> Result<Figures> {
    let mut all = Tallies::default();
    for file in files {
        let file = file.as_ref();
        let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let part = serde_json::from_slice(&bytes);
        all.merge(part.with_context(|| format!("read {}: no part's tallies", file.display()))?);
    }
    Ok(figures(subject, &all))
}

/// What the tallies say, with their bars.
fn figures(subject: &Subject, tallies: &Tallies) -> Figures {
    let mut figures = Figures::new("fingerprints");
    figures.show("model", subject.file_name(), "", Kind::Exact);
    let (mut chunks, mut rejected) = (0, 0);
    for ((writer, checker), tally) in &tallies.honest {
        tally.show(&mut figures, &format!("{writer} by {checker}"));
        chunks += tally.chunks_claimed;
        rejected += tally.rejected;
    }
    figures.show("honest chunks", chunks, "", Kind::Exact);
    let wanted = format!("<= {HONEST_REJECTED_PERMILLE_MAX} in 1000 chunks");
    let fine = rejected * 1_000 <= chunks * HONEST_REJECTED_PERMILLE_MAX;
    figures.hold("honest answers rejected", rejected, "", Kind::Exact, wanted, fine);
    for cheat in Cheat::ALL {
        let (mut caught, mut of) = (0, 0);
        for ((name, checker), tally) in &tallies.cheats {
            if name == cheat.name() {
                tally.show(&mut figures, &format!("{name} by {checker}"));
                caught += tally.rejected;
                of += tally.claims;
            }
        }
        let wanted = format!(">= {CAUGHT_PERCENT_MIN} % of {of}");
        let fine = of > 0 && caught * 100 >= of * CAUGHT_PERCENT_MIN;
        let name = format!("{}: caught", cheat.name());
        figures.hold(&name, caught, "", Kind::Exact, wanted, fine);
    }
    figures
}

/// Whether a class may check another's answers.
fn may_check(checker: Class, writer: Class) -> bool {
    Tolerance::between(writer.name(), checker.name()).is_some()
}

//! Whether fingerprints tell honest answers from cheats, between the classes of backend.
//!
//! Answers are written by real engines and checked by real engines ([`Engine::verify_claim`]):
//! honest ones by every class, checked by every class that may judge it; and cheats as a dishonest
//! node would compute them ([`cheats`]). Nothing here is timed.

mod cheats;
mod spoil;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use openledger_inference::{
    Claim, ClaimCheck, Engine, Event, Fingerprint, Request, Sampling, SequenceId, Tolerance,
};
use openledger_sim::figures::{Figures, Kind};
use openledger_sim::random::Random;
use openledger_wire::ids::BlobId;

use crate::adapters;
use crate::limits::{ADAPTER_RANK, FINGERPRINTS, FINGERPRINTS_QUICK, FingerprintSizes};
use crate::sequences::Sequences;
use crate::subject::{Class, Subject};
use cheats::Cheat;

/// Tokens of each answer: two chunks.
const ANSWER_TOKENS: usize = 64;

/// Adapters that requests name, all of a strength that is felt.
const ADAPTERS: u64 = 4;

/// The adapter that was trained for ten steps.
const YOUNG: u64 = 100;

/// An answer and what it claims.
#[derive(Clone, Debug)]
struct Answer {
    request: Request,
    tokens: Vec<u32>,
    fingerprint: Fingerprint,
}

/// What checks of many claims found.
#[derive(Debug, Default)]
struct Tally {
    claims: u64,
    chunks: u64,
    rejected: u64,
    /// Rejected for a token.
    by_token: u64,
    distances: Vec<f64>,
    /// Distances of adapters' shares from 1, in standard errors.
    deviations: Vec<f64>,
}

impl Tally {
    fn add(&mut self, check: &ClaimCheck, tolerance: &Tolerance) {
        self.claims += 1;
        self.rejected += u64::from(!check.accepted);
        self.by_token += u64::from(!check.tokens.accepted);
        let Some(comparison) = &check.fingerprint else { return };
        self.chunks += comparison.distances.len() as u64;
        self.distances.extend(&comparison.distances);
        let noise = tolerance.fingerprint.noise;
        let deviation = |share: f64, error: f64| (share - 1.0).abs() / (error * noise);
        let shares = comparison.shares.iter();
        self.deviations.extend(shares.map(|share| deviation(share.share, share.resolution)));
    }
}

/// Runs it; `note` hears what is being done.
///
/// # Errors
/// An engine that fails, or a model that is none.
pub fn run(subject: &Subject, quick: bool, note: &mut dyn FnMut(&str)) -> Result<Figures> {
    let sizes = if quick { FINGERPRINTS_QUICK } else { FINGERPRINTS };
    let mut figures = Figures::new("fingerprints");
    figures.show("model", subject.file_name(), "", Kind::Exact);
    let prompts = Prompts::new(subject)?;
    let mut all = Tally::default();
    for writer in Class::ALL {
        note(&format!("honest answers by {}", writer.name()));
        let mut engine = engine(subject, writer)?;
        let answers = write(&mut engine, prompts.requests(0, sizes.honest))?;
        drop(engine);
        for checker in checkers(writer) {
            let tally = check(subject, writer, checker, &answers)?;
            show_pair(&mut figures, &format!("{} by {}", writer.name(), checker.name()), &tally);
            all.chunks += tally.chunks + 2 * tally.by_token;
            all.rejected += tally.rejected;
        }
    }
    figures.show("honest chunks", all.chunks, "", Kind::Exact);
    let share = all.rejected as f64 / all.chunks.max(1) as f64;
    let wanted = "<= 0.001 of the chunks";
    figures.hold("honest answers rejected", all.rejected, "", Kind::Exact, wanted, share <= 0.001);
    run_cheats(subject, &prompts, &sizes, &mut figures, note)?;
    Ok(figures)
}

/// The classes that may check a class's answers.
fn checkers(writer: Class) -> impl Iterator<Item = Class> {
    let may = move |checker: &Class| Tolerance::between(writer.name(), checker.name()).is_some();
    Class::ALL.into_iter().filter(may)
}

/// Every cheat, checked by every class that may.
fn run_cheats(
    subject: &Subject,
    prompts: &Prompts,
    sizes: &FingerprintSizes,
    figures: &mut Figures,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let writer = Class::Cpu;
    for cheat in Cheat::ALL {
        note(&format!("cheat: {}", cheat.name()));
        let answers = cheats::write_cheats(subject, writer, cheat, prompts, sizes.cheats)?;
        for checker in checkers(writer) {
            let tally = check(subject, writer, checker, &answers)?;
            let name = format!("{}: caught by {}", cheat.name(), checker.name());
            let (caught, of) = (tally.rejected, tally.claims);
            let wanted = format!(">= 99 % of {of}");
            let enough = caught * 100 >= of * 99;
            figures.hold(&name, caught, "", Kind::Exact, wanted, enough);
            show_pair(figures, &name, &tally);
        }
    }
    Ok(())
}

/// What a pair's tolerance is chosen by.
fn show_pair(figures: &mut Figures, name: &str, tally: &Tally) {
    let parts = [("distance", &tally.distances), ("share", &tally.deviations)];
    for (what, values) in parts.into_iter().filter(|(_, values)| !values.is_empty()) {
        let mut values = values.clone();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (values.len().saturating_sub(1) as f64 * share) as usize;
            values.get(index).map_or(0.0, |value| (value * 1e5).round() / 1e5)
        };
        let all = serde_json::json!({
            "least": at(0.0), "median": at(0.5), "p99": at(0.99), "largest": at(1.0),
            "count": values.len(), "token": tally.by_token, "rejected": tally.rejected,
        });
        figures.show(&format!("{name}: {what}"), all, "", Kind::Exact);
    }
}

/// An engine of a class with the adapters that requests name.
fn engine(subject: &Subject, class: Class) -> Result<Engine> {
    let mut engine = subject.engine_of(class, subject.cores)?;
    load(subject, &mut engine, |seed| seed)?;
    Ok(engine)
}

/// Puts the adapters of seeds under the ids that requests name, perhaps others than belong there.
fn load(subject: &Subject, engine: &mut Engine, seed: impl Fn(u64) -> u64) -> Result<()> {
    let config = subject.model.config();
    for number in 0..ADAPTERS {
        let adapter = adapters::adapter(config, seed(number), ADAPTER_RANK)?;
        engine.put_adapter(adapter_id(number), adapter)?;
    }
    let young = adapters::young(config, seed(YOUNG), ADAPTER_RANK)?;
    engine.put_adapter(adapter_id(YOUNG), young)?;
    Ok(())
}

fn adapter_id(number: u64) -> BlobId {
    BlobId([number as u8; 32])
}

/// Runs requests to their ends, all together.
fn write(engine: &mut Engine, requests: Vec<Request>) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(requests.len());
    for requests in requests.chunks(engine.options().sequences_max.max(1)) {
        let mut open: BTreeMap<SequenceId, (Request, Vec<u32>)> = BTreeMap::new();
        for request in requests {
            open.insert(engine.submit(request.clone())?, (request.clone(), Vec::new()));
        }
        while !engine.is_idle() {
            for event in engine.step()? {
                match event {
                    Event::Token { sequence, token, .. } => {
                        if let Some((_, tokens)) = open.get_mut(&sequence) {
                            tokens.push(token);
                        }
                    }
                    Event::Finished { sequence, fingerprint, .. } => {
                        let answer = open.remove(&sequence).context("finish: not begun")?;
                        let (request, tokens) = answer;
                        answers.push(Answer { request, tokens, fingerprint });
                    }
                    Event::Failed { sequence, error } => bail!("run {sequence}: {error}"),
                }
            }
        }
    }
    Ok(answers)
}

/// Has a class check what another claims.
fn check(subject: &Subject, writer: Class, checker: Class, claims: &[Answer]) -> Result<Tally> {
    let mut engine = engine(subject, checker)?;
    let tolerance = Tolerance::between(writer.name(), checker.name())
        .with_context(|| format!("check {} by {}", writer.name(), checker.name()))?;
    let mut tally = Tally::default();
    for claim in claims {
        let claimed = Claim { tokens: &claim.tokens, fingerprint: &claim.fingerprint };
        let found = engine.verify_claim(&claim.request, &claimed, tolerance)?;
        tally.add(&found, &tolerance);
    }
    Ok(tally)
}

/// Pieces of texts of many kinds.
#[derive(Debug)]
struct Prompts(Vec<Vec<u32>>);

impl Prompts {
    fn new(subject: &Subject) -> Result<Self> {
        let file = std::fs::read(&subject.path).context("read the model")?;
        Ok(Self(Sequences::of(&file, subject.model.tokenizer())?.tokens))
    }

    /// Requests, each with a prompt, seed and way of drawing of its own: every second with an
    /// adapter, every fourth greedy.
    fn requests(&self, first: u64, count: u64) -> Vec<Request> {
        let request = |number: u64| {
            let mut random = Random::new(number, "fingerprints");
            let texts = self.0.len().max(1) as u64;
            let text = self.0.get((number % texts) as usize).map_or(&[][..], Vec::as_slice);
            let length = 16 + random.below(33) as usize;
            let start = random.below(text.len().saturating_sub(length).max(1) as u64) as usize;
            let prompt = text.iter().skip(start).take(length).copied().collect();
            let mut request = Request::greedy(prompt, ANSWER_TOKENS);
            request.ignore_end = true;
            if number % 4 != 3 {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&number.to_le_bytes());
                request.sampling = Sampling::seeded(0.8, seed);
            }
            if number % 2 == 1 {
                request.adapters = vec![(adapter_id(number / 2 % ADAPTERS), 1.0)];
            }
            request
        };
        (first..first + count).map(request).collect()
    }

    /// Requests that all name an adapter.
    fn with_adapter(&self, first: u64, count: u64, adapter: impl Fn(u64) -> u64) -> Vec<Request> {
        let mut requests = self.requests(first, count);
        for (number, request) in (first..).zip(&mut requests) {
            request.adapters = vec![(adapter_id(adapter(number)), 1.0)];
        }
        requests
    }
}

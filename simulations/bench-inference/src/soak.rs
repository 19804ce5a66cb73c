//! Whether an engine under twice the load that it can carry stays whole: random requests arrive,
//! are cancelled, find their adapters replaced under them, and nothing fails, leaks or grows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use openledger_inference::{
    BackendKind, Engine, EngineOptions, Event, Request, Sampling, SequenceId, SubmitError,
};
use openledger_models::Adapter;
use openledger_sim::figures::{Figures, Kind};
use openledger_sim::random::Random;
use openledger_wire::ids::BlobId;

use crate::adapters;
use crate::cpu;
use crate::limits::{
    SOAK, SOAK_ADAPTERS, SOAK_GROWTH_MAX, SOAK_PROMPT_TOKENS_MAX, SOAK_QUICK, SoakSizes,
};
use crate::sequences::Sequences;
use crate::subject::{Class, Subject};

/// What happened.
#[derive(Debug, Default)]
struct Counts {
    submitted: u64,
    finished: u64,
    cancelled: u64,
    replaced: u64,
    /// Refused because too many waited, with a time after which to try again.
    pushed_back: u64,
    tokens: u64,
}

/// Runs it on a backend; `note` hears what is being done.
///
/// # Errors
/// Anything that goes wrong but stated back-pressure.
pub fn run(
    subject: &Subject,
    quick: bool,
    backend: BackendKind,
    note: &mut dyn FnMut(&str),
) -> Result<Figures> {
    let sizes = if quick { SOAK_QUICK } else { SOAK };
    let time = sizes.time;
    let mut soak = Soak::new(subject, Class::of(backend), sizes)?;
    note("measuring what the engine can carry");
    let carried = soak.capacity()?;
    note(&format!("{carried:.2} requests a second; twice that for {} s", time.as_secs()));
    let (early, late) = soak.run(carried * 2.0, time, note)?;
    let free = soak.engine.pages_free();
    let counts = &soak.counts;
    let mut figures = Figures::new("soak");
    figures.show("model", subject.file_name(), "", Kind::Timed);
    figures.show("class", soak.engine.options().class(), "", Kind::Timed);
    figures.show("time", time.as_secs(), "s", Kind::Timed);
    figures.show("requests carried", (carried * 100.0).round() / 100.0, "/s", Kind::Timed);
    figures.show("requests submitted", counts.submitted, "", Kind::Timed);
    figures.show("requests finished", counts.finished, "", Kind::Timed);
    figures.show("requests cancelled", counts.cancelled, "", Kind::Timed);
    figures.show("adapters replaced", counts.replaced, "", Kind::Timed);
    figures.show("tokens", counts.tokens, "", Kind::Timed);
    figures.show("requests pushed back with a time to retry", counts.pushed_back, "", Kind::Timed);
    // Anything else would have ended the run.
    figures.equals("other errors", 0, 0);
    let lost = counts.submitted - counts.finished - counts.cancelled;
    figures.equals("requests without an end", lost, 0);
    figures.equals("pages not given back", soak.engine.options().pages_max - free, 0);
    let named = soak.engine.adapters().len() as u64;
    figures.equals("adapters left in memory that nobody can name", named - SOAK_ADAPTERS, 0);
    let growth = late.saturating_sub(early);
    let wanted = format!("<= {SOAK_GROWTH_MAX}");
    // A short run has not seen the longest of lists.
    let flat = quick || growth <= SOAK_GROWTH_MAX;
    figures.hold("memory added after the first tenth", growth, "bytes", Kind::Exact, wanted, flat);
    figures.show("memory", late, "bytes", Kind::Timed);
    Ok(figures)
}

struct Soak {
    engine: Engine,
    sizes: SoakSizes,
    /// Two versions of every adapter.
    versions: Vec<[Adapter; 2]>,
    texts: Vec<Vec<u32>>,
    random: Random,
    open: BTreeMap<SequenceId, u64>,
    counts: Counts,
}

impl Soak {
    fn new(subject: &Subject, class: Class, sizes: SoakSizes) -> Result<Self> {
        let options = class.options();
        // Just enough for all at their longest, so that pages are scarce, and all in use soon.
        let longest = SOAK_PROMPT_TOKENS_MAX + sizes.tokens_max;
        let options = EngineOptions {
            threads: subject.cores,
            sequences_max: sizes.sequences,
            pages_max: sizes.sequences * (longest as usize).div_ceil(options.page_tokens),
            ..options
        };
        let mut engine = subject.try_engine(options)?;
        let config = subject.model.config();
        let mut versions = Vec::new();
        for number in 0..SOAK_ADAPTERS {
            // Ranks that are mixed in one step.
            let rank = 4 << (number % 3);
            let first = adapters::adapter(config, 2 * number, rank)?;
            engine.put_adapter(id(number), first.clone())?;
            versions.push([first, adapters::adapter(config, 2 * number + 1, rank)?]);
        }
        let file = std::fs::read(&subject.path).context("read the model")?;
        let texts = Sequences::of(&file, subject.model.tokenizer())?.tokens;
        ensure!(!texts.is_empty(), "make prompts: there are no texts");
        let random = Random::new(8, "soak");
        let (open, counts) = (BTreeMap::new(), Counts::default());
        Ok(Self { engine, sizes, versions, texts, random, open, counts })
    }

    fn request(&mut self) -> Request {
        let text = self.random.below(self.texts.len() as u64) as usize;
        let text = self.texts.get(text).map_or(&[][..], Vec::as_slice);
        let length = 4 + self.random.below(SOAK_PROMPT_TOKENS_MAX - 4) as usize;
        let prompt: Vec<u32> = text.iter().copied().take(length).collect();
        let tokens = 1 + self.random.below(self.sizes.tokens_max) as usize;
        let mut request = Request::greedy(prompt, tokens);
        request.ignore_end = true;
        if self.random.chance(700) {
            request.sampling = Sampling::seeded(0.9, self.random.bytes());
        }
        if self.random.chance(800) {
            request.adapters = vec![(id(self.random.below(SOAK_ADAPTERS)), 1.0)];
        }
        request
    }

    /// Requests a second when there are always enough.
    fn capacity(&mut self) -> Result<f64> {
        let begun = Instant::now();
        let requests = 2 * self.sizes.sequences;
        for _ in 0..requests {
            self.submit()?;
        }
        while !self.engine.is_idle() {
            self.step()?;
        }
        Ok(requests as f64 / begun.elapsed().as_secs_f64())
    }

    /// Requests at a rate for a time, and all that were taken to their ends. Memory after a tenth
    /// of the time, and at its end.
    fn run(&mut self, rate: f64, time: Duration, note: &mut dyn FnMut(&str)) -> Result<(u64, u64)> {
        let begun = Instant::now();
        let (mut asked, mut early, mut told) = (0.0, None, 0);
        while begun.elapsed() < time {
            let seconds = begun.elapsed().as_secs_f64();
            while asked < seconds * rate {
                asked += 1.0;
                self.submit()?;
                self.disturb()?;
            }
            if self.engine.is_idle() {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.step()?;
            if early.is_none() && begun.elapsed() * 10 >= time {
                early = Some(cpu::resident().unwrap_or_default());
            }
            if seconds as u64 / 10 > told {
                told = seconds as u64 / 10;
                let (running, queued) = (self.engine.running(), self.engine.queued());
                let left = time.as_secs().saturating_sub(seconds as u64);
                note(&format!(
                    "{running} running, {queued} queued, {} finished, {left} s left",
                    self.counts.finished
                ));
            }
        }
        while !self.engine.is_idle() {
            self.step()?;
        }
        ensure!(self.open.is_empty(), "{} requests have no end", self.open.len());
        Ok((early.unwrap_or_default(), cpu::resident().unwrap_or_default()))
    }

    fn submit(&mut self) -> Result<()> {
        let request = self.request();
        match self.engine.submit(request) {
            Ok(sequence) => {
                self.counts.submitted += 1;
                self.open.insert(sequence, 0);
            }
            Err(error @ SubmitError::QueueFull { .. }) => {
                ensure!(error.retry_after_ms().is_some(), "no time to retry after: {error}");
                self.counts.pushed_back += 1;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Now and then somebody cancels, or replaces an adapter.
    fn disturb(&mut self) -> Result<()> {
        if self.random.chance(100) && !self.open.is_empty() {
            let at = self.random.below(self.open.len() as u64) as usize;
            if let Some(sequence) = self.open.keys().nth(at).copied() {
                self.engine.cancel(sequence);
            }
        }
        if self.random.chance(30) {
            let number = self.random.below(SOAK_ADAPTERS);
            let version = self.random.below(2) as usize;
            let versions = self.versions.get(number as usize).and_then(|both| both.get(version));
            if let Some(adapter) = versions.cloned() {
                self.engine.put_adapter(id(number), adapter)?;
                self.counts.replaced += 1;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        for event in self.engine.step()? {
            match event {
                Event::Token { sequence, .. } => {
                    self.counts.tokens += 1;
                    let drawn = self.open.get_mut(&sequence);
                    *drawn.with_context(|| format!("{sequence} goes on after its end"))? += 1;
                }
                Event::Finished { sequence, reason, usage, .. } => {
                    let drawn = self.open.remove(&sequence);
                    let drawn = drawn.with_context(|| format!("{sequence} ends twice"))?;
                    ensure!(drawn == usage.completion_tokens as u64, "{sequence} lost tokens");
                    match reason {
                        openledger_inference::FinishReason::Cancelled => {
                            self.counts.cancelled += 1;
                        }
                        _ => self.counts.finished += 1,
                    }
                }
                Event::Failed { sequence, error } => bail!("run {sequence}: {error}"),
            }
        }
        Ok(())
    }
}

fn id(number: u64) -> BlobId {
    BlobId([number as u8; 32])
}

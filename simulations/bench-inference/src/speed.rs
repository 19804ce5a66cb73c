//! How fast the engine is, beside llama.cpp as its package ships it.
//!
//! In each round every case is run by us and then by the peer, on one thread each; medians over the
//! rounds are shown. (Started under `taskset -c N`, both stay on one core.) All figures are timed:
//! those of a whole run stand beside the bars that they are meant to meet, and decide nothing. The
//! engine is the one that nodes serve with, in its default class, or that of another backend; the
//! reference of 32-bit numbers is timed beside the CPU's where it says what rounding buys.

mod served;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use openledger_inference::{BackendKind, Engine, Event, Request as Ask, SequenceId};
use openledger_models::{SpecialTokens, Tokenizer};
use openledger_sim::figures::{Figures, Kind};
use openledger_wire::ids::BlobId;

use crate::adapters::{self, Width};
use crate::cpu;
use crate::limits::{
    ADAPTERS_SHARE_MIN, DECODE_RATIO_MIN, FULL, PREFILL_RATIO_MIN, PROMPT_TOKENS, QUICK, Sizes,
    TIMED_ADAPTER_RANK, TURNS_RATIO_MIN,
};
use crate::peer::{Peer, Request, Took};
use crate::subject::{Class, Subject};
use served::Meals;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// So many sequences step together.
    Decode(usize),
    /// So many sequences step together, each with an adapter of its own.
    Adapters(usize),
    /// One prompt to its first token.
    Prefill,
}

impl Case {
    /// Those of a run.
    fn all(sizes: &Sizes) -> Vec<Self> {
        let many = sizes.sequences;
        let mut cases = vec![Self::Decode(1), Self::Decode(8), Self::Decode(many)];
        cases.dedup();
        cases.extend([Self::Adapters(many), Self::Prefill]);
        cases
    }

    fn name(self, sizes: &Sizes) -> String {
        match self {
            Self::Decode(1) => "decode, 1 sequence".to_owned(),
            Self::Decode(count) => format!("decode, {count} sequences"),
            Self::Adapters(count) => format!("decode, {count} sequences, {count} adapters"),
            Self::Prefill => format!("prefill, {} tokens", sizes.prefill_tokens),
        }
    }

    /// Tokens of one run.
    const fn tokens(self, sizes: &Sizes) -> usize {
        match self {
            Self::Decode(count) | Self::Adapters(count) => count * sizes.steps,
            Self::Prefill => sizes.prefill_tokens,
        }
    }

    /// What the peer is, and how it differs.
    fn peer(self, name: &str) -> String {
        match self {
            Self::Adapters(_) => format!("{name}, one context, its adapter changed in turn"),
            Self::Decode(_) | Self::Prefill => name.to_owned(),
        }
    }

    /// The least pace beside the peer's.
    const fn bar(self) -> Option<f64> {
        match self {
            Self::Decode(1) => Some(DECODE_RATIO_MIN),
            Self::Decode(_) => None,
            Self::Adapters(_) => Some(TURNS_RATIO_MIN),
            Self::Prefill => Some(PREFILL_RATIO_MIN),
        }
    }

    /// Whether the reference is timed too: where one sequence shows what it costs.
    const fn has_reference(self) -> bool {
        matches!(self, Self::Decode(1) | Self::Prefill)
    }
}

/// The engines, ready.
struct Bench {
    engine: Engine,
    /// Beside the CPU's fast backend alone.
    reference: Option<Engine>,
    peer: Peer,
    sizes: Sizes,
    text: Vec<u32>,
    /// The adapters as files for the peer, in a folder that goes with this.
    files: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

/// Runs it on a backend; `note` hears what is being done.
///
/// # Errors
/// A peer or an engine that fails.
pub fn run(
    subject: &Subject,
    quick: bool,
    backend: BackendKind,
    note: &mut dyn FnMut(&str),
) -> Result<Figures> {
    let sizes = if quick { QUICK } else { FULL };
    let threads = sizes.threads.unwrap_or(subject.cores);
    let begun = Instant::now();
    let mut figures = Figures::new("inference");
    figures.show("model", subject.file_name(), "", Kind::Timed);
    note("starting llama.cpp");
    let mut bench = Bench::new(subject, sizes, threads, backend)?;
    let mut runs: Vec<Runs> = Case::all(&sizes).into_iter().map(Runs::of).collect();
    let mut meals = Meals::default();
    let mut rounds = 0u64;
    while rounds < sizes.rounds as u64 && (rounds == 0 || begun.elapsed() < sizes.time) {
        rounds += 1;
        for runs in &mut runs {
            note(&format!("round {rounds} of {}: {}", sizes.rounds, runs.case.name(&sizes)));
            bench.round(runs)?;
        }
        note(&format!("round {rounds} of {}: whole requests", sizes.rounds));
        meals.round(&mut bench)?;
    }
    figures.show("rounds", rounds, "", Kind::Timed);
    figures.show("threads", threads as u64, "", Kind::Timed);
    figures.show("class", bench.engine.options().class(), "", Kind::Timed);
    figures.show("kernels", bench.engine.device(), "", Kind::Timed);
    let name = bench.peer.name();
    for runs in &runs {
        show(&mut figures, &sizes, &name, runs)?;
    }
    show_share(&mut figures, &sizes, &runs);
    meals.show(&mut figures, &sizes, &name);
    Ok(figures)
}

/// What a case took, round by round.
struct Runs {
    case: Case,
    ours: Vec<Took>,
    theirs: Vec<Took>,
    /// llama.cpp with a context for each adapter: more memory, and no changes.
    contexts: Vec<Took>,
    reference: Vec<Took>,
}

impl Runs {
    const fn of(case: Case) -> Self {
        Self {
            case,
            ours: Vec::new(),
            theirs: Vec::new(),
            contexts: Vec::new(),
            reference: Vec::new(),
        }
    }
}

/// The middle one of the seconds on the wall.
fn seconds(runs: &[Took]) -> f64 {
    median(runs.iter().map(|took| took.seconds).collect())
}

/// Gives the last figure a bar, where sizes are those that bars are of.
fn bar(figures: &mut Figures, sizes: &Sizes, words: String, fine: bool) {
    if let Some(figure) = figures.figures.last_mut().filter(|_| sizes.sequences >= FULL.sequences) {
        figure.bar = Some(words);
        figure.ok = fine;
    }
}

/// The throughput that is left when every sequence has an adapter of its own.
fn show_share(figures: &mut Figures, sizes: &Sizes, runs: &[Runs]) {
    let of = |wanted: Case| {
        let runs = runs.iter().find(|runs| runs.case == wanted)?;
        Some(seconds(&runs.ours))
    };
    let many = sizes.sequences;
    if let (Some(base), Some(adapted)) = (of(Case::Decode(many)), of(Case::Adapters(many)))
        && adapted > 0.0
    {
        let name = format!("decode, {many} sequences: share left by {many} adapters");
        let share = base / adapted;
        figures.show(&name, rounded(share), "", Kind::Timed);
        bar(figures, sizes, format!(">= {ADAPTERS_SHARE_MIN}"), share >= ADAPTERS_SHARE_MIN);
    }
}

/// A case in three figures, or four.
fn show(figures: &mut Figures, sizes: &Sizes, name: &str, runs: &Runs) -> Result<()> {
    let case = runs.case;
    let (what, peer) = (case.name(sizes), case.peer(name));
    let [ours, theirs] = [&runs.ours, &runs.theirs].map(|runs| seconds(runs));
    ensure!(ours > 0.0 && theirs > 0.0, "time {what}: it took no time ({ours} s, {theirs} s)");
    let rate = |seconds: f64| rounded(case.tokens(sizes) as f64 / seconds);
    figures.beside(&what, rate(ours), "tokens/s", Kind::Timed, &peer, rate(theirs));
    if let Some(least) = case.bar() {
        bar(figures, sizes, format!(">= {least} of the peer's"), theirs / ours >= least);
    }
    let wall = format!("{what}: wall time");
    figures.beside(&wall, rounded(ours), "s", Kind::Timed, &peer, rounded(theirs));
    let both = [&runs.ours, &runs.theirs];
    let [busy, their] = both.map(|runs| median(runs.iter().map(|t| t.cpu_seconds).collect()));
    let name_of = format!("{what}: CPU time");
    figures.beside(&name_of, rounded(busy), "s", Kind::Timed, &peer, rounded(their));
    if !runs.contexts.is_empty() {
        let peer = format!("{name}, a context for each adapter, in turn");
        let name_of = format!("{what}: beside contexts");
        let theirs = rate(seconds(&runs.contexts));
        figures.beside(&name_of, rate(ours), "tokens/s", Kind::Timed, &peer, theirs);
    }
    if !runs.reference.is_empty() {
        let reference = rate(seconds(&runs.reference));
        figures.show(&format!("{what}: the reference"), reference, "tokens/s", Kind::Timed);
    }
    Ok(())
}

/// Thousandths are more than these repeat to.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The middle one; of an even number the lower of the two in the middle. 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

impl Bench {
    fn new(subject: &Subject, sizes: Sizes, threads: usize, backend: BackendKind) -> Result<Self> {
        let peer = Peer::start(&subject.python, &subject.path, threads)?;
        let mut engine = subject.engine_of(Class::of(backend), threads)?;
        let beside = backend == BackendKind::Int12;
        let reference = beside.then(|| subject.engine_of(Class::REFERENCE, threads)).transpose()?;
        let config = subject.model.config();
        let folder = tempfile::tempdir().context("make a folder for adapters")?;
        let mut files = Vec::new();
        for number in 0..sizes.sequences {
            let adapter = adapters::adapter(config, number as u64, TIMED_ADAPTER_RANK)?;
            let name = format!("adapter-{number}.gguf");
            files.push(adapters::write(&adapter, config, folder.path(), &name, Width::F16)?);
            engine.put_adapter(adapter_id(number), adapter)?;
        }
        let text = text(subject.model.tokenizer());
        ensure!(!text.is_empty(), "make prompts: the tokenizer finds no tokens in plain English");
        Ok(Self { engine, reference, peer, sizes, text, files, _folder: folder })
    }

    /// A case by each, one after the other.
    fn round(&mut self, runs: &mut Runs) -> Result<()> {
        let case = runs.case;
        runs.ours.push(ours_of(&mut self.engine, &self.text, &self.sizes, case)?);
        runs.theirs.push(self.theirs(case)?);
        if let Case::Adapters(count) = case {
            let prompts = prompts(&self.text, count, PROMPT_TOKENS);
            let (steps, adapters) = (self.sizes.steps, self.files.as_slice());
            let request = Request::Decode { prompts: &prompts, steps, adapters };
            runs.contexts.push(self.peer.ask(&request)?);
        }
        if let Some(reference) = self.reference.as_mut().filter(|_| case.has_reference()) {
            runs.reference.push(ours_of(reference, &self.text, &self.sizes, case)?);
        }
        Ok(())
    }

    fn theirs(&mut self, case: Case) -> Result<Took> {
        let steps = self.sizes.steps;
        let took = match case {
            Case::Decode(count) => {
                let prompts = prompts(&self.text, count, PROMPT_TOKENS);
                self.peer.ask(&Request::Decode { prompts: &prompts, steps, adapters: &[] })
            }
            Case::Adapters(count) => {
                let prompts = prompts(&self.text, count, PROMPT_TOKENS);
                let adapters = self.files.as_slice();
                self.peer.ask(&Request::Turns { prompts: &prompts, steps, adapters })
            }
            Case::Prefill => {
                let prompt = prompts(&self.text, 1, self.sizes.prefill_tokens).concat();
                self.peer.ask(&Request::Prefill { prompt: &prompt })
            }
        };
        Ok(took?)
    }
}

/// So many prompts, each another piece of the text.
fn prompts(text: &[u32], count: usize, tokens: usize) -> Vec<Vec<u32>> {
    let from = |start| text.iter().cycle().skip(start).take(tokens).copied().collect();
    (0..count).map(|number| from(number * tokens)).collect()
}

fn ours_of(engine: &mut Engine, text: &[u32], sizes: &Sizes, case: Case) -> Result<Took> {
    match case {
        Case::Decode(count) => {
            decode(engine, &prompts(text, count, PROMPT_TOKENS), false, sizes.steps)
        }
        Case::Adapters(count) => {
            decode(engine, &prompts(text, count, PROMPT_TOKENS), true, sizes.steps)
        }
        Case::Prefill => {
            for prompt in prompts(text, 1, sizes.prefill_tokens) {
                engine.submit(Ask::greedy(prompt, 1))?;
            }
            timed(|| {
                while !engine.is_idle() {
                    step(engine)?;
                }
                Ok(())
            })
        }
    }
}

/// Times steps in which every sequence gets a token; prompts are behind them by then.
pub(crate) fn decode(
    engine: &mut Engine,
    prompts: &[Vec<u32>],
    with_adapters: bool,
    steps: usize,
) -> Result<Took> {
    let mut waiting = BTreeSet::new();
    for (number, prompt) in prompts.iter().enumerate() {
        // Those that are through their prompt first draw while the others are not.
        let mut ask = Ask::greedy(prompt.clone(), 2 * (steps + prompts.len()));
        ask.ignore_end = true;
        if with_adapters {
            ask.adapters = vec![(adapter_id(number), 1.0)];
        }
        waiting.insert(engine.submit(ask)?);
    }
    let all: Vec<SequenceId> = waiting.iter().copied().collect();
    while !waiting.is_empty() {
        for sequence in step(engine)? {
            waiting.remove(&sequence);
        }
    }
    let mut tokens = 0;
    let took = timed(|| {
        for _ in 0..steps {
            tokens += step(engine)?.len();
        }
        Ok(())
    })?;
    for sequence in all {
        engine.cancel(sequence);
    }
    step(engine)?;
    let expected = steps * prompts.len();
    ensure!(tokens == expected, "time decoding: {tokens} tokens came where {expected} should");
    Ok(took)
}

/// One step: who got a token.
fn step(engine: &mut Engine) -> Result<Vec<SequenceId>> {
    let mut drawn = Vec::new();
    for event in engine.step()? {
        match event {
            Event::Token { sequence, .. } => drawn.push(sequence),
            Event::Failed { sequence, error } => bail!("run {sequence}: {error}"),
            Event::Finished { .. } => {}
        }
    }
    Ok(drawn)
}

/// Seconds of some work, on the wall and on processors.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Took> {
    let (begun, before) = (Instant::now(), cpu::seconds());
    work()?;
    let seconds = begun.elapsed().as_secs_f64();
    let busy = cpu::seconds().zip(before).map(|(after, before)| after - before);
    Ok(Took { seconds, cpu_seconds: busy.unwrap_or_default() })
}

fn adapter_id(number: usize) -> BlobId {
    BlobId([number as u8; 32])
}

/// What prompts are cut from.
fn text(tokenizer: &Tokenizer) -> Vec<u32> {
    let text = "The swarm works while nobody watches. Each machine takes a page, reads it, and \
                writes down what it found; others look over its shoulder and do the same again. \
                When two of them agree, both are paid, and when they do not, a third is asked. ";
    tokenizer.encode(text, SpecialTokens::AsText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn time_on_processors_is_counted_where_the_system_counts_it() {
        let took = timed(|| {
            let begun = Instant::now();
            while begun.elapsed().as_millis() < 30 {}
            Ok(())
        });
        let took = took.unwrap();
        assert!(took.seconds >= 0.03 && took.cpu_seconds >= 0.0, "{took:?}");
    }
}

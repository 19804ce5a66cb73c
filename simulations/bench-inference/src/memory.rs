//! What an engine takes in memory, beside llama.cpp with as much to hold, and what keys and values
//! of 8 bits cost in perplexity.
//!
//! Both hold [`SEQUENCES`] sequences of [`TOKENS`] tokens and [`ADAPTERS`] different adapters.
//! llama.cpp's process counts from before it loads the model; ours counts whole.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use openledger_inference::{Engine, EngineOptions, Request as Ask, of_class};
use openledger_sim::figures::{Figures, Kind};
use openledger_wire::ids::BlobId;
use serde::Deserialize;

use crate::adapters;
use crate::cpu;
use crate::limits::{
    MEMORY_F16_RATIO_MAX, MEMORY_Q8_RATIO_MAX, PERPLEXITY_RISE_MAX, PERPLEXITY_TEXTS,
};
use crate::peer::{Peer, Request};
use crate::sequences::Sequences;
use crate::subject::Subject;

/// Sequences held at once.
const SEQUENCES: usize = 32;

/// Tokens of each.
const TOKENS: usize = 1_024;

/// Adapters, of rank 16 on all projections.
const ADAPTERS: usize = 32;

/// Their rank.
const RANK: usize = 16;

/// Tokens of a page; a multiple fills [`TOKENS`].
const PAGE_TOKENS: usize = 16;

/// The classes, with the most of llama.cpp's bytes that each may take.
const CLASSES: [(&str, f64); 2] =
    [("cpu-int12-1", MEMORY_F16_RATIO_MAX), ("cpu-int12-1/kv-q8", MEMORY_Q8_RATIO_MAX)];

/// Runs it; `note` hears what is being done.
///
/// # Errors
/// A peer or an engine that fails.
pub fn run(subject: &Subject, quick: bool, note: &mut dyn FnMut(&str)) -> Result<Figures> {
    let tokens = if quick { TOKENS / 8 } else { TOKENS };
    let mut figures = Figures::new("memory");
    figures.show("model", subject.file_name(), "", Kind::Timed);
    figures.show("sequences", SEQUENCES, "", Kind::Timed);
    figures.show("tokens of each", tokens, "", Kind::Timed);
    note("llama.cpp");
    let (name, theirs) = theirs(subject, tokens)?;
    for (class, ratio) in CLASSES {
        note(class);
        let ours = ours(subject, class, tokens)?;
        let what = format!("{class}: memory");
        figures.beside(&what, ours, "bytes", Kind::Timed, &name, theirs);
        if let Some(figure) = figures.figures.last_mut() {
            figure.bar = Some(format!("<= {ratio} of the peer's"));
            figure.ok = quick || ours as f64 <= ratio * theirs as f64;
        }
    }
    note("perplexity");
    let [wide, narrow] = [CLASSES[0], CLASSES[1]].map(|(class, _)| perplexity(subject, class));
    let (wide, narrow) = (wide?, narrow?);
    let rounded = |value: f64| (value * 1e4).round() / 1e4;
    figures.show("perplexity, keys and values of 16 bits", rounded(wide), "", Kind::Exact);
    let wanted = format!("<= {PERPLEXITY_RISE_MAX} above");
    let fine = narrow <= wide * (1.0 + PERPLEXITY_RISE_MAX);
    let what = "perplexity, keys and values of 8 bits";
    figures.hold(what, rounded(narrow), "", Kind::Exact, wanted, fine);
    Ok(figures)
}

/// Its name, and what it takes.
fn theirs(subject: &Subject, tokens: usize) -> Result<(String, u64)> {
    #[derive(Deserialize)]
    struct Bytes {
        bytes: u64,
    }
    let mut peer = Peer::start(&subject.python, &subject.path, subject.cores)?;
    let folder = tempfile::tempdir().context("make a folder for adapters")?;
    let config = subject.model.config();
    let mut files: Vec<PathBuf> = Vec::new();
    for number in 0..ADAPTERS {
        let adapter = adapters::adapter(config, number as u64, RANK)?;
        let name = format!("adapter-{number}.gguf");
        files.push(adapters::write(&adapter, config, folder.path(), &name)?);
    }
    let request = Request::Memory { adapters: &files, sequences: SEQUENCES, tokens };
    let bytes = peer.ask::<Bytes>(&request)?.bytes;
    Ok((peer.name(), bytes))
}

/// What this process takes with an engine that holds as much. The engine before it is gone by then;
/// what the allocator kept of it counts for nothing here.
fn ours(subject: &Subject, class: &str, tokens: usize) -> Result<u64> {
    let mut engine = engine(subject, class, tokens)?;
    let config = subject.model.config();
    for number in 0..ADAPTERS {
        engine.put_adapter(id(number), adapters::adapter(config, number as u64, RANK)?)?;
    }
    let vocab = config.vocab as u32;
    for number in 0..SEQUENCES {
        // No two have a page in common.
        let token = |at: usize| (at * 31 + number * 977) as u32 % vocab;
        let mut ask = Ask::greedy((0..tokens - 1).map(token).collect(), 1);
        ask.adapters = vec![(id(number % ADAPTERS), 1.0)];
        ask.ignore_end = true;
        engine.submit(ask)?;
    }
    let mut most = 0;
    while !engine.is_idle() {
        engine.step()?;
        most = most.max(cpu::resident().context("see how much memory is taken")?);
    }
    Ok(most)
}

fn engine(subject: &Subject, class: &str, tokens: usize) -> Result<Engine> {
    let (backend, kv, adapters) =
        of_class(class).with_context(|| format!("find the class {class}"))?;
    let options = EngineOptions {
        backend,
        kv,
        adapters,
        threads: subject.cores,
        sequences_max: SEQUENCES,
        page_tokens: PAGE_TOKENS,
        pages_max: SEQUENCES * tokens.div_ceil(PAGE_TOKENS),
        ..EngineOptions::default()
    };
    Ok(Engine::new(subject.model.clone(), options)?)
}

fn id(number: usize) -> BlobId {
    BlobId([number as u8; 32])
}

/// The exponential of the mean surprise at the next token, over the committed texts.
fn perplexity(subject: &Subject, class: &str) -> Result<f64> {
    let file = std::fs::read(&subject.path).context("read the model")?;
    let texts = Sequences::of(&file, subject.model.tokenizer())?.tokens;
    let mut engine = engine(subject, class, TOKENS)?;
    let (mut surprise, mut count) = (0.0, 0u64);
    for text in texts.iter().take(PERPLEXITY_TEXTS) {
        let logits = engine.logits_of(text, &[])?;
        for (logits, next) in logits.iter().zip(text.iter().skip(1)) {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|l| (f64::from(*l) - f64::from(top)).exp()).sum();
            let own = logits.get(*next as usize).copied().unwrap_or(f32::NEG_INFINITY);
            surprise += f64::from(top) + sum.ln() - f64::from(own);
            count += 1;
        }
    }
    ensure!(count > 0, "measure perplexity: there are no texts");
    Ok((surprise / count as f64).exp())
}

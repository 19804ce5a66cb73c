//! A process that holds an engine with adapters and full sequences, and says what that takes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use openledger_inference::{
    Engine, EngineOptions, Event, KvFormat, PreparedAdapter, Request, of_class,
};
use openledger_models::ModelConfig;
use openledger_wire::ids::BlobId;
use serde::{Deserialize, Serialize};

use crate::cpu;
use crate::subject::Subject;

/// What to hold.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Holding {
    /// The class of the engine.
    #[arg(long)]
    pub class: String,
    /// The folder of the adapters, `0.safetensors` and on.
    #[arg(long, value_name = "FOLDER")]
    pub adapters: PathBuf,
    /// How many of them.
    #[arg(long)]
    pub adapters_count: usize,
    /// Sequences at once.
    #[arg(long)]
    pub sequences: usize,
    /// Tokens of each.
    #[arg(long)]
    pub tokens: usize,
}

/// Resident bytes of the process after each thing that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Nothing but the program, and the model's file opened.
    pub started: u64,
    /// An engine.
    pub model: u64,
    /// All adapters.
    pub adapters: u64,
    /// A step of prompts as wide as steps get, and one of all sequences.
    pub stepped: u64,
    /// The most at any time until all sequences were as long as they get.
    pub most: u64,
    /// At the end, of files that are mapped: the program's own, and embeddings.
    pub mapped: u64,
    /// What the engine counts its adapters as.
    pub adapters_counted: u64,
    /// What keys and values of all positions need in their format.
    pub kv_needed: u64,
}

/// Holds it, and says what it takes.
///
/// # Errors
/// An engine that fails, or a system that does not say what is resident.
pub fn run(subject: &Subject, holding: &Holding) -> Result<Held> {
    let resident = || cpu::resident().context("see how much memory is taken");
    let started = resident()?;
    let mut engine = engine(subject, holding)?;
    let model = resident()?;
    let config = subject.model.config();
    for number in 0..holding.adapters_count {
        let path = holding.adapters.join(format!("{number}.safetensors"));
        engine.put_prepared(id(number), prepared(&engine, config, &path)?)?;
    }
    let adapters = resident()?;
    let bytes = engine.adapters().into_iter().map(|(_, _, bytes)| bytes as u64);
    let adapters_counted = bytes.sum();
    let chunk = engine.options().chunk_tokens_max / holding.sequences.max(1);
    fill(&mut engine, holding, chunk.clamp(1, holding.tokens), 2)?;
    let stepped = resident()?;
    // So many that the first still draws when the last prompt has been run: none ends before all
    // are there.
    let width = engine.options().chunk_tokens_max + holding.sequences;
    let drawn = (holding.sequences * holding.tokens).div_ceil(width) + 1;
    let most = fill(&mut engine, holding, holding.tokens, drawn)?.max(stepped);
    let mapped = cpu::resident_files().context("see how much memory is of files")?;
    let kv_needed = kv_bytes(config, engine.options());
    Ok(Held { started, model, adapters, stepped, most, mapped, adapters_counted, kv_needed })
}

fn engine(subject: &Subject, holding: &Holding) -> Result<Engine> {
    let class = of_class(&holding.class);
    let (backend, kv, adapters) =
        class.with_context(|| format!("find the class {}", holding.class))?;
    let options = EngineOptions {
        backend,
        kv,
        adapters,
        threads: subject.cores,
        sequences_max: holding.sequences,
        ..EngineOptions::default()
    };
    let pages_max = holding.sequences * holding.tokens.div_ceil(options.page_tokens);
    subject.try_engine(EngineOptions { pages_max, ..options })
}

/// An adapter as a node brings it into memory: from its file, without keeping the file.
pub(crate) fn prepared(
    engine: &Engine,
    config: &ModelConfig,
    path: &Path,
) -> Result<PreparedAdapter> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(PreparedAdapter::from_bundle(config, &bytes, engine.adapter_storage())?)
}

/// Runs all sequences to so many tokens, of which so many are drawn; the most that was resident
/// meanwhile.
fn fill(engine: &mut Engine, holding: &Holding, tokens: usize, drawn: usize) -> Result<u64> {
    let vocab = engine.model().config().vocab.max(1) as u32;
    for number in 0..holding.sequences {
        // No two have a page in common, and none the step before's.
        let token = |at: usize| (at * 31 + number * 977 + tokens) as u32 % vocab;
        let prompt = (0..tokens.saturating_sub(drawn).max(1)).map(token).collect();
        let mut request = Request::greedy(prompt, drawn);
        request.adapters = vec![(id(number % holding.adapters_count.max(1)), 1.0)];
        request.ignore_end = true;
        engine.submit(request)?;
    }
    let mut most = 0;
    while !engine.is_idle() {
        for event in engine.step()? {
            if let Event::Failed { sequence, error } = event {
                bail!("run {sequence}: {error}");
            }
        }
        most = most.max(cpu::resident().context("see how much memory is taken")?);
    }
    ensure!(most > 0, "fill the engine: nothing was run");
    Ok(most)
}

/// What keys and values need: a number for each, and of 8 bits a scale of 32 bits for each head.
fn kv_bytes(config: &ModelConfig, options: &EngineOptions) -> u64 {
    let scale = if options.kv == KvFormat::Q8 { size_of::<f32>() } else { 0 };
    let head = config.head_dim * options.kv.element_bytes() + scale;
    let position = 2 * config.layers * config.kv_heads * head;
    (position * options.pages_max * options.page_tokens) as u64
}

fn id(number: usize) -> BlobId {
    BlobId([number as u8; 32])
}

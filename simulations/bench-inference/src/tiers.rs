//! Where adapters live: how fast one comes from a disk, how fast a loaded one is changed for
//! another, and how many one node holds, in memory and on its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use openledger_inference::{BackendKind, Engine, EngineOptions, Event, Request, SequenceId};
use openledger_models::{Adapter, AdapterBundle, AdapterSpec, ModelConfig, Site, peft};
use openledger_sim::figures::{Figures, Kind};
use openledger_sim::random::Random;
use openledger_wire::ids::BlobId;

use crate::adapters;
use crate::cpu;
use crate::limits::{
    FIRST_USE_MS_MAX, HELD_BYTES_MAX, SWITCH_MS_MAX, TIERS, TIERS_QUICK, TierSizes,
};
use crate::memory::held::prepared;
use crate::speed::median;
use crate::subject::{Class, Subject};

/// Rank of adapters on all projections.
const RANK: usize = 16;

/// Rank of those that change queries and values alone.
const SMALL_RANK: usize = 4;

/// How much the small ones change.
const STRENGTH: f32 = 0.1;

/// Bytes for adapters on disk that are called one after another: far fewer than all take.
const SMALL_MEMORY: usize = 64 << 20;

/// Runs it on a backend; `note` hears what is being done.
///
/// # Errors
/// An engine that fails, or a disk that is full.
pub fn run(
    subject: &Subject,
    quick: bool,
    backend: BackendKind,
    note: &mut dyn FnMut(&str),
) -> Result<Figures> {
    let tiers = Tiers { subject, class: Class::of(backend) };
    let sizes = if quick { TIERS_QUICK } else { TIERS };
    let mut figures = Figures::new("adapters");
    figures.show("model", subject.file_name(), "", Kind::Timed);
    figures.show("class", tiers.class.name(), "", Kind::Timed);
    note("from disk to first use");
    one(&tiers, &sizes, &mut figures)?;
    note(&format!("{} adapters in memory", sizes.held));
    held(&tiers, &sizes, &mut figures, note)?;
    note(&format!("{} adapters on disk", sizes.stored));
    stored(&tiers, &sizes, &mut figures, note)?;
    Ok(figures)
}

/// What holds the adapters.
struct Tiers<'a> {
    subject: &'a Subject,
    class: Class,
}

impl Tiers<'_> {
    fn config(&self) -> &ModelConfig {
        self.subject.model.config()
    }

    fn engine(&self, adapters_bytes_max: usize) -> Result<Engine> {
        let options = EngineOptions {
            threads: self.subject.cores,
            sequences_max: 32,
            adapters_bytes_max,
            ..self.class.options()
        };
        self.subject.try_engine(options)
    }
}

/// Times one adapter's way into the engine, and changes of an adapter that is there.
fn one(tiers: &Tiers<'_>, sizes: &TierSizes, figures: &mut Figures) -> Result<()> {
    let config = tiers.config();
    let folder = tempfile::tempdir().context("make a folder for adapters")?;
    let files = write(folder.path(), 2, &|seed| adapter_file(config, seed))?;
    let mut engine = tiers.engine(1 << 30)?;
    let (mut loads, mut switches) = (Vec::new(), Vec::new());
    for round in 0..sizes.rounds {
        let begun = Instant::now();
        let file = files.get(round % files.len()).context("find an adapter's file")?;
        let ready = prepared(&engine, config, file)?;
        engine.put_prepared(id(round as u64), ready)?;
        loads.push(begun.elapsed().as_secs_f64() * 1e3);
        answer(&mut engine, &[round as u64])?;
        let next = prepared(&engine, config, file)?;
        let begun = Instant::now();
        engine.put_prepared(id(round as u64), next)?;
        let sequence = engine.submit(request(round as u64))?;
        switches.push(begun.elapsed().as_secs_f64() * 1e3);
        engine.cancel(sequence);
        engine.step()?;
    }
    let rounded = |value: f64| (value * 1e4).round() / 1e4;
    let (load, switch) = (median(loads), median(switches));
    let wanted = format!("<= {FIRST_USE_MS_MAX}");
    let fine = quick_or(sizes, load <= FIRST_USE_MS_MAX);
    figures.hold("disk to first use", rounded(load), "ms", Kind::Timed, wanted, fine);
    let wanted = format!("<= {SWITCH_MS_MAX}");
    let fine = quick_or(sizes, switch <= SWITCH_MS_MAX);
    figures.hold("hot switch", rounded(switch), "ms", Kind::Timed, wanted, fine);
    Ok(())
}

/// Quick runs are for busy machines: their times decide nothing.
const fn quick_or(sizes: &TierSizes, fine: bool) -> bool {
    fine || sizes.held < TIERS.held
}

/// As many adapters in memory as a node is to hold, and an answer from each.
fn held(
    tiers: &Tiers<'_>,
    sizes: &TierSizes,
    figures: &mut Figures,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let config = tiers.config();
    let mut engine = tiers.engine(HELD_BYTES_MAX as usize)?;
    for seed in 0..sizes.held {
        engine.put_adapter(id(seed), adapters::adapter(config, seed, RANK)?)?;
        if seed % 100 == 99 {
            note(&format!("{} of {} loaded", seed + 1, sizes.held));
        }
    }
    let ids: Vec<u64> = (0..sizes.held).collect();
    let answers = answer(&mut engine, &ids)?;
    let memory = cpu::resident().context("see how much memory is taken")?;
    figures.equals("adapters held in memory", engine.adapters().len() as u64, sizes.held);
    figures.equals("of those, answered once", answers.len() as u64, sizes.held);
    let different: BTreeSet<Vec<u32>> = answers.into_values().collect();
    figures.show("different answers among them", different.len() as u64, "", Kind::Timed);
    let wanted = format!("<= {HELD_BYTES_MAX}");
    let fine = memory <= HELD_BYTES_MAX;
    figures.hold("memory of the process", memory, "bytes", Kind::Exact, wanted, fine);
    Ok(())
}

/// Many small ones on disk, a few of which fit into memory; random ones are called.
fn stored(
    tiers: &Tiers<'_>,
    sizes: &TierSizes,
    figures: &mut Figures,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let config = tiers.config();
    let folder = tempfile::tempdir().context("make a folder for adapters")?;
    let files = write(folder.path(), sizes.stored, &|seed| small_file(config, seed))?;
    let mut engine = tiers.engine(SMALL_MEMORY)?;
    let begun = Instant::now();
    for seed in 0..sizes.stored {
        engine.register_adapter(id(seed));
    }
    let registered = begun.elapsed().as_secs_f64() * 1e3;
    figures.show("time to register them", (registered * 10.0).round() / 10.0, "ms", Kind::Timed);
    let mut random = Random::new(4, "adapters");
    let mut ids = BTreeSet::new();
    while (ids.len() as u64) < sizes.called.min(sizes.stored) {
        ids.insert(random.below(sizes.stored));
    }
    note(&format!("calling {} of them", ids.len()));
    let mut open = BTreeMap::new();
    let mut queue: Vec<u64> = ids.iter().copied().collect();
    let mut answered = 0u64;
    let begun = Instant::now();
    while !queue.is_empty() || !open.is_empty() {
        while let Some(next) = queue.last().copied().filter(|_| open.len() < 64) {
            open.insert(engine.submit(request(next))?, next);
            queue.pop();
        }
        for wanted in engine.wanted() {
            let seed = seed_of(&wanted);
            let file = files.get(seed as usize).context("find an adapter's file")?;
            let ready = prepared(&engine, config, file)?;
            // Without room it is wanted again.
            let _ = engine.deliver(wanted, ready);
        }
        for event in engine.step()? {
            match event {
                Event::Finished { sequence, .. } => {
                    open.remove(&sequence).context("an answer that nobody asked for")?;
                    answered += 1;
                }
                Event::Failed { sequence, error } => bail!("run {sequence}: {error}"),
                Event::Token { .. } => {}
            }
        }
    }
    let rate = answered as f64 / begun.elapsed().as_secs_f64();
    figures.equals("adapters registered on disk", files.len() as u64, sizes.stored);
    figures.equals("random ones called and answered", answered, ids.len() as u64);
    figures.show("calls answered", (rate * 10.0).round() / 10.0, "/s", Kind::Timed);
    let bytes: usize = engine.adapters().iter().map(|(_, _, bytes)| bytes).sum();
    let wanted = format!("<= {SMALL_MEMORY}");
    let fine = bytes <= SMALL_MEMORY;
    figures.hold("memory of adapters meanwhile", bytes, "bytes", Kind::Exact, wanted, fine);
    Ok(())
}

/// Writes so many files.
fn write(folder: &Path, count: u64, file: &dyn Fn(u64) -> Result<Vec<u8>>) -> Result<Vec<PathBuf>> {
    let one = |seed: u64| {
        let path = folder.join(format!("{seed}.safetensors"));
        fs::write(&path, file(seed)?).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    };
    (0..count).map(one).collect()
}

fn adapter_file(config: &ModelConfig, seed: u64) -> Result<Vec<u8>> {
    let (json, tensors) = peft::synthesize(config, seed, RANK, STRENGTH);
    Ok(AdapterBundle::pack(&json, &tensors)?)
}

/// An adapter of queries and values alone.
fn small_file(config: &ModelConfig, seed: u64) -> Result<Vec<u8>> {
    let (json, tensors) = peft::synthesize(config, seed, SMALL_RANK, STRENGTH);
    let mut adapter = Adapter::parse(&json, &tensors, config)?;
    let sites = BTreeSet::from([Site::Query, Site::Value]);
    adapter.deltas.retain(|(_, site), _| sites.contains(site));
    let spec = AdapterSpec {
        rank: SMALL_RANK,
        alpha: SMALL_RANK as f32,
        sites,
        base_name: config.name.clone(),
    };
    let (json, tensors) = peft::write(&spec, &adapter.deltas);
    Ok(AdapterBundle::pack(&json, &tensors)?)
}

fn id(seed: u64) -> BlobId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    BlobId(bytes)
}

fn seed_of(id: &BlobId) -> u64 {
    id.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn request(seed: u64) -> Request {
    let mut request = Request::greedy((1..24).collect(), 1);
    request.adapters = vec![(id(seed), 1.0)];
    request.ignore_end = true;
    request
}

/// One call of each: two tokens, so that every adapter takes part in a prompt and in a step.
fn answer(engine: &mut Engine, seeds: &[u64]) -> Result<BTreeMap<u64, Vec<u32>>> {
    let mut answers = BTreeMap::new();
    for seeds in seeds.chunks(engine.options().sequences_max.max(1)) {
        let mut open: BTreeMap<SequenceId, u64> = BTreeMap::new();
        for seed in seeds {
            let mut request = request(*seed);
            request.tokens_max = 4;
            open.insert(engine.submit(request)?, *seed);
        }
        while !engine.is_idle() {
            for event in engine.step()? {
                match event {
                    Event::Token { sequence, token, .. } => {
                        let seed = open.get(&sequence).context("a token that nobody asked for")?;
                        answers.entry(*seed).or_insert_with(Vec::new).push(token);
                    }
                    Event::Failed { sequence, error } => bail!("run {sequence}: {error}"),
                    Event::Finished { .. } => {}
                }
            }
        }
    }
    ensure!(answers.values().all(|tokens| tokens.len() == 4), "an answer is too short");
    Ok(answers)
}

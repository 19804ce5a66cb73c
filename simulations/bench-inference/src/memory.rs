//! What an engine takes in memory, beside llama.cpp with as much to hold, and what keys and values
//! of 8 bits cost in perplexity.
//!
//! Each subject is a process of its own, whose resident bytes are read after each thing that is put
//! there: the model, the adapters, a step of full width, and last all keys and values. llama.cpp's
//! process counts from before it loads the model, so without its Python; ours ([`held`]) counts
//! whole. Both read the adapters from files of 16-bit numbers, as published ones have.

pub mod held;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use openledger_models::{AdapterBundle, peft};
use openledger_sim::figures::{Figures, Kind};
use serde::Deserialize;

use crate::adapters::{self, Width};
use crate::limits::{
    KV_TOUCHED_PERCENT_MIN, MEMORY, MEMORY_F16_RATIO_MAX, MEMORY_Q8_RATIO_MAX, MEMORY_QUICK,
    MemorySizes, PERPLEXITY_RISE_MAX, TIMED_ADAPTER_RANK,
};
use crate::peer::{Peer, Request};
use crate::sequences::Sequences;
use crate::subject::{Class, Subject};
use held::Held;

/// The classes, with the most of llama.cpp's bytes that each may take.
const CLASSES: [(Class, f64); 2] =
    [(Class::CPU, MEMORY_F16_RATIO_MAX), (Class::CPU_KV8, MEMORY_Q8_RATIO_MAX)];

/// Runs it; `note` hears what is being done.
///
/// # Errors
/// A peer or an engine that fails.
pub fn run(subject: &Subject, quick: bool, note: &mut dyn FnMut(&str)) -> Result<Figures> {
    let sizes = if quick { MEMORY_QUICK } else { MEMORY };
    let mut figures = Figures::new("memory");
    figures.show("model", subject.file_name(), "", Kind::Exact);
    figures.show("sequences", sizes.sequences, "", Kind::Exact);
    figures.show("tokens of each", sizes.tokens, "", Kind::Exact);
    figures.show("adapters", sizes.adapters, "", Kind::Exact);
    let folder = tempfile::tempdir().context("make a folder for adapters")?;
    write_adapters(subject, &sizes, folder.path())?;
    note("llama.cpp");
    let (name, theirs) = theirs(subject, &sizes, folder.path())?;
    theirs.show(&mut figures, &name);
    for (class, ratio) in CLASSES {
        note(class.name());
        let ours = ours(subject, class, &sizes, folder.path())?;
        show(&mut figures, class, &ours);
        let what = format!("{}: memory", class.name());
        figures.beside(&what, ours.most, "bytes", Kind::Exact, &name, theirs.ran);
        if let Some(figure) = figures.figures.last_mut().filter(|_| !quick) {
            figure.bar = Some(format!("<= {ratio} of the peer's"));
            figure.ok = ours.most as f64 <= ratio * theirs.ran as f64;
        }
    }
    show_perplexity(subject, &sizes, &mut figures, note)?;
    Ok(figures)
}

/// The adapters in both forms, by number.
fn write_adapters(subject: &Subject, sizes: &MemorySizes, folder: &Path) -> Result<()> {
    let config = subject.model.config();
    for number in 0..sizes.adapters {
        let seed = number as u64;
        let (json, tensors) =
            peft::synthesize(config, seed, TIMED_ADAPTER_RANK, adapters::STRENGTH);
        let path = folder.join(format!("{number}.safetensors"));
        std::fs::write(&path, AdapterBundle::pack(&json, &tensors)?)
            .with_context(|| format!("write {}", path.display()))?;
        let adapter = adapters::adapter(config, seed, TIMED_ADAPTER_RANK)?;
        adapters::write(&adapter, config, folder, &format!("{number}.gguf"), Width::F16)?;
    }
    Ok(())
}

/// What llama.cpp takes, after each thing that it is given: in bytes, all together.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Theirs {
    model: u64,
    adapters: u64,
    context: u64,
    ran: u64,
}

impl Theirs {
    fn show(&self, figures: &mut Figures, name: &str) {
        let Self { model, adapters, context, ran } = *self;
        for (part, before, after) in [
            ("the model's file, mapped", 0, model),
            ("adapters", model, adapters),
            ("keys and values, and buffers", adapters, context),
            ("first use", context, ran),
        ] {
            let bytes = after.saturating_sub(before);
            figures.show(&format!("{name}: {part}"), bytes, "bytes", Kind::Timed);
        }
    }
}

/// Its name, and what it takes.
fn theirs(subject: &Subject, sizes: &MemorySizes, folder: &Path) -> Result<(String, Theirs)> {
    let mut peer = Peer::start(&subject.python, &subject.path, subject.cores)?;
    let file = |number: usize| folder.join(format!("{number}.gguf"));
    let adapters: Vec<_> = (0..sizes.adapters).map(file).collect();
    let (sequences, tokens) = (sizes.sequences, sizes.tokens);
    let request = Request::Memory { adapters: &adapters, sequences, tokens };
    let theirs = peer.ask::<Theirs>(&request)?;
    Ok((peer.name(), theirs))
}

/// What a process takes with an engine that holds as much: this program again, as a holder.
fn ours(subject: &Subject, class: Class, sizes: &MemorySizes, folder: &Path) -> Result<Held> {
    let this = std::env::current_exe().context("find this program")?;
    let output = Command::new(this)
        .args(["hold", "--class", class.name(), "--model"])
        .arg(&subject.path)
        .arg("--adapters")
        .arg(folder)
        .args(["--adapters-count", &sizes.adapters.to_string()])
        .args(["--sequences", &sizes.sequences.to_string()])
        .args(["--tokens", &sizes.tokens.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("start this program as a holder")?;
    ensure!(
        output.status.success(),
        "hold {}: the holder ended by {}",
        class.name(),
        output.status
    );
    serde_json::from_slice(&output.stdout).context("read what the holder says")
}

/// The parts of an engine.
fn show(figures: &mut Figures, class: Class, held: &Held) {
    let name = |part: &str| format!("{}: {part}", class.name());
    for (part, before, after) in [
        ("the program", 0, held.started),
        ("weights, packed", held.started, held.model),
        ("adapters", held.model, held.adapters),
        ("a step of full width", held.adapters, held.stepped),
        ("keys and values", held.stepped, held.most),
    ] {
        let bytes = after.saturating_sub(before);
        figures.show(&name(part), bytes, "bytes", Kind::Timed);
    }
    figures.show(&name("of all, mapped files"), held.mapped, "bytes", Kind::Timed);
    let counted = name("adapters, by the engine's count");
    figures.show(&counted, held.adapters_counted, "bytes", Kind::Exact);
    let needed = held.kv_needed * KV_TOUCHED_PERCENT_MIN / 100;
    let touched = held.most.saturating_sub(held.adapters);
    let wanted = format!(">= {needed}");
    let what = name("keys and values, with the step's room, in memory");
    figures.hold(&what, touched, "bytes", Kind::Exact, wanted, touched >= needed);
}

/// What keys and values of 8 bits do to perplexity, and to the distributions behind it.
fn show_perplexity(
    subject: &Subject,
    sizes: &MemorySizes,
    figures: &mut Figures,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let file = std::fs::read(&subject.path).context("read the model")?;
    let all = Sequences::of(&file, subject.model.tokenizer())?.tokens.concat();
    ensure!(!all.is_empty(), "measure perplexity: there are no texts");
    let length = sizes.text_tokens.min(subject.model.config().context).min(all.len());
    let texts = all.chunks(length).filter(|text| text.len() * 2 > length).take(sizes.texts);
    let (mut surprise, mut count) = ([0.0; 2], 0usize);
    for (number, text) in texts.enumerate() {
        note(&format!("perplexity: text {}, {} tokens", number + 1, text.len()));
        for ((class, _), surprise) in CLASSES.iter().zip(&mut surprise) {
            *surprise += self::surprise(subject, *class, text)?;
        }
        count += text.len() - 1;
    }
    let [wide, narrow] = surprise.map(|surprise| (surprise / count.max(1) as f64).exp());
    let rounded = |value: f64| (value * 1e5).round() / 1e5;
    figures.show("perplexity: tokens", count, "", Kind::Exact);
    figures.show("perplexity, keys and values of 16 bits", rounded(wide), "", Kind::Exact);
    figures.show("perplexity, keys and values of 8 bits", rounded(narrow), "", Kind::Exact);
    let rise = narrow / wide - 1.0;
    let wanted = format!("<= {PERPLEXITY_RISE_MAX}");
    let fine = rise <= PERPLEXITY_RISE_MAX;
    figures.hold("rise of perplexity", rounded(rise), "", Kind::Exact, wanted, fine);
    Ok(())
}

/// The surprise at each next token of a text, summed, in nats.
fn surprise(subject: &Subject, class: Class, text: &[u32]) -> Result<f64> {
    let mut engine = subject.engine_of(class, subject.cores)?;
    let mut surprise = 0.0;
    let mut next = text.iter().skip(1);
    engine.each_logits(text, &[], 0, &mut |_, logits| {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|l| (f64::from(*l) - f64::from(top)).exp()).sum();
        if let Some(own) = next.next().and_then(|next| logits.get(*next as usize)) {
            surprise += f64::from(top) + sum.ln() - f64::from(*own);
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(surprise)
}

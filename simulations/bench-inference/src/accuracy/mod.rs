//! How far rounding takes an engine from its model's definition, beside how far it takes
//! llama.cpp.
//!
//! Logits of whole texts, of every class of this engine and of llama.cpp as its package ships it,
//! against [`exact`]. The same with an adapter. Of any model file: those that the README names
//! hold seven formats between them.

pub mod exact;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use openledger_inference::{Engine, EngineOptions, of_class};
use openledger_models::Adapter;
use openledger_sim::figures::{Figures, Kind};
use openledger_wire::ids::BlobId;

use crate::adapters;
use crate::limits::{
    ACCURACY, ACCURACY_QUICK, AccuracySizes, ERROR_RATIO_MAX, KL_MAX, PEER_THREADS, TOP_PERCENT_MIN,
};
use crate::peer::{Peer, Request};
use crate::sequences::Sequences;
use crate::subject::Subject;
use exact::Exact;

/// The classes that are measured on the bare base.
const BASE_CLASSES: [&str; 4] =
    ["cpu-reference-1", "cpu-int12-1/kv-f32", "cpu-int12-1", "cpu-int12-1/kv-q8"];

/// Those that are measured with an adapter.
const ADAPTER_CLASSES: [&str; 3] = ["cpu-reference-1", "cpu-int12-1/lora-f16", "cpu-int12-1"];

/// Rank of the adapter.
const RANK: usize = 16;

/// How far logits lie from exact ones, over many positions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Error {
    positions: usize,
    /// Squares of differences, and of what is exact.
    difference: f64,
    exact: f64,
    divergence: f64,
    equal: usize,
}

impl Error {
    /// Takes in a text's logits.
    fn add(&mut self, found: &[f32], exact: &[f32]) {
        self.positions += 1;
        for (found, exact) in found.iter().zip(exact) {
            self.difference += (f64::from(*found) - f64::from(*exact)).powi(2);
            self.exact += f64::from(*exact).powi(2);
        }
        self.divergence += divergence(exact, found);
        self.equal += usize::from(top(found) == top(exact));
    }

    /// Length of the difference over the length of what is exact.
    #[must_use]
    pub fn relative(&self) -> f64 {
        (self.difference / self.exact).sqrt()
    }

    /// Mean Kullback-Leibler divergence of the distributions, in nats.
    #[must_use]
    pub fn mean_divergence(&self) -> f64 {
        self.divergence / self.positions.max(1) as f64
    }

    /// Of a hundred positions those with the same likeliest token.
    #[must_use]
    pub fn top_percent(&self) -> f64 {
        self.equal as f64 * 100.0 / self.positions.max(1) as f64
    }
}

/// How much the distribution of `found` tells less than that of `exact`.
fn divergence(exact: &[f32], found: &[f32]) -> f64 {
    let total = |logits: &[f32]| {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|l| (f64::from(*l) - f64::from(top)).exp()).sum();
        f64::from(top) + sum.ln()
    };
    let (p, q) = (total(exact), total(found));
    let one = |(exact, found): (&f32, &f32)| {
        let (exact, found) = (f64::from(*exact) - p, f64::from(*found) - q);
        exact.exp() * (exact - found)
    };
    exact.iter().zip(found).map(one).sum()
}

fn top(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|a, b| {
        logits
            .get(*a)
            .partial_cmp(&logits.get(*b))
            .unwrap_or(core::cmp::Ordering::Equal)
            .then(b.cmp(a))
    })
}

/// Runs it; `note` hears what is being done.
///
/// # Errors
/// A peer or an engine that fails.
pub fn run(subject: &Subject, quick: bool, note: &mut dyn FnMut(&str)) -> Result<Figures> {
    let sizes = if quick { ACCURACY_QUICK } else { ACCURACY };
    let mut figures = Figures::new("accuracy");
    figures.show("model", subject.file_name(), "", Kind::Exact);
    let mut peer = Peer::start(&subject.python, &subject.path, PEER_THREADS)?;
    let texts = texts(subject, &sizes)?;
    let folder = tempfile::tempdir().context("make a folder for logits and adapters")?;
    note("the bare base");
    let bench = Bench { subject, folder: folder.path(), texts: &texts };
    let base = bench.measure(&mut peer, None, &BASE_CLASSES, note)?;
    hold(&mut figures, "base", &peer.name(), &base);
    note("with an adapter");
    let adapter = adapters::adapter(subject.model.config(), 1, RANK)?;
    let adapted = bench.measure(&mut peer, Some(&adapter), &ADAPTER_CLASSES, note)?;
    hold(&mut figures, "adapter", &peer.name(), &adapted);
    let of = |class: &str| adapted.iter().find(|(name, _)| name == class).map(|(_, error)| *error);
    if let (Some(plain), Some(packed)) = (of("cpu-int12-1/lora-f16"), of("cpu-int12-1")) {
        let more = packed.mean_divergence() - plain.mean_divergence();
        let wanted = format!("<= {KL_MAX}");
        let name = "adapter: divergence added by keeping it in 8 bits";
        figures.hold(name, rounded(more), "nats", Kind::Exact, wanted, more <= KL_MAX);
    }
    Ok(figures)
}

/// The name under which llama.cpp's error stands among those of the classes.
const PEER: &str = "llama.cpp";

struct Bench<'a> {
    subject: &'a Subject,
    folder: &'a Path,
    texts: &'a [Vec<u32>],
}

impl Bench<'_> {
    /// The errors of classes, and last of llama.cpp.
    fn measure(
        &self,
        peer: &mut Peer,
        adapter: Option<&Adapter>,
        classes: &[&str],
        note: &mut dyn FnMut(&str),
    ) -> Result<Vec<(String, Error)>> {
        let config = self.subject.model.config();
        let exact = Exact::new(&self.subject.model, adapter, self.subject.cores);
        let mut engines = Vec::new();
        for class in classes {
            engines.push((*class, self.engine(class, adapter)?));
        }
        let file = match adapter {
            Some(adapter) => Some(adapters::write(adapter, config, self.folder, "adapter.gguf")?),
            None => None,
        };
        let mut errors = vec![Error::default(); classes.len() + 1];
        let named: Vec<_> = adapter.iter().map(|_| (ADAPTER, 1.0)).collect();
        for (number, text) in self.texts.iter().enumerate() {
            note(&format!("text {} of {}: {} tokens", number + 1, self.texts.len(), text.len()));
            let wanted = exact.logits(text)?;
            for ((_, engine), error) in engines.iter_mut().zip(&mut errors) {
                let found = engine.logits_of(text, &named)?;
                found.iter().zip(&wanted).for_each(|(found, wanted)| error.add(found, wanted));
            }
            let theirs = self.theirs(peer, text, file.as_deref(), config.vocab)?;
            if let Some(error) = errors.last_mut() {
                theirs.iter().zip(&wanted).for_each(|(found, wanted)| error.add(found, wanted));
            }
        }
        let names = classes.iter().copied().chain([PEER]).map(str::to_owned);
        Ok(names.zip(errors).collect())
    }

    fn engine(&self, class: &str, adapter: Option<&Adapter>) -> Result<Engine> {
        let (backend, kv, adapters) =
            of_class(class).with_context(|| format!("find the class {class}"))?;
        let threads = self.subject.cores;
        let options = EngineOptions { backend, kv, adapters, threads, ..EngineOptions::default() };
        let mut engine = Engine::new(self.subject.model.clone(), options)?;
        if let Some(adapter) = adapter {
            engine.put_adapter(ADAPTER, adapter.clone())?;
        }
        Ok(engine)
    }

    /// llama.cpp's logits, which come in a file: they are too many for a line.
    fn theirs(
        &self,
        peer: &mut Peer,
        tokens: &[u32],
        adapter: Option<&Path>,
        vocab: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let path = self.folder.join("logits");
        let request = Request::Logits { tokens, adapter, path: &path };
        peer.ask::<serde_json::Value>(&request)?;
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let needed = tokens.len() * vocab * size_of::<f32>();
        ensure!(
            bytes.len() == needed,
            "read llama.cpp's logits: {} bytes of {needed}",
            bytes.len()
        );
        let numbers: Vec<f32> =
            bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
        Ok(numbers.chunks(vocab).map(<[f32]>::to_vec).collect())
    }
}

/// What the adapter is called.
const ADAPTER: BlobId = BlobId([16; 32]);

/// Texts of a length, put together from the committed ones.
fn texts(subject: &Subject, sizes: &AccuracySizes) -> Result<Vec<Vec<u32>>> {
    let file = fs::read(&subject.path).context("read the model")?;
    let all = Sequences::of(&file, subject.model.tokenizer())?.tokens.concat();
    ensure!(!all.is_empty(), "make texts: there are no tokens");
    let text = |number: usize| {
        let start = number * all.len() / sizes.texts.max(1);
        all.iter().cycle().skip(start).take(sizes.tokens).copied().collect()
    };
    Ok((0..sizes.texts).map(text).collect())
}

/// Three significant digits: more do not repeat between machines for the peer.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let places = 10f64.powf(2.0 - value.abs().log10().floor());
    (value * places).round() / places
}

/// Shows what was measured, with the bars of what nodes serve with.
fn hold(figures: &mut Figures, case: &str, peer: &str, errors: &[(String, Error)]) {
    let Some((_, theirs)) = errors.last() else { return };
    for (class, error) in errors.iter().filter(|(class, _)| class != PEER) {
        let name = |what: &str| format!("{case}: {class}: {what}");
        let relative = name("relative error of logits");
        let (own, other) = (rounded(error.relative()), rounded(theirs.relative()));
        figures.beside(&relative, own, "", Kind::Exact, peer, other);
        if let Some(figure) = figures.figures.last_mut() {
            figure.bar = Some(format!("<= {ERROR_RATIO_MAX} of the peer's"));
            figure.ok = error.relative() <= ERROR_RATIO_MAX * theirs.relative();
        }
        let divergence = name("divergence");
        let (own, other) = (error.mean_divergence(), theirs.mean_divergence());
        figures.beside(&divergence, rounded(own), "nats", Kind::Exact, peer, rounded(other));
        if let Some(figure) = figures.figures.last_mut() {
            figure.bar = Some(format!("<= {KL_MAX}"));
            figure.ok = own <= KL_MAX;
        }
        let likeliest = name("same likeliest token");
        let (own, other) = (error.top_percent(), theirs.top_percent());
        figures.beside(&likeliest, rounded(own), "%", Kind::Exact, peer, rounded(other));
        if let Some(figure) = figures.figures.last_mut() {
            figure.bar = Some(format!(">= {TOP_PERCENT_MIN}"));
            figure.ok = own >= TOP_PERCENT_MIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_their_definitions() {
        let mut error = Error::default();
        error.add(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]);
        assert_eq!(
            (error.relative(), error.mean_divergence(), error.top_percent()),
            (0.0, 0.0, 100.0)
        );
        error.add(&[3.0, 0.0, 0.0], &[0.0, 0.0, 4.0]);
        assert!((error.relative() - (25.0f64 / 30.0).sqrt()).abs() < 1e-12);
        assert_eq!(error.top_percent(), 50.0);
        // ln of two thirds and a third against halves.
        let found = divergence(&[2f32.ln(), 0.0], &[0.0, 0.0]);
        let expected = 2.0 / 3.0 * (4.0f64 / 3.0).ln() + (2.0f64 / 3.0).ln() / 3.0;
        assert!((found - expected).abs() < 1e-6);
        assert_eq!(top(&[1.0, 5.0, 5.0]), Some(1));
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(rounded(0.012_345), 0.0123);
        assert_eq!(rounded(98.765), 98.8);
        assert_eq!(rounded(0.0), 0.0);
        assert_eq!(rounded(f64::NAN), 0.0);
    }
}

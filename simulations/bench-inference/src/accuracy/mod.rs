//! How far rounding takes an engine from its model's definition, beside how far it takes
//! llama.cpp.
//!
//! Logits of whole texts, of every class of every backend that this machine has and of llama.cpp as
//! its package ships it, against [`exact`]. The same with an adapter, and the adapter's own product
//! against PEFT's formula ([`product`]); and once a context of thousands of tokens ([`long`]). Of any
//! model file: those that the README names hold seven formats between them.

pub mod exact;
pub mod long;
pub mod product;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use openledger_inference::{BackendKind, Engine, KvFormat, LoraFormat, of_class};
use openledger_models::Adapter;
use openledger_sim::figures::{Figures, Kind};
use openledger_wire::ids::BlobId;

use crate::adapters::{self, Width};
use crate::limits::{
    ACCURACY, ACCURACY_QUICK, AccuracySizes, ERROR_RATIO_MAX, KL_MAX, PEER_THREADS,
    TIMED_ADAPTER_RANK, TOP_PERCENT_MIN,
};
use crate::peer::{Peer, Request};
use crate::sequences::Sequences;
use crate::subject::{Class, Subject};
use exact::Exact;

/// The formats that are measured on the bare base, of each backend that has them.
const BASE_KV: [KvFormat; 3] = [KvFormat::F32, KvFormat::F16, KvFormat::Q8];

/// The formats of adapters that are measured.
const ADAPTER_FORMATS: [LoraFormat; 2] = [LoraFormat::F16, LoraFormat::Q8];

/// The backends beside the reference.
const BACKENDS: [BackendKind; 4] =
    [BackendKind::Int12, BackendKind::Int12Whole, BackendKind::Wgpu, BackendKind::Onnx];

/// Which classes there are to measure: of one backend, or of all that this machine has.
#[derive(Debug)]
struct Classes {
    base: Vec<Class>,
    adapted: Vec<Class>,
}

impl Classes {
    fn of(
        subject: &Subject,
        backend: Option<BackendKind>,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let wanted = |kind: &BackendKind| backend.is_none_or(|backend| backend == *kind);
        let reference = Some(Class::REFERENCE).filter(|class| wanted(&class.backend));
        let backends = || BACKENDS.into_iter().filter(wanted);
        let base =
            backends().flat_map(|kind| BASE_KV.map(|kv| Class::new(kind, kv, LoraFormat::Q8)));
        let adapted = backends()
            .flat_map(|kind| ADAPTER_FORMATS.map(|lora| Class::new(kind, KvFormat::F16, lora)));
        let base: Vec<Class> = reference.into_iter().chain(base).collect();
        let adapted: Vec<Class> = reference.into_iter().chain(adapted).collect();
        let classes = Self {
            base: subject.available(&base, note),
            adapted: subject.available(&adapted, &mut |_| ()),
        };
        ensure!(!classes.base.is_empty(), "measure a backend: this machine has none of these");
        Ok(classes)
    }
}

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

/// What to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A short text alone.
    pub quick: bool,
    /// One backend; all without.
    pub backend: Option<BackendKind>,
    /// The long context, instead of the rest.
    pub long: bool,
}

/// Runs it on one model after the other; `note` hears what is being done.
///
/// # Errors
/// A peer or an engine that fails.
pub fn run(subjects: &[Subject], asked: &Asked, note: &mut dyn FnMut(&str)) -> Result<Figures> {
    let mut figures = Figures::new("accuracy");
    for subject in subjects {
        let name = &subject.model.config().architecture;
        figures.show(&format!("{name}: model"), subject.file_name(), "", Kind::Exact);
        let mut classes = Classes::of(subject, asked.backend, note)?;
        if asked.quick {
            // As nodes serve, by each backend.
            let served = |class: &Class| *class == Class::of(class.backend);
            classes.base.retain(served);
            classes.adapted.retain(served);
        }
        if asked.long {
            long::run(subject, &classes.base, &mut figures, note)?;
        } else {
            texts_of(subject, &classes, asked.quick, &mut figures, note)?;
        }
    }
    Ok(figures)
}

/// Whole texts, without an adapter and with one.
fn texts_of(
    subject: &Subject,
    classes: &Classes,
    quick: bool,
    figures: &mut Figures,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let name = &subject.model.config().architecture;
    let sizes = if quick { ACCURACY_QUICK } else { ACCURACY };
    let mut peer = Peer::start(&subject.python, &subject.path, PEER_THREADS)?;
    let texts = texts(subject, &sizes)?;
    let folder = tempfile::tempdir().context("make a folder for logits and adapters")?;
    note(&format!("{name}: the bare base"));
    let bench = Bench { subject, folder: folder.path(), texts: &texts };
    let base = bench.measure(&mut peer, None, &classes.base, note)?;
    hold(figures, &format!("{name}: base"), &peer.name(), &base);
    note(&format!("{name}: with an adapter"));
    let adapter = adapters::adapter(subject.model.config(), 1, TIMED_ADAPTER_RANK)?;
    product::show(subject, &adapter, figures)?;
    let adapted = bench.measure(&mut peer, Some(&adapter), &classes.adapted, note)?;
    hold(figures, &format!("{name}: adapter"), &peer.name(), &adapted);
    for backend in BACKENDS {
        let of = |format| {
            let class = Class::new(backend, KvFormat::F16, format).name();
            adapted.iter().find(|(name, _)| name == class).map(|(_, error)| *error)
        };
        if let (Some(plain), Some(packed)) = (of(LoraFormat::F16), of(LoraFormat::Q8)) {
            let more = packed.mean_divergence() - plain.mean_divergence();
            let wanted = format!("<= {KL_MAX}");
            let class = Class::of(backend).name();
            let what = format!("{name}: adapter: {class}: divergence added by 8 bits");
            figures.hold(&what, rounded(more), "nats", Kind::Exact, wanted, more <= KL_MAX);
        }
    }
    Ok(())
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
        classes: &[Class],
        note: &mut dyn FnMut(&str),
    ) -> Result<Vec<(String, Error)>> {
        let config = self.subject.model.config();
        let exact = Exact::new(&self.subject.model, adapter, self.subject.cores);
        let mut engines = Vec::new();
        for class in classes {
            engines.push(self.engine(*class, adapter)?);
        }
        let file = match adapter {
            Some(adapter) => {
                Some(adapters::write(adapter, config, self.folder, "adapter.gguf", Width::F32)?)
            }
            None => None,
        };
        let mut errors = vec![Error::default(); classes.len() + 1];
        let named: Vec<_> = adapter.iter().map(|_| (ADAPTER, 1.0)).collect();
        for (number, text) in self.texts.iter().enumerate() {
            note(&format!("text {} of {}: {} tokens", number + 1, self.texts.len(), text.len()));
            let wanted = exact.logits(text)?;
            for (engine, error) in engines.iter_mut().zip(&mut errors) {
                let found = engine.logits_of(text, &named)?;
                found.iter().zip(&wanted).for_each(|(found, wanted)| error.add(found, wanted));
            }
            let theirs = self.theirs(peer, text, file.as_deref(), config.vocab)?;
            if let Some(error) = errors.last_mut() {
                theirs.iter().zip(&wanted).for_each(|(found, wanted)| error.add(found, wanted));
            }
        }
        let names = classes.iter().map(|class| class.name()).chain([PEER]).map(str::to_owned);
        Ok(names.zip(errors).collect())
    }

    fn engine(&self, class: Class, adapter: Option<&Adapter>) -> Result<Engine> {
        let mut engine = self.subject.engine_of(class, self.subject.cores)?;
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
        read_logits(&path, tokens.len(), vocab)
    }
}

/// The logits of so many positions from a file of the peer's.
fn read_logits(path: &Path, positions: usize, vocab: usize) -> Result<Vec<Vec<f32>>> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let (found, needed) = (bytes.len(), positions * vocab * size_of::<f32>());
    ensure!(found == needed, "read llama.cpp's logits: {found} bytes of {needed}");
    let numbers: Vec<f32> =
        bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
    Ok(numbers.chunks(vocab).map(<[f32]>::to_vec).collect())
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

/// Shows what was measured beside the peer's. Keys and values of 8 bits are a choice of who serves
/// with them, whose price is shown; the rest has bars.
fn hold(figures: &mut Figures, case: &str, peer: &str, errors: &[(String, Error)]) {
    let Some((_, theirs)) = errors.last() else { return };
    for (class, error) in errors.iter().filter(|(class, _)| class != PEER) {
        let held = of_class(class).is_some_and(|(_, kv, _)| kv != KvFormat::Q8);
        let mut show = |what: &str, [own, other]: [f64; 2], unit: &str, bar: String, fine: bool| {
            let name = format!("{case}: {class}: {what}");
            figures.beside(&name, rounded(own), unit, Kind::Exact, peer, rounded(other));
            if let Some(figure) = figures.figures.last_mut().filter(|_| held) {
                figure.bar = Some(bar);
                figure.ok = fine;
            }
        };
        let both = [error.relative(), theirs.relative()];
        let fine = both[0] <= ERROR_RATIO_MAX * both[1];
        let bar = format!("<= {ERROR_RATIO_MAX} of the peer's");
        show("relative error of logits", both, "", bar, fine);
        let both = [error.mean_divergence(), theirs.mean_divergence()];
        show("divergence", both, "nats", format!("<= {KL_MAX}"), both[0] <= KL_MAX);
        let both = [error.top_percent(), theirs.top_percent()];
        // Of few positions one odd token decides.
        let fine = both[0] >= TOP_PERCENT_MIN || error.positions < ACCURACY.tokens;
        show("same likeliest token", both, "%", format!(">= {TOP_PERCENT_MIN}"), fine);
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

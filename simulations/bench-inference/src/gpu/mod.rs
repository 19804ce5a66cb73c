//! A graphics processor: what it reads a second, what decoding makes of that, and what a model of
//! eight billion weights takes of its memory.
//!
//! Decoding is bound by what must be read for each step: all weights once, and the adapters of all
//! sequences. How much of the device's bandwidth that is says how good the kernels are, on a device
//! of any size. Where there is no device it is said, and nothing fails.

mod bandwidth;
mod decode;
mod synthetic;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use openledger_gpu::{DeviceChoice, DeviceInfo, Gpu};
use openledger_inference::{Engine, EngineOptions, GpuBackend, GpuOptions};
use openledger_models::{Model, Weight};
use openledger_sim::figures::{Figures, Kind};

use crate::cpu;
use crate::limits::{
    BETWEEN_TOKENS_MS_MAX, GPU, GPU_BYTES_MAX, GPU_LARGE, GPU_QUICK, GPU_SWITCH_MS_MAX,
    GPU_TOKENS_PER_SECOND_MIN, GpuSizes,
};
use crate::subject::{Class, Subject};

/// Runs it on the best device, perhaps one that is software; `note` hears what is being done.
///
/// # Errors
/// A device or an engine that fails.
pub fn run(
    subject: &Subject,
    quick: bool,
    software: bool,
    note: &mut dyn FnMut(&str),
) -> Result<Figures> {
    let mut figures = Figures::new("gpu");
    let found = Gpu::list();
    let named: Vec<String> = found.iter().map(ToString::to_string).collect();
    figures.show("devices", named.join("; "), "", Kind::Timed);
    let Some(info) = found.into_iter().find(|device| software || device.usable()) else {
        note("there is no graphics processor here; --software takes one that is software");
        figures.show("device", "none", "", Kind::Timed);
        return Ok(figures);
    };
    let sizes = if quick || !info.usable() { GPU_QUICK } else { GPU };
    figures.show("device", info.to_string(), "", Kind::Timed);
    figures.show("driver", info.driver.clone(), "", Kind::Timed);
    let device = Device { info, software, sizes };
    note(&format!("reading from {}", device.info));
    let bandwidth = device.bandwidth()?;
    let giga = |bytes: f64| (bytes / 1e7).round() / 100.0;
    figures.show("bandwidth", giga(bandwidth), "GB/s", Kind::Timed);
    device.measure(&subject.model, subject.file_name(), bandwidth, &mut figures, note)?;
    if sizes.large {
        device.measure_large(bandwidth, &mut figures, note)?;
    }
    Ok(figures)
}

/// What is measured.
struct Device {
    info: DeviceInfo,
    software: bool,
    sizes: GpuSizes,
}

impl Device {
    /// Bytes a second.
    fn bandwidth(&self) -> Result<f64> {
        let choice = DeviceChoice { allow_software: self.software, ..DeviceChoice::default() };
        let gpu = Gpu::open(&choice)?;
        bandwidth::measure(&gpu, self.sizes.bandwidth_bytes, self.sizes.rounds)
    }

    /// An engine for the widest batch, and the bytes that its backend takes.
    fn engine(&self, model: &Arc<Model>, tokens: usize) -> Result<(Engine, u64)> {
        let options = EngineOptions {
            threads: 1,
            sequences_max: self.widest(),
            adapters_bytes_max: self.sizes.adapters_bytes,
            prefix_cache: false,
            ..Class::GPU.options()
        };
        let pages_max = self.widest() * tokens.div_ceil(options.page_tokens);
        let options = EngineOptions { pages_max, ..options };
        let gpus = GpuOptions { allow_software: self.software, ..GpuOptions::default() };
        let backend = GpuBackend::new(Arc::clone(model), &options, &gpus, &mut |_, _| ())?;
        let bytes = backend.memory_used().iter().sum();
        Ok((Engine::with_backend(Arc::clone(model), options, Box::new(backend))?, bytes))
    }

    fn widest(&self) -> usize {
        self.sizes.batches.iter().copied().max().unwrap_or(1)
    }

    /// Decodes with a model, and changes its adapters.
    fn measure(
        &self,
        model: &Arc<Model>,
        name: String,
        bandwidth: f64,
        figures: &mut Figures,
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        note(&format!("{name}: loading"));
        let (mut engine, taken) = self.engine(model, self.sizes.tokens)?;
        figures.show(&format!("{name}: weights, keys and values"), taken, "bytes", Kind::Timed);
        let adapters = decode::put_adapters(&mut engine, self.widest())?;
        figures.show(&format!("{name}: adapters"), adapters, "bytes", Kind::Timed);
        let mut best = 0.0f64;
        for batch in self.sizes.batches.iter().copied() {
            note(&format!("{name}: decoding {batch}"));
            let steps = decode::decode(&mut engine, batch, self.sizes.steps)?;
            let read = read_bytes(model) + adapters / self.widest() * batch;
            let step = steps.median();
            let rate = batch as f64 / step;
            best = best.max(rate);
            let what = format!("{name}: decode, {batch} sequences, {batch} adapters");
            figures.show(&what, (rate * 10.0).round() / 10.0, "tokens/s", Kind::Timed);
            let share = read as f64 / step / bandwidth * 100.0;
            let share = (share * 10.0).round() / 10.0;
            figures.show(&format!("{what}: share of bandwidth"), share, "%", Kind::Timed);
            let [median, slow] = [step, steps.p99()].map(|s| (s * 1e5).round() / 100.0);
            let between = format!("{what}: between tokens");
            self.hold(figures, &between, median, "ms", (median, BETWEEN_TOKENS_MS_MAX));
            figures.show(&format!("{between}, p99"), slow, "ms", Kind::Timed);
        }
        let most = format!("{name}: most tokens in all");
        figures.show(&most, best.round(), "tokens/s", Kind::Timed);
        if let Some(figure) = figures.figures.last_mut().filter(|_| self.info.usable()) {
            figure.bar = Some(format!(">= {GPU_TOKENS_PER_SECOND_MIN}"));
            figure.ok = best >= GPU_TOKENS_PER_SECOND_MIN;
        }
        let [fresh, known] = decode::switch(&mut engine, self.sizes.rounds)?
            .map(|seconds| (seconds * 1e5).round() / 100.0);
        let what = format!("{name}: change of an adapter, to a first token");
        self.hold(figures, &what, fresh, "ms", (fresh, GPU_SWITCH_MS_MAX));
        figures.show(&format!("{what}, without the change"), known, "ms", Kind::Timed);
        Ok(())
    }

    /// A figure with the bar of a real device.
    fn hold(&self, figures: &mut Figures, name: &str, value: f64, unit: &str, bar: (f64, f64)) {
        figures.show(name, value, unit, Kind::Timed);
        if let Some(figure) = figures.figures.last_mut().filter(|_| self.info.usable()) {
            figure.bar = Some(format!("<= {}", bar.1));
            figure.ok = bar.0 <= bar.1;
        }
    }

    /// The same with a model of eight billion weights, where there is room for it.
    fn measure_large(
        &self,
        bandwidth: f64,
        figures: &mut Figures,
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let name = "synthetic 8B";
        let room = cpu::available().is_some_and(|bytes| bytes >= synthetic::WRITING_BYTES);
        let device = self.info.memory_bytes.is_none_or(|bytes| bytes >= GPU_BYTES_MAX);
        if !room || !device {
            note("there is no room for a model of eight billion weights");
            figures.show(name, "no room for it", "", Kind::Timed);
            return Ok(());
        }
        note("writing a model of eight billion weights");
        let folder = tempfile::tempdir().context("make a folder for a model")?;
        let path = folder.path().join("synthetic.gguf");
        synthetic::write(&path)?;
        let model = Arc::new(Model::open(&path).context("read the synthetic model")?);
        let large = Self { info: self.info.clone(), software: self.software, sizes: GPU_LARGE };
        let before = figures.figures.len();
        large.measure(&model, name.to_owned(), bandwidth, figures, note)?;
        let parts = figures.figures.get(before..).unwrap_or_default().iter();
        let bytes: u64 = parts
            .filter(|figure| figure.unit == "bytes")
            .filter_map(|figure| figure.value.as_u64())
            .sum();
        let what = format!("{name}: memory of the device");
        let fine = bytes <= GPU_BYTES_MAX;
        figures.hold(&what, bytes, "bytes", Kind::Timed, format!("<= {GPU_BYTES_MAX}"), fine);
        Ok(())
    }
}

/// What a step reads of a model: everything but the embeddings, unless they are the head as well.
fn read_bytes(model: &Model) -> usize {
    let embeddings = model.tensor(Weight::Embedding).bytes.len();
    model.file_bytes() - if model.is_tied() { 0 } else { embeddings }
}

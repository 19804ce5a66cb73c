//! Loading a model onto devices, running plans over it, and coming back from a lost device.

use std::sync::Arc;

use openledger_gpu::{CANDIDATES, Draw, Drawn, Gpu, GpuError, Output};
use openledger_kernels::reference::RopeAngles;
use openledger_models::Model;

use super::adapters::Unready;
use super::device::GpuOptions;
use super::layer::failed;
use super::part::{Part, Share, turning};
use super::step::{Drawing, Recorder, Shared, Wanted};
use crate::backend::{Backend, BackendError, RowOutput};
use crate::cpu::Progress;
use crate::limits::DEVICE_REOPENS_MAX;
use crate::options::EngineOptions;
use crate::plan::{Row, StepPlan};

/// Runs steps on graphics processors.
#[derive(Debug)]
pub struct GpuBackend {
    model: Arc<Model>,
    options: EngineOptions,
    gpus: GpuOptions,
    angles: RopeAngles,
    local_angles: Option<RopeAngles>,
    /// Empty while a lost device has not been opened again.
    parts: Vec<Part>,
    /// What serves, in words.
    device: String,
    /// How often devices were lost since a step last succeeded.
    losses: u32,
}

/// Divides layers among devices, in proportion to what each may take.
fn shares(layers: usize, gpus: &[Gpu]) -> Vec<Share> {
    let memory = |gpu: &Gpu| gpu.info().memory_bytes.unwrap_or(u64::MAX).min(gpu.memory_max());
    let known = gpus.iter().all(|gpu| memory(gpu) < u64::MAX);
    let weight = |gpu: &Gpu| if known { (memory(gpu) >> 20).max(1) } else { 1 };
    let all: u64 = gpus.iter().map(weight).sum();
    let (mut before, mut first) = (0, 0);
    let share = |gpu: &Gpu| {
        before += weight(gpu);
        let end = (layers as u64 * before / all.max(1)) as usize;
        let share = Share { first, layers: end.saturating_sub(first), layers_all: layers };
        first = end;
        share
    };
    gpus.iter().map(share).collect()
}

impl GpuBackend {
    /// Uploads a model's weights, and tells `progress` after each layer. The file's pages are let
    /// go of on the way. All memory of the device is taken now: weights, keys and values, and
    /// buffers.
    ///
    /// # Errors
    /// No such device; a model that it has no room for; rows that are no whole blocks of 32.
    pub fn new(
        model: Arc<Model>,
        options: &EngineOptions,
        gpus: &GpuOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self, BackendError> {
        let (angles, local_angles) = turning(model.config());
        let mut backend = Self {
            model,
            options: *options,
            gpus: gpus.clone(),
            angles,
            local_angles,
            parts: Vec::new(),
            device: String::new(),
            losses: 0,
        };
        backend.open(progress).map_err(|error| match error {
            BackendError::Device { what } => BackendError::Load { what },
            other => other,
        })?;
        Ok(backend)
    }

    /// Opens the devices and uploads everything.
    fn open(&mut self, progress: &mut Progress<'_>) -> Result<(), BackendError> {
        let gpus = self.gpus.open().map_err(failed)?;
        let layers = self.model.config().layers;
        let total = self.model.file_bytes();
        let mut done = 0;
        progress(0, total);
        let mut loaded = || {
            done += 1;
            progress(total / (layers + 1) * done, total);
        };
        let shares = shares(layers, &gpus);
        let mut parts = Vec::with_capacity(gpus.len());
        let names: Vec<String> = gpus.iter().map(|gpu| gpu.info().to_string()).collect();
        for (gpu, share) in gpus.into_iter().zip(shares) {
            let model = &self.model;
            parts.push(Part::new(gpu, model, share, &self.options, &self.gpus, &mut loaded)?);
        }
        progress(total, total);
        self.parts = parts;
        self.device = names.join(" + ");
        Ok(())
    }

    /// Bytes of each device's memory that are taken, in the order of the devices.
    #[must_use]
    pub fn memory_used(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.gpu.memory_used()).collect()
    }

    /// Gives the devices up, as a driver's reset would: for tests of what follows.
    pub fn lose_devices(&self) {
        self.parts.iter().for_each(|part| part.gpu.lose());
    }

    /// Runs a plan; in halves, if its adapters have no room on a device at once.
    fn try_run(&mut self, plan: &StepPlan, counts: &[usize]) -> Result<Vec<RowOutput>, GpuError> {
        match self.run_whole(plan, counts) {
            Ok(outputs) => Ok(outputs),
            Err(Unready::Failed(error)) => Err(error),
            Err(Unready::Full) => {
                let sequences = plan.rows.iter().map(|row| row.sequence);
                let (least, most) = (sequences.clone().min(), sequences.max());
                let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
                if least == most {
                    let what = "the adapters of one sequence are too many for a device".to_owned();
                    return Err(GpuError::Use { what });
                }
                let middle = least + (most - least) / 2;
                let mut all = vec![RowOutput::Nothing; plan.rows.len()];
                for upper in [false, true] {
                    let own = |row: &&Row| (row.sequence > middle) == upper;
                    let rows = plan.rows.iter().filter(own).copied().collect();
                    let half = StepPlan { rows, sequences: plan.sequences.clone() };
                    let counts: Vec<usize> = (plan.rows.iter().zip(counts))
                        .filter(|(row, _)| own(row))
                        .map(|(_, count)| *count)
                        .collect();
                    let mut outputs = self.try_run(&half, &counts)?.into_iter();
                    for (row, output) in plan.rows.iter().zip(&mut all) {
                        if own(&row) {
                            *output = outputs.next().unwrap_or(RowOutput::Nothing);
                        }
                    }
                }
                Ok(all)
            }
        }
    }

    fn run_whole(&mut self, plan: &StepPlan, counts: &[usize]) -> Result<Vec<RowOutput>, Unready> {
        let misfit = |what: String| Unready::Failed(GpuError::Use { what });
        let config = self.model.config();
        if let Some(row) = plan.rows.iter().find(|row| row.token as usize >= config.vocab) {
            let what = format!("token {} is not among the model's {}", row.token, config.vocab);
            return Err(misfit(what));
        }
        let shared = Shared {
            config,
            plan,
            seen: plan.seen().map_err(|error| misfit(error.to_string()))?,
            angles: &self.angles,
            local_angles: self.local_angles.as_ref(),
            pages: self.options.pages_max,
            page_tokens: self.options.page_tokens,
            counts,
        };
        let (bytes, last) = (4 * (plan.rows.len() * config.hidden) as u64, self.parts.len());
        let mut x: Option<Vec<u8>> = None;
        for (number, part) in (1..).zip(&mut self.parts) {
            let gpu = part.gpu.clone();
            let mut step = gpu.step();
            let mut recorder = Recorder { shared: &shared, part };
            recorder.layers(&mut step, x.as_deref())?;
            if number == last {
                let wanted = recorder.outputs(&mut step)?;
                return Ok(outputs(plan, &wanted, &step.submit()?));
            }
            let ticket = step.read(&recorder.part.rows.x, 0..bytes);
            x = Some(step.submit()?.bytes(ticket).to_vec());
        }
        Err(misfit("there is no device".to_owned()))
    }
}

/// Numbers that came back.
fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// One output per row.
fn outputs(plan: &StepPlan, wanted: &[Wanted], output: &Output) -> Vec<RowOutput> {
    let mut all = vec![RowOutput::Nothing; plan.rows.len()];
    for Wanted { row, draw, hidden } in wanted {
        let hidden = floats(output.bytes(*hidden));
        if let Some(own) = all.get_mut(*row) {
            *own = match draw {
                Drawing::Logits(read) => {
                    RowOutput::Logits { logits: floats(output.bytes(*read)), hidden }
                }
                Drawing::Likeliest(kind, read, at) => {
                    let drawn = Draw::results(*kind, output.bytes(*read)).into_iter().nth(*at);
                    likeliest(drawn, hidden)
                }
                Drawing::Not => RowOutput::Hidden(hidden),
            };
        }
    }
    all
}

/// What a device drew, as engines take it.
fn likeliest(drawn: Option<Drawn>, hidden: Vec<f32>) -> RowOutput {
    let Some(drawn) = drawn.filter(|drawn| drawn.sound) else {
        return RowOutput::Likeliest { tokens: Vec::new(), log_sum_exp: 0.0, hidden };
    };
    let log_sum_exp = (f64::from(drawn.logit) + f64::from(drawn.sum).ln()) as f32;
    let tokens = match drawn.candidates.is_empty() {
        true => vec![(drawn.token, drawn.logit)],
        false => drawn.candidates,
    };
    RowOutput::Likeliest { tokens, log_sum_exp, hidden }
}

impl Backend for GpuBackend {
    fn name(&self) -> &'static str {
        "wgpu"
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn is_gone(&self) -> bool {
        self.losses > DEVICE_REOPENS_MAX
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        self.run_likeliest(plan, &[])
    }

    fn likeliest_max(&self) -> usize {
        CANDIDATES
    }

    fn run_likeliest(
        &mut self,
        plan: &StepPlan,
        counts: &[usize],
    ) -> Result<Vec<RowOutput>, BackendError> {
        if self.is_gone() {
            let what = format!("{} was lost {} times in a row", self.device, self.losses);
            return Err(BackendError::Device { what });
        }
        if self.parts.is_empty()
            && let Err(error) = self.open(&mut |_, _| ())
        {
            self.losses += 1;
            return Err(error);
        }
        if plan.rows.is_empty() {
            return Ok(Vec::new());
        }
        match self.try_run(plan, counts) {
            Ok(outputs) => {
                self.losses = 0;
                Ok(outputs)
            }
            Err(error) => {
                // Whatever it was that was lost: the next step starts from the file.
                if matches!(error, GpuError::Lost { .. }) {
                    self.parts.clear();
                    self.losses += 1;
                }
                Err(failed(error))
            }
        }
    }
}

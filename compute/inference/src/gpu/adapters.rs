//! Adapters on a device: loaded when a step first names them, put out by use.
//!
//! All lie in one arena, at its place in which a generation is used until another needs the room;
//! nothing moves while a step runs. What is put out comes back from the engine's own memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use openledger_gpu::{
    ArenaFormat, Binding, Buffer, Gpu, GpuError, Lora, LoraArena, LoraBatch, LoraInput,
    LoraMatrices, LoraOutput, LoraPart, LoraRows, Step,
};
use openledger_kernels::fused::LoraFormat;
use openledger_models::{ModelConfig, Site};

use super::part::Share;
use super::scratch::Words;
use crate::adapters::{Generation, LoadedAdapter};
use crate::limits::DEVICE_ADAPTERS_MAX;
use crate::options::EngineOptions;
use crate::plan::StepPlan;

/// Sites of a layer.
const SITES: usize = Site::ALL.len();

/// What a step's rows have, on this device.
pub(super) struct Batch {
    lora: LoraBatch,
}

/// An adapter that is on the device.
#[derive(Debug)]
struct Resident {
    slot: usize,
    /// The step that last named it.
    used: u64,
}

/// The arena and its kernels, made when the first adapter comes.
#[derive(Debug)]
struct Loaded {
    lora: Lora,
    arena: LoraArena,
    residents: BTreeMap<Generation, Resident>,
}

/// The adapters of one device's layers.
#[derive(Debug)]
pub(super) struct Adapters {
    gpu: Gpu,
    format: ArenaFormat,
    bytes_max: u64,
    first: usize,
    layers: usize,
    /// Inputs and outputs of each site.
    shapes: [(usize, usize); SITES],
    loaded: Option<Loaded>,
    words: Words,
    between: Words,
    steps: u64,
}

/// Why a step's adapters are not on the device.
#[derive(Debug)]
pub(super) enum Unready {
    /// There is no room for all of them at once.
    Full,
    /// Something failed.
    Failed(GpuError),
}

impl From<GpuError> for Unready {
    fn from(error: GpuError) -> Self {
        Self::Failed(error)
    }
}

impl Adapters {
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        share: Share,
        options: &EngineOptions,
    ) -> Result<Self, GpuError> {
        let format = match options.adapters {
            LoraFormat::Q8 => ArenaFormat::Q8,
            // Half precision holds what adapters are trained in.
            LoraFormat::F16 | LoraFormat::F32 => ArenaFormat::F16,
        };
        Ok(Self {
            format,
            bytes_max: options.adapters_bytes_max as u64,
            first: share.first,
            layers: share.layers,
            shapes: Site::ALL.map(|site| {
                let (rows, cols) = site.shape(config);
                (cols, rows)
            }),
            loaded: None,
            words: Words::new(gpu, "the batch of adapters")?,
            between: Words::new(gpu, "between the halves of adapters")?,
            steps: 0,
            gpu: gpu.clone(),
        })
    }

    /// Sees to it that the adapters of a plan are on the device, and records who has which.
    /// Nothing if no row has any.
    pub(super) fn begin(
        &mut self,
        step: &mut Step<'_>,
        plan: &StepPlan,
    ) -> Result<Option<Batch>, Unready> {
        let mut named: BTreeMap<Generation, &Arc<LoadedAdapter>> = BTreeMap::new();
        // Rows by the adapters of their sequences and the weights of these.
        let mut groups: BTreeMap<Vec<(Generation, u32)>, Vec<u32>> = BTreeMap::new();
        for (row, number) in plan.rows.iter().zip(0u32..) {
            let Some(sequence) = plan.sequences.get(row.sequence) else { continue };
            let parts = sequence.adapters.parts();
            if parts.is_empty() {
                continue;
            }
            named.extend(parts.iter().map(|(adapter, _)| (adapter.generation(), adapter)));
            let key = parts.iter().map(|(one, weight)| (one.generation(), weight.to_bits()));
            groups.entry(key.collect()).or_default().push(number);
        }
        if named.is_empty() {
            return Ok(None);
        }
        self.steps += 1;
        self.load(&named)?;
        let Some(loaded) = &self.loaded else { return Ok(None) };
        let part = |(generation, weight): &(Generation, u32)| {
            let slot = loaded.residents.get(generation).map_or(usize::MAX, |one| one.slot);
            LoraPart { slot, weight: f32::from_bits(*weight) }
        };
        let parts: Vec<Vec<LoraPart>> =
            groups.keys().map(|key| key.iter().map(part).collect()).collect();
        let rows = parts.iter().zip(groups.values());
        let groups: Vec<LoraRows<'_>> =
            rows.map(|(parts, rows)| LoraRows { parts, rows }).collect();
        let lora = LoraBatch::new(&loaded.arena, plan.rows.len(), &groups)?;
        self.words.write(step, lora.words())?;
        let widest = self.shapes.iter().map(|(cols, _)| *cols).max().unwrap_or(0);
        let between = Lora::scratch_bytes(&lora, 3, widest);
        self.between.room(&self.gpu, (between / 4) as usize)?;
        Ok(Some(Batch { lora }))
    }

    /// Has all these on the device at once.
    fn load(&mut self, named: &BTreeMap<Generation, &Arc<LoadedAdapter>>) -> Result<(), Unready> {
        let steps = self.steps;
        if let Some(loaded) = &mut self.loaded {
            for (generation, resident) in &mut loaded.residents {
                if named.contains_key(generation) {
                    resident.used = steps;
                }
            }
        }
        if self.try_load(named)? {
            return Ok(());
        }
        // Perhaps there is room, but in pieces: everything anew, from the front.
        if let Some(loaded) = &mut self.loaded {
            for resident in core::mem::take(&mut loaded.residents).into_values() {
                loaded.arena.remove(resident.slot);
            }
        }
        if self.try_load(named)? { Ok(()) } else { Err(Unready::Full) }
    }

    /// Says whether all found room.
    fn try_load(
        &mut self,
        named: &BTreeMap<Generation, &Arc<LoadedAdapter>>,
    ) -> Result<bool, GpuError> {
        for (generation, adapter) in named {
            let here = |loaded: &Loaded| loaded.residents.contains_key(generation);
            if !self.loaded.as_ref().is_some_and(here) && !self.put(*generation, adapter)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings one adapter, in the place of others that no row of this step has.
    fn put(&mut self, generation: Generation, adapter: &LoadedAdapter) -> Result<bool, GpuError> {
        let numbers: Vec<Option<(Vec<f32>, Vec<f32>)>> = (self.first..self.first + self.layers)
            .flat_map(|layer| Site::ALL.map(|site| adapter.matrices(layer, site)))
            .collect();
        let scale = adapter.scale();
        let sites: Vec<Option<LoraMatrices<'_>>> = numbers
            .iter()
            .zip(self.shapes.iter().cycle())
            .map(|(pair, (cols, rows))| {
                let (a, b) = pair.as_ref()?;
                let rank = a.len().checked_div(*cols)?;
                Some(LoraMatrices { rank, cols: *cols, rows: *rows, a, b, scale })
            })
            .collect();
        let steps = self.steps;
        let gpu = self.gpu.clone();
        let loaded = self.arena()?;
        if loaded.arena.bytes_of(&sites) > loaded.arena.bytes() {
            let (needed, held) = (loaded.arena.bytes_of(&sites), loaded.arena.bytes());
            return Err(GpuError::Memory {
                what: "an adapter".to_owned(),
                bytes: needed,
                left: held,
                budget: held,
            });
        }
        loop {
            let free = (0..loaded.arena.slots()).find(|slot| !loaded.arena.holds(*slot));
            if let Some(slot) = free
                && loaded.arena.put(&gpu, slot, &sites)?
            {
                loaded.residents.insert(generation, Resident { slot, used: steps });
                return Ok(true);
            }
            let idle = loaded.residents.iter().filter(|(_, one)| one.used < steps);
            let Some((oldest, _)) = idle.min_by_key(|(_, one)| one.used) else {
                return Ok(false);
            };
            let oldest = *oldest;
            if let Some(resident) = loaded.residents.remove(&oldest) {
                loaded.arena.remove(resident.slot);
            }
        }
    }

    /// The arena, made now if this is the first adapter.
    fn arena(&mut self) -> Result<&mut Loaded, GpuError> {
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => {
                let (gpu, features) = (&self.gpu, self.gpu.features());
                let sites = self.layers * SITES;
                let table = (DEVICE_ADAPTERS_MAX * sites * 16) as u64;
                let left = gpu.memory_max().saturating_sub(gpu.memory_used());
                let left = left.saturating_sub(table) / 256 * 256;
                let one = features.max_binding_bytes.min(features.max_buffer_bytes);
                let bytes = self.bytes_max.min(one).min(left);
                Loaded {
                    lora: Lora::new(gpu, self.format)?,
                    arena: LoraArena::new(gpu, bytes, DEVICE_ADAPTERS_MAX, sites, self.format)?,
                    residents: BTreeMap::new(),
                }
            }
        };
        Ok(self.loaded.insert(loaded))
    }

    /// Adds what adapters make of `x` to matrices of a layer that share it.
    pub(super) fn record(
        &self,
        step: &mut Step<'_>,
        batch: &Batch,
        layer: usize,
        x: Binding<'_>,
        outs: &[(Site, &Buffer)],
    ) {
        let Some(loaded) = &self.loaded else { return };
        let shape = |site: Site| self.shapes.get(site as usize).copied().unwrap_or_default();
        let outputs: Vec<LoraOutput<'_>> = outs
            .iter()
            .map(|(site, out)| LoraOutput {
                site: layer * SITES + *site as usize,
                out: out.all(),
                width: shape(*site).1,
            })
            .collect();
        let input = LoraInput {
            x,
            cols: outs.first().map_or(0, |(site, _)| shape(*site).0),
            batch: self.words.buffer().all(),
            scratch: self.between.buffer().all(),
            outputs: &outputs,
        };
        loaded.lora.record(step, &batch.lora, &loaded.arena, &input);
    }
}

//! Low-rank updates (Hu et al. 2021) of many adapters for one batch.
//!
//! All adapters lie in one arena and are used where they lie: *shrink* makes `v = scale * A x` of
//! each row, *expand* adds `B v` to its output (SGMV of Punica, Chen et al. 2023). One run serves
//! all adapters of a batch at a place of the model, and up to three places that share an input
//! (query, key and value, or gate and up). Ranks differ freely: nothing is padded.
//!
//! A step's metadata ([`LoraBatch`]) names adapters, not places: where a layer's matrices lie is
//! looked up in a table on the device, so that one upload serves all layers (vLLM builds its
//! metadata once per step too).

mod arena;
mod batch;
mod encode;

pub use arena::{LoraArena, LoraMatrices};
pub use batch::{LoraBatch, LoraPart, LoraRows};
pub use encode::ArenaFormat;

use std::sync::Arc;

use crate::buffer::Binding;
use crate::compose::{compose, room, word};
use crate::error::GpuError;
use crate::gpu::Gpu;
use crate::kernel::{Access, Kernel};
use crate::limits::GROUPS_MAX;
use crate::step::Step;

/// Threads of a workgroup.
const THREADS: usize = 64;

/// Columns of a span, in fours: four turns of all threads. Wide inputs are shared among workgroups.
const SPAN4: usize = 256;

/// Places of a run, at most.
pub const SLICES_MAX: usize = 3;

/// The kernels for one format of arena.
#[derive(Clone, Debug)]
pub struct Lora {
    format: ArenaFormat,
    shrink: Arc<Kernel>,
    /// For one to three outputs.
    expand: [Arc<Kernel>; SLICES_MAX],
}

/// An output of a run.
#[derive(Clone, Copy, Debug)]
pub struct LoraOutput<'a> {
    /// Which of an adapter's sites: an index into what [`LoraArena::put`] was given.
    pub site: usize,
    /// What is added to, `[tokens, width]`, `f32`.
    pub out: Binding<'a>,
    /// Its width, a multiple of 4.
    pub width: usize,
}

/// The buffers of a run.
#[derive(Clone, Copy, Debug)]
pub struct LoraInput<'a> {
    /// The inputs, `[tokens, cols]`, `f32`.
    pub x: Binding<'a>,
    /// Their width, a multiple of 4.
    pub cols: usize,
    /// The words of the [`LoraBatch`].
    pub batch: Binding<'a>,
    /// Room for what lies between, [`Lora::scratch_bytes`].
    pub scratch: Binding<'a>,
    /// One to three outputs, each in a buffer of its own.
    pub outputs: &'a [LoraOutput<'a>],
}

impl Lora {
    /// Compiles them.
    ///
    /// # Errors
    /// A shader that does not compile, a lost device.
    pub fn new(gpu: &Gpu, format: ArenaFormat) -> Result<Self, GpuError> {
        use Access::{Read, Write};
        let half = include_str!("../shaders/half.wgsl");
        let file = match format {
            ArenaFormat::F16 => include_str!("../shaders/lora_f16.wgsl"),
            ArenaFormat::Q8 => include_str!("../shaders/lora_q8.wgsl"),
        };
        let constants = [("THREADS", THREADS.into())];
        let fold = include_str!("../shaders/fold.wgsl");
        let shrink = include_str!("../shaders/lora_shrink.wgsl");
        let shrink = compose(&constants, &[fold, half, file, shrink]);
        let expand = |slices: usize| {
            let body = include_str!("../shaders/lora_expand.wgsl");
            let source = compose(&constants, &[half, file, body, &outputs(slices)]);
            let bound = [Read, Read, Read, Read, Write, Write, Write];
            gpu.kernel("lora expand", &source, bound.get(..4 + slices).unwrap_or_default(), &[])
        };
        Ok(Self {
            format,
            shrink: gpu.kernel("lora shrink", &shrink, &[Read, Read, Read, Read, Write], &[])?,
            expand: [expand(1)?, expand(2)?, expand(3)?],
        })
    }

    /// Room that a run of so many outputs needs, in bytes.
    #[must_use]
    pub fn scratch_bytes(batch: &LoraBatch, outputs: usize, cols: usize) -> u64 {
        let values = outputs.saturating_mul(spans(cols)).saturating_mul(batch.listed);
        (values.saturating_mul(batch.room) as u64).saturating_mul(4).max(4)
    }

    /// Adds to each output what the adapters of the batch make of `x`; nothing where the batch
    /// names none.
    pub fn record(
        &self,
        step: &mut Step<'_>,
        batch: &LoraBatch,
        arena: &LoraArena,
        input: &LoraInput<'_>,
    ) {
        if batch.tasks == 0 || batch.room == 0 {
            return;
        }
        if let Err(error) = self.check(batch, arena, input) {
            return step.fail(error);
        }
        let slices = input.outputs.len();
        let scratch = Self::scratch_bytes(batch, slices, input.cols) / 4;
        room(step, "inputs of adapters", input.x, batch.tokens * input.cols);
        room(step, "the batch of adapters", input.batch, batch.words().len());
        room(step, "room for adapters", input.scratch, scratch as usize);
        let site = |slice: usize| input.outputs.get(slice).map_or(0, |output| output.site);
        let sites = [arena.sites(), site(0), site(1), site(2)].map(|site| word(step, site));
        let spans = spans(input.cols);
        let shared = [batch.room, batch.listed, batch.first_part, batch.first_row];
        let [room_, listed, parts, rows] = shared.map(|count| word(step, count));
        let cols4 = word(step, input.cols / 4);
        let mut params = vec![cols4, SPAN4 as u32, spans as u32, room_, listed, parts, rows];
        params.extend(sites);
        let (data, table) = (arena.data().all(), arena.table().all());
        let bound = [input.x, data, table, input.batch, input.scratch];
        let (tasks, slices) = (batch.tasks as u32, slices as u32);
        let blocks = word(step, batch.room / 4 * spans);
        step.run(&self.shrink, &bound, &params, [tasks, blocks, slices]);

        let mut params = vec![spans as u32, room_, listed, parts, rows];
        params.extend(sites);
        let mut bound = vec![input.scratch, data, table, input.batch];
        let mut widest = 0;
        for output in input.outputs {
            room(step, "outputs of adapters", output.out, batch.tokens * output.width);
            params.push(word(step, output.width / 4));
            widest = widest.max(output.width / 4);
            bound.push(output.out);
        }
        params.resize(12, 0);
        let tiles = word(step, widest.div_ceil(THREADS));
        if let Some(kernel) = self.expand.get(input.outputs.len() - 1) {
            step.run(kernel, &bound, &params, [tasks, tiles, slices]);
        }
    }

    fn check(
        &self,
        batch: &LoraBatch,
        arena: &LoraArena,
        input: &LoraInput<'_>,
    ) -> Result<(), GpuError> {
        if arena.format() != self.format {
            let (has, wants) = (arena.format(), self.format);
            let what = format!("an arena of {has:?} was given to kernels for {wants:?}");
            return Err(GpuError::misuse(what));
        }
        let outputs = input.outputs;
        if outputs.is_empty() || outputs.len() > SLICES_MAX {
            let what = format!("{} outputs of adapters, one to three are possible", outputs.len());
            return Err(GpuError::misuse(what));
        }
        if batch.tasks > GROUPS_MAX {
            let what = format!("{} groups of rows with adapters in one run", batch.tasks);
            return Err(GpuError::misuse(what));
        }
        if !input.cols.is_multiple_of(4) || input.cols == 0 {
            let what = format!("{} inputs of an adapter are no fours", input.cols);
            return Err(GpuError::misuse(what));
        }
        for output in outputs {
            if !output.width.is_multiple_of(4) || output.site >= arena.sites() {
                let (site, width) = (output.site, output.width);
                let what = format!("site {site} with {width} outputs (a multiple of 4)");
                return Err(GpuError::misuse(what));
            }
            // What an adapter has there was made for this very place.
            arena.fits(output.site, input.cols, output.width)?;
        }
        Ok(())
    }
}

/// Workgroups that share a row's columns.
const fn spans(cols: usize) -> usize {
    let spans = (cols / 4).div_ceil(SPAN4);
    if spans == 0 { 1 } else { spans }
}

/// The outputs of the expanding kernel, and how it adds to them.
fn outputs(slices: usize) -> String {
    let mut source = String::new();
    let mut cases = String::new();
    for slice in 0..slices {
        let binding = slice + 4;
        source.push_str(&format!(
            "@group(0) @binding({binding}) var<storage, read_write> out{slice}: array<vec4<f32>>;\n"
        ));
        let case =
            if slice + 1 == slices { "default".to_owned() } else { format!("case {slice}u") };
        cases.push_str(&format!("        {case}: {{ out{slice}[at] += x; }}\n"));
    }
    format!(
        "{source}fn add_to(slice: u32, at: u32, x: vec4<f32>) {{\n    switch slice {{\n{cases}    }}\n}}\n"
    )
}

#[cfg(test)]
mod tests;

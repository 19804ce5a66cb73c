//! Buffers of a device that steps use again and again. They grow to the largest step and stay.

use openledger_gpu::{Buffer, Draw, DrawKind, Gpu, GpuError, Inputs, Products, Step};
use openledger_models::ModelConfig;

/// Rows whose logits are computed at a time: what keeps the numbers of a large vocabulary within
/// one binding, and the start of each part where a binding may start.
pub(super) const HEAD_ROWS: usize = 64;

/// Words that go to the device with each step.
#[derive(Debug)]
pub(super) struct Words {
    buffer: Buffer,
    label: &'static str,
}

impl Words {
    pub(super) fn new(gpu: &Gpu, label: &'static str) -> Result<Self, GpuError> {
        Ok(Self { buffer: gpu.buffer(label, 1024)?, label })
    }

    /// Makes room for so many words.
    pub(super) fn room(&mut self, gpu: &Gpu, words: usize) -> Result<(), GpuError> {
        let bytes = 4 * words as u64;
        if self.buffer.bytes() < bytes {
            self.buffer = gpu.buffer(self.label, bytes.next_power_of_two())?;
        }
        Ok(())
    }

    /// Records that they are written.
    pub(super) fn write(&mut self, step: &mut Step<'_>, words: &[u32]) -> Result<(), GpuError> {
        self.room(step.gpu(), words.len())?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        step.write(&self.buffer, 0, &bytes);
        Ok(())
    }

    /// The same with pairs of numbers.
    pub(super) fn write_pairs(
        &mut self,
        step: &mut Step<'_>,
        pairs: &[(f32, f32)],
    ) -> Result<(), GpuError> {
        let words: Vec<u32> = pairs.iter().flat_map(|(a, b)| [a.to_bits(), b.to_bits()]).collect();
        self.write(step, &words)
    }

    pub(super) const fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

/// Numbers of the rows of a step.
#[derive(Debug)]
pub(super) struct Rows {
    /// Rows that there is room for.
    pub(super) capacity: usize,
    /// Hidden states, `[rows, hidden]`.
    pub(super) x: Buffer,
    /// Their norms.
    pub(super) h: Inputs,
    /// What a block adds to the hidden states.
    pub(super) delta: Buffer,
    /// `[rows, query_width]`.
    pub(super) q: Buffer,
    /// `[rows, kv_width]`.
    pub(super) k: Buffer,
    /// `[rows, kv_width]`.
    pub(super) v: Buffer,
    /// `[rows, query_width]`.
    pub(super) attended: Inputs,
    /// `[rows, feed_forward]`.
    pub(super) gate: Inputs,
    /// `[rows, feed_forward]`.
    pub(super) up: Buffer,
}

impl Rows {
    pub(super) fn new(
        gpu: &Gpu,
        products: &Products,
        config: &ModelConfig,
        capacity: usize,
    ) -> Result<Self, GpuError> {
        let room = |label, width: usize| gpu.buffer(label, 4 * (capacity * width) as u64);
        let inputs = |label, width: usize| products.inputs(label, capacity * width);
        Ok(Self {
            capacity,
            x: room("hidden states", config.hidden)?,
            h: inputs("norms", config.hidden)?,
            delta: room("what a block adds", config.hidden)?,
            q: room("queries", config.query_width())?,
            k: room("keys", config.kv_width())?,
            v: room("values", config.kv_width())?,
            attended: inputs("attended", config.query_width())?,
            gate: inputs("gates", config.feed_forward)?,
            up: room("ups", config.feed_forward)?,
        })
    }

    /// What so many rows take, in bytes.
    pub(super) const fn bytes(products: &Products, config: &ModelConfig, rows: usize) -> u64 {
        let floats =
            2 * config.hidden + config.query_width() + 2 * config.kv_width() + config.feed_forward;
        4 * (rows * floats) as u64
            + products.input_bytes(rows * config.hidden)
            + products.input_bytes(rows * config.query_width())
            + products.input_bytes(rows * config.feed_forward)
    }
}

/// What the last layers' rows become.
#[derive(Debug)]
pub(super) struct Heads {
    /// Rows that there is room for, at most [`HEAD_ROWS`].
    pub(super) capacity: usize,
    /// Hidden states after the last norm, `[rows, hidden]`.
    pub(super) states: Inputs,
    /// `[rows, vocab]`.
    pub(super) logits: Buffer,
    /// What is drawn from logits, and what lies between.
    pub(super) drawn: [Buffer; 2],
}

impl Heads {
    pub(super) fn new(
        gpu: &Gpu,
        products: &Products,
        config: &ModelConfig,
        capacity: usize,
    ) -> Result<Self, GpuError> {
        let bytes = Draw::scratch_bytes(DrawKind::Candidates, capacity, config.vocab);
        let room = || gpu.buffer("draws", bytes);
        Ok(Self {
            capacity,
            states: products.inputs("states", capacity * config.hidden)?,
            logits: gpu.buffer("logits", 4 * (capacity * config.vocab) as u64)?,
            drawn: [room()?, room()?],
        })
    }
}

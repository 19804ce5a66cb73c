//! Products of weights with the inputs of a step, and rows of the embedding.
//!
//! Few tokens (up to 8 share a weight that is read) take a narrow kernel that is bound by the
//! memory's speed; more take tiles. Inputs are floats; where the device multiplies packed bytes in
//! one instruction, narrow products may take them as two digits of 4 and 8 bits, as the fast
//! backend of the CPU does (12 bits keep logits within the reference's bounds, 8 would not).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::buffer::{Binding, Buffer};
use crate::error::GpuError;
use crate::gpu::{Gpu, locked};
use crate::kernel::{Access, Kernel};
use crate::layout::{Layout, UNIT};
use crate::source::{Narrow, ROWS, THREADS, embed, narrow, tiled};
use crate::step::Step;
use crate::weights::Weights;

/// Tokens for which narrow kernels are made.
const NARROW: [usize; 4] = [1, 2, 4, 8];

/// Most tokens that a narrow kernel is better for; more of them read the weights again.
const NARROW_MAX: usize = 8;

/// Workgroups of the digits' kernel in one dimension; the next is a multiple of it.
const DIGIT_GROUPS: usize = 32_768;

/// How products are made on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// As is fastest: digits where the device has an instruction for them.
    #[default]
    Fastest,
    /// Everything in 32-bit floats.
    Floats,
    /// Inputs of narrow products as two digits, 12 bits.
    Digits,
}

/// What products read: numbers, and their digits where products want them.
#[derive(Debug)]
pub struct Inputs {
    floats: Buffer,
    /// Digits, then scale and sum of each unit.
    digits: Option<(Buffer, Buffer)>,
}

impl Inputs {
    /// The numbers, `[tokens, cols]`: written by others before [`Products::prepare`].
    #[must_use]
    pub const fn floats(&self) -> &Buffer {
        &self.floats
    }
}

/// A kernel that multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Narrow(Narrow),
    /// With so many times 16 tokens in a tile.
    Tiled(Layout, usize),
}

/// Makes products on one device. Clones share their kernels, which are compiled when they are
/// first recorded.
#[derive(Clone, Debug)]
pub struct Products {
    gpu: Gpu,
    digits: bool,
    /// Of the smallest subgroup, where sums may use it.
    subgroup: Option<usize>,
    digitise: Arc<Kernel>,
    kernels: Arc<Mutex<BTreeMap<Kind, Arc<Kernel>>>>,
}

/// Threads that share a row of so many units: wide teams read more at once, but leave threads
/// without work at the end of a row.
fn lanes_of(units: usize, most: usize) -> usize {
    let sizes = [64, 32, 16, 8, 4, 2, 1].into_iter().filter(|lanes| *lanes <= most);
    let waste = |lanes: usize| units.next_multiple_of(lanes) - units;
    // A fifth of the work is what a narrower team must save to be worth it.
    let good = sizes.clone().find(|lanes| 5 * waste(*lanes) <= units);
    good.or_else(|| sizes.min_by_key(|lanes| waste(*lanes))).unwrap_or(1)
}

const READ: Access = Access::Read;
const WRITE: Access = Access::Write;

impl Products {
    /// Compiles what all products share.
    ///
    /// # Errors
    /// A shader that the device refuses.
    pub fn new(gpu: &Gpu, arithmetic: Arithmetic) -> Result<Self, GpuError> {
        let digits = match arithmetic {
            Arithmetic::Fastest => gpu.features().dot4,
            Arithmetic::Floats => false,
            Arithmetic::Digits => true,
        };
        let source = include_str!("shaders/digits.wgsl");
        let digitise = gpu.kernel("digits", source, &[READ, WRITE, WRITE], &[])?;
        // Smaller ones would leave most of a row's reads to too few threads.
        let subgroup = gpu.features().subgroups.map(|size| size as usize).filter(|size| *size >= 8);
        let (gpu, kernels) = (gpu.clone(), Arc::default());
        Ok(Self { gpu, digits, subgroup, digitise, kernels })
    }

    /// Room for the inputs of products: `numbers` in all.
    ///
    /// # Errors
    /// No room.
    pub fn inputs(&self, label: &str, numbers: usize) -> Result<Inputs, GpuError> {
        let numbers = numbers.next_multiple_of(UNIT) as u64;
        let floats = self.gpu.buffer(label, 4 * numbers)?;
        let units = numbers / UNIT as u64;
        let digits = match self.digits {
            true => Some((self.gpu.buffer(label, 32 * units)?, self.gpu.buffer(label, 8 * units)?)),
            false => None,
        };
        Ok(Inputs { floats, digits })
    }

    /// What [`Products::inputs`] takes, in bytes.
    #[must_use]
    pub const fn input_bytes(&self, numbers: usize) -> u64 {
        let numbers = numbers.next_multiple_of(UNIT) as u64;
        4 * numbers + if self.digits { numbers / UNIT as u64 * 40 } else { 0 }
    }

    /// Makes digits of inputs, `[tokens, cols]`, if products of so many tokens read them. To be
    /// recorded once, after the numbers and before the products.
    pub fn prepare(&self, step: &mut Step<'_>, inputs: &Inputs, tokens: usize, cols: usize) {
        let Some((digits, scales)) = &inputs.digits else { return };
        if tokens > NARROW_MAX {
            return;
        }
        let units = tokens * cols / UNIT;
        let groups = units.div_ceil(64);
        let groups = [groups.min(DIGIT_GROUPS) as u32, groups.div_ceil(DIGIT_GROUPS) as u32, 1];
        let bindings = [inputs.floats.all(), digits.all(), scales.all()];
        step.run(&self.digitise, &bindings, &[units as u32], groups);
    }

    fn kernel(&self, kind: Kind) -> Result<Arc<Kernel>, GpuError> {
        let mut kernels = locked(&self.kernels);
        if let Some(kernel) = kernels.get(&kind) {
            return Ok(Arc::clone(kernel));
        }
        let kernel = match kind {
            Kind::Narrow(own) if own.digits => {
                let access = [READ, READ, READ, READ, WRITE];
                self.gpu.kernel("product of digits", &narrow(&own), &access, &[])?
            }
            Kind::Narrow(own) => {
                self.gpu.kernel("product", &narrow(&own), &[READ, READ, READ, WRITE], &[])?
            }
            Kind::Tiled(layout, by) => {
                let access = [READ, READ, READ, WRITE];
                self.gpu.kernel("tiled product", &tiled(layout, by), &access, &[])?
            }
        };
        kernels.insert(kind, Arc::clone(&kernel));
        Ok(kernel)
    }

    /// Records `target = weights * inputs` for the first `tokens` rows of the inputs.
    pub fn record(
        &self,
        step: &mut Step<'_>,
        weights: &Weights,
        inputs: &Inputs,
        tokens: usize,
        target: Target<'_>,
    ) {
        if inputs.floats.bytes() < 4 * (weights.cols() * tokens) as u64 {
            step.fail(GpuError::misuse(format!("{tokens} tokens are more than the inputs hold")));
        } else if let Err(error) = self.try_record(step, weights, inputs, tokens, target) {
            step.fail(error);
        }
    }

    fn try_record(
        &self,
        step: &mut Step<'_>,
        weights: &Weights,
        inputs: &Inputs,
        tokens: usize,
        target: Target<'_>,
    ) -> Result<(), GpuError> {
        let (layout, units) = (weights.layout(), weights.cols() / UNIT);
        let wide = tokens > NARROW_MAX;
        let digits = inputs.digits.as_ref().filter(|_| layout.is_coded() && !wide);
        // Tiles of 64 tokens take more than the least workgroup memory that there may be.
        let roomy = self.gpu.features().workgroup_memory >= 18_432;
        let by = if tokens > 32 && roomy { 4 } else { 2 };
        let lanes = lanes_of(units, self.subgroup.unwrap_or(THREADS).min(THREADS));
        let (kind, per_group) = match wide {
            true => (Kind::Tiled(layout, by), [64, 16 * by]),
            false => {
                let size = NARROW.into_iter().find(|size| tokens <= *size).unwrap_or(NARROW_MAX);
                let (subgroups, digits) = (self.subgroup.is_some(), digits.is_some());
                let own = Narrow { layout, tokens: size, lanes, subgroups, digits };
                (Kind::Narrow(own), [ROWS * THREADS / lanes, size])
            }
        };
        let kernel = self.kernel(kind)?;
        for panel in &weights.panels {
            let words = panel.words.all();
            let (high, scales) = (panel.parts.high, panel.parts.scales);
            let at = target.at + panel.first;
            let params = [units, panel.rows, tokens, target.stride, at, high, scales];
            let params = params.map(|number| number as u32);
            let [rows, tokens] = per_group;
            let groups = [panel.rows.div_ceil(rows), (params[2] as usize).div_ceil(tokens), 1];
            let groups = groups.map(|number| number as u32);
            match digits {
                Some((digits, factors)) => {
                    let bindings = [words, words, digits.all(), factors.all(), target.numbers];
                    step.run(&kernel, &bindings, &params, groups);
                }
                None => {
                    let bindings = [words, words, inputs.floats.all(), target.numbers];
                    step.run(&kernel, &bindings, &params, groups);
                }
            }
        }
        Ok(())
    }
}

/// Where a product's result goes: row `i` of the matrix and token `t` to `at + t * stride + i`.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The buffer or a part of it, of numbers.
    pub numbers: Binding<'a>,
    /// From one token's results to the next one's.
    pub stride: usize,
    /// The first result's place.
    pub at: usize,
}

/// Rows of a table by their numbers: the embedding of tokens.
#[derive(Debug)]
pub struct Embedding {
    table: Arc<Weights>,
    kernel: Arc<Kernel>,
    factor: f32,
}

impl Embedding {
    /// Compiles the look-up in a table, whose rows are multiplied with `factor`.
    ///
    /// # Errors
    /// A shader that the device refuses.
    pub fn new(gpu: &Gpu, table: Arc<Weights>, factor: f32) -> Result<Self, GpuError> {
        let source = embed(table.layout());
        let kernel = gpu.kernel("embedding", &source, &[READ, READ, READ, WRITE], &[])?;
        Ok(Self { table, kernel, factor })
    }

    /// Records `out = table[ids]`, `[tokens, cols]`. Ids that the table does not have leave what
    /// was there.
    pub fn record(&self, step: &mut Step<'_>, ids: Binding<'_>, tokens: usize, out: Binding<'_>) {
        for panel in &self.table.panels {
            let units = self.table.cols() / UNIT;
            let [units_u, rows, tokens_u, first, high, scales] =
                [units, panel.rows, tokens, panel.first, panel.parts.high, panel.parts.scales]
                    .map(|number| number as u32);
            let params = [units_u, rows, tokens_u, first, high, scales, self.factor.to_bits()];
            let words = panel.words.all();
            let groups = [units.div_ceil(64) as u32, tokens as u32, 1];
            step.run(&self.kernel, &[words, words, ids, out], &params, groups);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_kernels::reference::{dequantize, matmul};
    use openledger_kernels::{Format, Matrix, Pool};

    use crate::testing::{both, distance, floats, values};

    /// Blocks of arbitrary codes with scales of ordinary size.
    fn weights(format: Format, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
        let len = format.bytes_of(rows * cols).unwrap();
        let mut state = seed.wrapping_mul(77) | 1;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        let mut data: Vec<u8> = (0..len).map(|_| next()).collect();
        let scales: &[usize] = match format {
            Format::F32 => &[2],
            Format::F16 | Format::Bf16 => &[0],
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
            Format::Q6K => &[208],
        };
        for (number, block) in data.chunks_exact_mut(format.block_bytes()).enumerate() {
            for at in scales {
                let top = &mut block[at + 1];
                *top = match format {
                    Format::F32 | Format::Bf16 => *top & 0x80 | 0x3D,
                    // Some are subnormal, as the scales of small weights are.
                    _ if number % 7 == 3 => *top & 0x83,
                    _ => *top & 0x83 | 0x24,
                };
            }
        }
        data
    }

    /// The largest error, relative to the size of what was summed.
    fn check(gpu: &Gpu, format: Format, shape: (usize, usize), tokens: usize, how: Arithmetic) {
        let (rows, cols) = shape;
        let data = weights(format, rows, cols, (rows + cols + tokens) as u64);
        let matrix = Matrix::new(format, rows, cols, &data).unwrap();
        let x = values(tokens * cols, tokens as u64);
        let mut expected = vec![0.0; tokens * rows];
        matmul(&matrix, &x, &mut expected, &Pool::new(1)).unwrap();
        let products = Products::new(gpu, how).unwrap();
        let on_device = Weights::upload(gpu, "weights", &matrix).unwrap();
        assert_eq!(on_device.bytes(), Weights::bytes_of(gpu, &matrix));
        let inputs = products.inputs("x", tokens * cols).unwrap();
        gpu.write(inputs.floats(), 0, bytemuck::cast_slice(&x)).unwrap();
        // Results of another matrix lie beside, and must stay.
        let (stride, at) = (rows + 3, 2);
        let out = crate::testing::upload(gpu, &vec![7.0; tokens * stride]);
        let mut step = gpu.step();
        products.prepare(&mut step, &inputs, tokens, cols);
        let target = Target { numbers: out.all(), stride, at };
        products.record(&mut step, &on_device, &inputs, tokens, target);
        step.submit().unwrap();
        let found = floats(gpu, &out);
        for (token, found) in found.chunks(stride).enumerate() {
            let case = format!("{format:?} {shape:?} {tokens} {how:?}");
            assert_eq!((found[0], found[1], found[stride - 1]), (7.0, 7.0, 7.0), "{case}");
            let expected = &expected[token * rows..][..rows];
            let distance = distance(&found[at..at + rows], expected);
            // A single small sum may have lost all that its parts have.
            let bound = if how == Arithmetic::Digits { 2e-3 } else { 1e-5 };
            assert!(distance < bound, "{case}, token {token}: {distance}");
        }
    }

    #[test]
    fn every_format_is_multiplied_as_by_the_reference() {
        let [gpu, plain] = both();
        for format in Format::ALL {
            let shape = (37, format.block_len().max(32) * 3);
            for tokens in [1, 7, 9] {
                check(gpu, format, shape, tokens, Arithmetic::Floats);
            }
            check(plain, format, shape, 2, Arithmetic::Floats);
            check(gpu, format, shape, 2, Arithmetic::Digits);
        }
    }

    #[test]
    fn odd_shapes_are_no_exception() {
        for gpu in both() {
            for shape in [(1, 32), (3, 64), (65, 32), (192, 576), (130, 1536)] {
                for tokens in [1, 8, 70] {
                    check(gpu, Format::Q4_1, shape, tokens, Arithmetic::Floats);
                }
            }
            for shape in [(3, 64), (192, 576)] {
                for tokens in [4, 8, 33] {
                    check(gpu, Format::Q5_1, shape, tokens, Arithmetic::Digits);
                }
            }
        }
    }

    #[test]
    fn digits_keep_twelve_bits() {
        // Against the same sum in f64: 12 bits of each unit's largest number.
        let gpu = crate::testing::gpu();
        let (rows, cols) = (64, 512);
        let data = weights(Format::Q8_0, rows, cols, 5);
        let matrix = Matrix::new(Format::Q8_0, rows, cols, &data).unwrap();
        let x = values(cols, 3);
        let mut dense = vec![0.0; rows * cols];
        dequantize(Format::Q8_0, &data, &mut dense).unwrap();
        let exact: Vec<f64> = dense
            .chunks(cols)
            .map(|row| row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum())
            .collect();
        let products = Products::new(gpu, Arithmetic::Digits).unwrap();
        let weights = Weights::upload(gpu, "w", &matrix).unwrap();
        let inputs = products.inputs("x", cols).unwrap();
        gpu.write(inputs.floats(), 0, bytemuck::cast_slice(&x)).unwrap();
        let out = gpu.buffer("out", 4 * rows as u64).unwrap();
        let mut step = gpu.step();
        products.prepare(&mut step, &inputs, 1, cols);
        let target = Target { numbers: out.all(), stride: rows, at: 0 };
        products.record(&mut step, &weights, &inputs, 1, target);
        step.submit().unwrap();
        let norm = |all: &mut dyn Iterator<Item = f64>| all.map(|x| x * x).sum::<f64>().sqrt();
        let found = floats(gpu, &out);
        let error = norm(&mut found.iter().zip(&exact).map(|(a, b)| f64::from(*a) - b));
        let relative = error / norm(&mut exact.iter().copied());
        assert!(relative < 5e-4, "{relative}");
    }

    #[test]
    fn rows_of_a_table_come_by_their_numbers() {
        for gpu in both() {
            for format in Format::ALL {
                let (rows, cols) = (50, format.block_len().max(32) * 2);
                let data = weights(format, rows, cols, 9);
                let matrix = Matrix::new(format, rows, cols, &data).unwrap();
                let table = Arc::new(Weights::upload(gpu, "table", &matrix).unwrap());
                let embedding = Embedding::new(gpu, table, 1.5).unwrap();
                let ids = [3u32, 49, 0, 3, 17];
                let on_device = gpu.upload("ids", bytemuck::cast_slice(&ids)).unwrap();
                let out = gpu.buffer("out", (4 * ids.len() * cols) as u64).unwrap();
                let mut step = gpu.step();
                embedding.record(&mut step, on_device.all(), ids.len(), out.all());
                step.submit().unwrap();
                let mut expected = vec![0.0; cols];
                for (found, id) in floats(gpu, &out).chunks(cols).zip(ids) {
                    dequantize(format, matrix.row(id as usize).unwrap(), &mut expected).unwrap();
                    expected.iter_mut().for_each(|value| *value *= 1.5);
                    let distance = distance(found, &expected);
                    assert!(distance < 3e-7, "{format:?} row {id}: {distance}");
                }
            }
        }
    }

    #[test]
    fn lanes_fit_rows() {
        assert_eq!(lanes_of(36, 64), 8);
        assert_eq!(lanes_of(256, 64), 64);
        assert_eq!(lanes_of(96, 32), 32);
        assert_eq!(lanes_of(2, 32), 2);
    }
}

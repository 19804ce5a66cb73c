//! Operations on elements that need no others: activations, sums, scales, and rows picked out.

use std::sync::Arc;

use crate::buffer::Binding;
use crate::compose::{compose, room, spread, word};
use crate::error::GpuError;
use crate::gpu::Gpu;
use crate::kernel::{Access, Kernel};
use crate::norm::lanes;
use crate::step::Step;

/// Threads of a workgroup.
const THREADS: usize = 256;

/// An operation for lengths that are multiples of four, and for others.
#[derive(Clone, Debug)]
struct Pair {
    four: Arc<Kernel>,
    one: Arc<Kernel>,
}

impl Pair {
    fn new(
        gpu: &Gpu,
        name: &'static str,
        file: &str,
        gelu: bool,
        bound: &[Access],
    ) -> Result<Self, GpuError> {
        let compile = |width| {
            let params = include_str!("shaders/elementwise.wgsl");
            let constants = [("THREADS", THREADS.into()), ("GELU", gelu.into())];
            let source = compose(&constants, &[lanes(width).0, params, file]);
            gpu.kernel(name, &source, bound, &[])
        };
        Ok(Self { four: compile(4)?, one: compile(1)? })
    }

    /// Over `len` elements in rows of `width`.
    fn run(
        &self,
        step: &mut Step<'_>,
        bound: &[Binding<'_>],
        len: usize,
        width: usize,
        factor: f32,
    ) {
        if len == 0 || width == 0 {
            return;
        }
        let lanes = if len.is_multiple_of(4) && width.is_multiple_of(4) { 4 } else { 1 };
        let kernel = if lanes == 4 { &self.four } else { &self.one };
        let (across, [x, y]) = spread((len / lanes).div_ceil(THREADS));
        let params = [
            word(step, len / lanes),
            across.saturating_mul(THREADS as u32),
            word(step, width / lanes),
            factor.to_bits(),
        ];
        step.run(kernel, bound, &params, [x, y, 1]);
    }
}

/// All of these operations.
#[derive(Clone, Debug)]
pub struct Elementwise {
    silu: Pair,
    gelu: Pair,
    add: Pair,
    add_bias: Pair,
    scale: Pair,
    gather: Pair,
}

impl Elementwise {
    /// Compiles them.
    ///
    /// # Errors
    /// A shader that does not compile, a lost device.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        use Access::{Read, Write};
        let activate = include_str!("shaders/activate.wgsl");
        let add = include_str!("shaders/add.wgsl");
        let bias = include_str!("shaders/add_bias.wgsl");
        let scale = include_str!("shaders/scale.wgsl");
        let gather = include_str!("shaders/gather.wgsl");
        Ok(Self {
            silu: Pair::new(gpu, "silu", activate, false, &[Write, Read])?,
            gelu: Pair::new(gpu, "gelu", activate, true, &[Write, Read])?,
            add: Pair::new(gpu, "add", add, false, &[Write, Read])?,
            add_bias: Pair::new(gpu, "add bias", bias, false, &[Write, Read])?,
            scale: Pair::new(gpu, "scale", scale, false, &[Write])?,
            gather: Pair::new(gpu, "gather", gather, false, &[Read, Read, Write])?,
        })
    }

    /// `gate = gate / (1 + exp(-gate)) * up`, `len` elements.
    pub fn silu_mul(&self, step: &mut Step<'_>, len: usize, gate: Binding<'_>, up: Binding<'_>) {
        room(step, "gates", gate, len);
        room(step, "what gates are multiplied with", up, len);
        self.silu.run(step, &[gate, up], len, len, 0.0);
    }

    /// `gate = gelu(gate) * up` in the form with a hyperbolic tangent, `len` elements.
    pub fn gelu_mul(&self, step: &mut Step<'_>, len: usize, gate: Binding<'_>, up: Binding<'_>) {
        room(step, "gates", gate, len);
        room(step, "what gates are multiplied with", up, len);
        self.gelu.run(step, &[gate, up], len, len, 0.0);
    }

    /// `x += y`, `len` elements.
    pub fn add(&self, step: &mut Step<'_>, len: usize, x: Binding<'_>, y: Binding<'_>) {
        room(step, "a sum", x, len);
        room(step, "what is added", y, len);
        self.add.run(step, &[x, y], len, len, 0.0);
    }

    /// `row += bias` for each row of `x`, `[rows, width]`; `bias` is `[width]`.
    pub fn add_bias(
        &self,
        step: &mut Step<'_>,
        rows: usize,
        width: usize,
        x: Binding<'_>,
        bias: Binding<'_>,
    ) {
        room(step, "rows with a bias", x, rows * width);
        room(step, "a bias", bias, width);
        self.add_bias.run(step, &[x, bias], rows * width, width, 0.0);
    }

    /// `x *= factor`, `len` elements.
    pub fn scale(&self, step: &mut Step<'_>, len: usize, x: Binding<'_>, factor: f32) {
        room(step, "what is scaled", x, len);
        self.scale.run(step, &[x], len, len, factor);
    }

    /// `out[i] = x[rows[i]]`, rows of `width` elements; `rows` are `count` words of 32 bits, each
    /// a row that `x` has.
    pub fn gather(
        &self,
        step: &mut Step<'_>,
        count: usize,
        width: usize,
        x: Binding<'_>,
        rows: Binding<'_>,
        out: Binding<'_>,
    ) {
        room(step, "numbers of rows", rows, count);
        room(step, "rows picked out", out, count * width);
        self.gather.run(step, &[x, rows, out], count * width, width, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use openledger_kernels::reference;

    use super::*;
    use crate::testing::{both, distance, floats, upload, values};

    #[test]
    fn activations_and_sums_are_the_references() {
        for gpu in both() {
            let ops = Elementwise::new(gpu).unwrap();
            for len in [1, 6, 1023, 4096, 300_004] {
                let gates: Vec<f32> = values(len, 1).iter().map(|x| x * 12.0).collect();
                let ups = values(len, 2);
                let up = upload(gpu, &ups);
                let buffers = [(); 4].map(|()| upload(gpu, &gates));
                let mut step = gpu.step();
                ops.silu_mul(&mut step, len, buffers[0].all(), up.all());
                ops.gelu_mul(&mut step, len, buffers[1].all(), up.all());
                ops.add(&mut step, len, buffers[2].all(), up.all());
                ops.scale(&mut step, len, buffers[3].all(), 0.3);
                step.submit().unwrap();
                let mut expected = [(); 4].map(|()| gates.clone());
                reference::silu_mul(&mut expected[0], &ups);
                reference::gelu_mul(&mut expected[1], &ups);
                reference::add(&mut expected[2], &ups);
                reference::scale(&mut expected[3], 0.3);
                // Exponentials of devices are good to a few units in the last place.
                for ((buffer, expected), tolerance) in
                    buffers.iter().zip(&expected).zip([2e-6, 2e-6, 0.0, 1e-7])
                {
                    let found = distance(&floats(gpu, buffer), expected);
                    assert!(found <= tolerance, "{len} {found} {tolerance}");
                }
            }
        }
    }

    #[test]
    fn extreme_gates_give_their_limits() {
        for gpu in both() {
            let ops = Elementwise::new(gpu).unwrap();
            let gates = [1e30, -1e30, 200.0, -200.0, 0.0, -0.0, f32::NAN, 88.5];
            let (silu, gelu) = (upload(gpu, &gates), upload(gpu, &gates));
            let up = upload(gpu, &[2.0; 8]);
            let mut step = gpu.step();
            ops.silu_mul(&mut step, 8, silu.all(), up.all());
            ops.gelu_mul(&mut step, 8, gelu.all(), up.all());
            step.submit().unwrap();
            let found = floats(gpu, &silu);
            assert!((found[0] - 2e30).abs() < 1e24 && found[2] == 400.0 && found[7] == 177.0);
            assert!(found[3].abs() < 1e-30 && found[4] == 0.0 && found[6].is_nan());
            let found = floats(gpu, &gelu);
            assert!(found[2] == 400.0 && found[3].abs() < 1e-30 && found[6].is_nan());
        }
    }

    #[test]
    fn biases_go_to_each_row_and_rows_are_picked() {
        for gpu in both() {
            let ops = Elementwise::new(gpu).unwrap();
            for (rows, width) in [(3, 5), (7, 64), (2, 1)] {
                let (x, bias) = (values(rows * width, 1), values(width, 2));
                let (xs, biases) = (upload(gpu, &x), upload(gpu, &bias));
                let picked: Vec<u32> = (0..5).map(|i| i * 5 % rows as u32).collect();
                let numbers = gpu.upload("rows", bytemuck::cast_slice(&picked)).unwrap();
                let out = gpu.buffer("out", (5 * width * 4) as u64).unwrap();
                let mut step = gpu.step();
                ops.add_bias(&mut step, rows, width, xs.all(), biases.all());
                ops.gather(&mut step, 5, width, xs.all(), numbers.all(), out.all());
                step.submit().unwrap();
                let sums: Vec<f32> =
                    x.iter().enumerate().map(|(i, x)| x + bias[i % width]).collect();
                assert_eq!(floats(gpu, &xs), sums);
                let expected: Vec<f32> = picked
                    .iter()
                    .flat_map(|&row| sums[row as usize * width..][..width].to_vec())
                    .collect();
                assert_eq!(floats(gpu, &out), expected);
            }
        }
    }
}

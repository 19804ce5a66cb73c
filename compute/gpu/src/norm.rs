//! Root-mean-square norms of rows, with the sums of hidden states that come before them.

use std::sync::Arc;

use crate::buffer::Binding;
use crate::compose::{compose, room, spread, word};
use crate::error::GpuError;
use crate::gpu::Gpu;
use crate::kernel::{Access, Kernel};
use crate::step::Step;

const FOLD: &str = include_str!("shaders/fold.wgsl");

/// Widths from which a row has 256 threads instead of 64.
const WIDE: usize = 1024;

/// The pieces of a shader that works on rows of this width, and elements worked on at a time.
pub(crate) fn lanes(width: usize) -> (&'static str, usize) {
    if width.is_multiple_of(4) {
        (include_str!("shaders/lanes4.wgsl"), 4)
    } else {
        (include_str!("shaders/lanes1.wgsl"), 1)
    }
}

/// Norms of rows of one width: of hidden states, or of heads.
#[derive(Clone, Debug)]
pub struct Norm {
    width: usize,
    lanes: usize,
    into: Arc<Kernel>,
    in_place: Arc<Kernel>,
    add: Arc<Kernel>,
    add_normed: Arc<Kernel>,
}

impl Norm {
    /// Compiles them for rows of `width` elements; multiples of four are fastest.
    ///
    /// # Errors
    /// A shader that does not compile, a lost device.
    pub fn new(gpu: &Gpu, width: usize) -> Result<Self, GpuError> {
        use Access::{Read, Write};
        let threads: usize = if width < WIDE { 64 } else { 256 };
        let (alias, lanes) = lanes(width);
        let source = |file: &str, normed: bool| {
            let constants = [("THREADS", threads.into()), ("NORMED", normed.into())];
            compose(&constants, &[FOLD, alias, file])
        };
        let add = include_str!("shaders/norm_add.wgsl");
        let bound = [Write, Read, Read, Write, Read];
        Ok(Self {
            width,
            lanes,
            into: gpu.kernel(
                "norm",
                &source(include_str!("shaders/norm.wgsl"), false),
                &[Read, Read, Write],
                &[],
            )?,
            in_place: gpu.kernel(
                "norm in place",
                &source(include_str!("shaders/norm_in_place.wgsl"), false),
                &[Write, Read],
                &[],
            )?,
            add: gpu.kernel("norm of a sum", &source(add, false), &bound, &[])?,
            add_normed: gpu.kernel("norm of a normed sum", &source(add, true), &bound, &[])?,
        })
    }

    /// `out = x / sqrt(mean(x^2) + epsilon) * weight` for each row of `x`, `[rows, width]`, `f32`;
    /// `weight` is `[width]`.
    pub fn record(
        &self,
        step: &mut Step<'_>,
        rows: usize,
        x: Binding<'_>,
        weight: Binding<'_>,
        epsilon: f32,
        out: Binding<'_>,
    ) {
        room(step, "the rows of a norm", x, rows * self.width);
        room(step, "the output of a norm", out, rows * self.width);
        self.run(step, &self.into, rows, &[x, weight, out], weight, epsilon);
    }

    /// The same where the rows lie. For norms of heads, `rows` counts heads.
    pub fn record_in_place(
        &self,
        step: &mut Step<'_>,
        rows: usize,
        x: Binding<'_>,
        weight: Binding<'_>,
        epsilon: f32,
    ) {
        room(step, "the rows of a norm", x, rows * self.width);
        self.run(step, &self.in_place, rows, &[x, weight], weight, epsilon);
    }

    /// `x += h`, or `x += norm(h)` by `h_weight` where there is one; then `out = norm(x)`. All are
    /// `[rows, width]`.
    #[expect(clippy::too_many_arguments, reason = "what a residual is made of")]
    pub fn record_add(
        &self,
        step: &mut Step<'_>,
        rows: usize,
        x: Binding<'_>,
        h: Binding<'_>,
        h_weight: Option<Binding<'_>>,
        weight: Binding<'_>,
        epsilon: f32,
        out: Binding<'_>,
    ) {
        let named = [("the hidden states", x), ("what is added to them", h), ("their norms", out)];
        for (what, binding) in named {
            room(step, what, binding, rows * self.width);
        }
        let kernel = if h_weight.is_some() { &self.add_normed } else { &self.add };
        let bound = [x, h, weight, out, h_weight.unwrap_or(weight)];
        room(step, "the weights of a norm", bound[4], self.width);
        self.run(step, kernel, rows, &bound, weight, epsilon);
    }

    fn run(
        &self,
        step: &mut Step<'_>,
        kernel: &Kernel,
        rows: usize,
        bound: &[Binding<'_>],
        weight: Binding<'_>,
        epsilon: f32,
    ) {
        if rows == 0 || self.width == 0 {
            return;
        }
        room(step, "the weights of a norm", weight, self.width);
        let (across, [x, y]) = spread(rows);
        let params =
            [word(step, rows), word(step, self.width / self.lanes), across, epsilon.to_bits()];
        step.run(kernel, bound, &params, [x, y, 1]);
    }
}

#[cfg(test)]
mod tests {
    use openledger_kernels::reference;

    use super::*;
    use crate::testing::{both, distance, floats, upload, values};

    /// Rounding of sums of a few thousand squares, and of a division.
    const TOLERANCE: f32 = 2e-6;

    fn expected(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        reference::rms_norm(x, weight, epsilon, &mut out).unwrap();
        out
    }

    #[test]
    fn norms_are_the_references() {
        for gpu in both() {
            for (rows, width) in
                [(1, 1), (3, 7), (5, 64), (2, 576), (70_001, 8), (3, 1030), (2, 4096)]
            {
                let norm = Norm::new(gpu, width).unwrap();
                let (x, w) = (values(rows * width, 1), values(width, 2));
                let (a, b, weight) = (upload(gpu, &x), upload(gpu, &x), upload(gpu, &w));
                let out = gpu.buffer("out", (rows * width * 4) as u64).unwrap();
                let mut step = gpu.step();
                norm.record(&mut step, rows, a.all(), weight.all(), 1e-5, out.all());
                norm.record_in_place(&mut step, rows, b.all(), weight.all(), 1e-5);
                step.submit().unwrap();
                let expected = expected(&x, &w, 1e-5);
                assert!(distance(&floats(gpu, &out), &expected) < TOLERANCE, "{rows} {width}");
                assert!(distance(&floats(gpu, &b), &expected) < TOLERANCE, "{rows} {width}");
            }
        }
    }

    #[test]
    fn sums_come_before_norms() {
        for gpu in both() {
            for (rows, width) in [(4, 10), (3, 640), (2, 2048)] {
                let norm = Norm::new(gpu, width).unwrap();
                let (x, h) = (values(rows * width, 3), values(rows * width, 4));
                let (w, hw) = (values(width, 5), values(width, 6));
                for normed in [false, true] {
                    let (xs, hs) = (upload(gpu, &x), upload(gpu, &h));
                    let (weight, h_weight) = (upload(gpu, &w), upload(gpu, &hw));
                    let out = gpu.buffer("out", (rows * width * 4) as u64).unwrap();
                    let mut step = gpu.step();
                    norm.record_add(
                        &mut step,
                        rows,
                        xs.all(),
                        hs.all(),
                        normed.then(|| h_weight.all()),
                        weight.all(),
                        1e-6,
                        out.all(),
                    );
                    step.submit().unwrap();
                    let mut sum = if normed { expected(&h, &hw, 1e-6) } else { h.clone() };
                    reference::add(&mut sum, &x);
                    assert!(distance(&floats(gpu, &xs), &sum) < TOLERANCE);
                    assert!(distance(&floats(gpu, &out), &expected(&sum, &w, 1e-6)) < TOLERANCE);
                }
            }
        }
    }

    #[test]
    fn numbers_that_are_not_finite_stay_in_their_rows_and_short_buffers_are_refused() {
        for gpu in both() {
            let norm = Norm::new(gpu, 8).unwrap();
            let mut x = values(24, 7);
            (x[3], x[12]) = (f32::NAN, f32::INFINITY);
            let (buffer, weight) = (upload(gpu, &x), upload(gpu, &[1.0; 8]));
            let mut step = gpu.step();
            norm.record_in_place(&mut step, 3, buffer.all(), weight.all(), 1e-5);
            step.submit().unwrap();
            let found = floats(gpu, &buffer);
            assert!(found[3].is_nan() && found[12].is_nan());
            assert!(distance(&found[16..], &expected(&x[16..], &[1.0; 8], 1e-5)) < TOLERANCE);
            let mut step = gpu.step();
            norm.record_in_place(&mut step, 4, buffer.all(), weight.all(), 1e-5);
            assert!(step.submit().is_err());
        }
    }
}

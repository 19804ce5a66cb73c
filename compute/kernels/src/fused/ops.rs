//! Operations on rows: norms, activations, sums.

use super::share::for_ranges;
use super::simd::{Level, Simd, fold, fused_kernel};
use crate::matrix::ShapeError;
use crate::pool::Pool;

/// Checks that `x` is rows of `width` elements.
pub(super) fn whole_rows(what: &'static str, len: usize, width: usize) -> Result<(), ShapeError> {
    ShapeError::check(what, len, len.checked_div(width).unwrap_or(0) * width)
}

/// Root-mean-square norm (Zhang and Sennrich 2019) of each row of `x`, `[n, d]`, by `weight`,
/// `[d]`, into `out`. For norms per head, `d` is a head's length.
///
/// Squares are summed in 32 lanes (lane `l` takes the elements `l`, `l + 32` ... in turn), which
/// are folded in halves; then `out = (x * (1 / sqrt(mean + epsilon))) * weight`.
///
/// # Errors
/// Lengths that disagree.
pub fn rms_norm(
    pool: &Pool,
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    ShapeError::check("the output of a norm", out.len(), x.len())?;
    whole_rows("the input of a norm", x.len(), weight.len())?;
    let level = Level::detect();
    for_ranges(pool, out, weight.len(), &|start, out| {
        norm_into(level, x.get(start..).unwrap_or_default(), weight, epsilon, out);
    });
    Ok(())
}

/// [`rms_norm`] in place.
///
/// # Errors
/// Lengths that disagree.
pub fn rms_norm_in_place(
    pool: &Pool,
    x: &mut [f32],
    weight: &[f32],
    epsilon: f32,
) -> Result<(), ShapeError> {
    whole_rows("the input of a norm", x.len(), weight.len())?;
    let level = Level::detect();
    for_ranges(pool, x, weight.len(), &|_, x| norm_rows(level, x, weight, epsilon));
    Ok(())
}

fused_kernel! {
    fn norm_rows[s](x: &mut [f32], weight: &[f32], epsilon: f32) {
        for x in x.chunks_exact_mut(weight.len().max(1)) {
            norm_one(s, x, weight, epsilon);
        }
    }
}

fused_kernel! {
    fn norm_into[s](x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let width = weight.len().max(1);
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            out.copy_from_slice(x);
            norm_one(s, out, weight, epsilon);
        }
    }
}

/// The first eight elements, with zeros where there are fewer.
#[inline(always)]
pub(super) fn padded(x: &[f32]) -> [f32; 8] {
    let mut lanes = [0.0; 8];
    for (lane, x) in lanes.iter_mut().zip(x) {
        *lane = *x;
    }
    lanes
}

#[inline(always)]
fn norm_one<S: Simd>(s: S, x: &mut [f32], weight: &[f32], epsilon: f32) {
    let (chunks, rest) = x.as_chunks::<8>();
    let mut sums = [s.splat(0.0); 4];
    let (fours, last) = chunks.as_chunks::<4>();
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four) {
            let x = s.load(x);
            *sum = s.fma(x, x, *sum);
        }
    }
    let padding = padded(rest);
    for (sum, x) in sums.iter_mut().zip(last.iter().chain([&padding])) {
        let x = s.load(x);
        *sum = s.fma(x, x, *sum);
    }
    let total = fold(s, s.add(s.add(sums[0], sums[2]), s.add(sums[1], sums[3])));
    let scale = 1.0 / (total / x.len() as f32 + epsilon).sqrt();
    let (chunks, rest) = x.as_chunks_mut::<8>();
    let (weights, weights_rest) = weight.as_chunks::<8>();
    for (x, weight) in chunks.iter_mut().zip(weights) {
        s.store(s.mul(s.mul(s.load(x), s.splat(scale)), s.load(weight)), x);
    }
    for (x, weight) in rest.iter_mut().zip(weights_rest) {
        *x = *x * scale * weight;
    }
}

/// An activation function times a gate's partner.
#[derive(Clone, Copy)]
enum Activation {
    Silu,
    Gelu,
}

/// `gate = silu(gate) * up`, element by element: `gate / (1 + exp(-gate)) * up`.
///
/// # Errors
/// Lengths that disagree.
pub fn silu_mul(pool: &Pool, gate: &mut [f32], up: &[f32]) -> Result<(), ShapeError> {
    activate(pool, Activation::Silu, gate, up)
}

/// `gate = gelu(gate) * up`, element by element, in the tanh form (Hendrycks and Gimpel 2016) of
/// Gemma: `gate / (1 + exp(-2 u)) * up` with `u = sqrt(2 / pi) * (gate + 0.044715 * gate^3)`.
///
/// # Errors
/// Lengths that disagree.
pub fn gelu_mul(pool: &Pool, gate: &mut [f32], up: &[f32]) -> Result<(), ShapeError> {
    activate(pool, Activation::Gelu, gate, up)
}

fn activate(
    pool: &Pool,
    activation: Activation,
    gate: &mut [f32],
    up: &[f32],
) -> Result<(), ShapeError> {
    ShapeError::check("what a gate is multiplied with", up.len(), gate.len())?;
    let level = Level::detect();
    for_ranges(pool, gate, 8, &|start, gate| {
        activate_range(level, activation, gate, up.get(start..).unwrap_or_default());
    });
    Ok(())
}

fused_kernel! {
    fn activate_range[s](activation: Activation, gate: &mut [f32], up: &[f32]) {
        match activation {
            Activation::Silu => activate_all::<_, false>(s, gate, up),
            Activation::Gelu => activate_all::<_, true>(s, gate, up),
        }
    }
}

#[inline(always)]
fn activate_all<S: Simd, const GELU: bool>(s: S, gate: &mut [f32], up: &[f32]) {
    let (gates, rest) = gate.as_chunks_mut::<8>();
    let (ups, ups_rest) = up.as_chunks::<8>();
    for (gate, up) in gates.iter_mut().zip(ups) {
        let v = activated::<S, GELU>(s, s.load(gate), s.load(up));
        s.store(v, gate);
    }
    let mut lanes = [0.0; 8];
    let v = activated::<S, GELU>(s, s.load(&padded(rest)), s.load(&padded(ups_rest)));
    s.store(v, &mut lanes);
    for (gate, lane) in rest.iter_mut().zip(lanes) {
        *gate = lane;
    }
}

#[inline(always)]
fn activated<S: Simd, const GELU: bool>(s: S, gate: S::F, up: S::F) -> S::F {
    let power = if GELU {
        // -2 sqrt(2 / pi) (g + 0.044715 g^3) = g (c + 0.044715 c g^2)
        const C: f32 = -1.595_769_2;
        let square = s.mul(gate, gate);
        s.mul(gate, s.fma(square, s.splat(C * 0.044_715), s.splat(C)))
    } else {
        s.sub(s.splat(0.0), gate)
    };
    s.mul(s.div(gate, s.add(s.splat(1.0), s.exp(power))), up)
}

/// `x += y`, element by element.
///
/// # Errors
/// Lengths that disagree.
pub fn add(pool: &Pool, x: &mut [f32], y: &[f32]) -> Result<(), ShapeError> {
    ShapeError::check("what is added", y.len(), x.len())?;
    let level = Level::detect();
    for_ranges(pool, x, 8, &|start, x| add_range(level, x, y.get(start..).unwrap_or_default()));
    Ok(())
}

/// `row += bias` for each row of `x`, `[n, d]`; `bias` is `[d]`.
///
/// # Errors
/// Lengths that disagree.
pub fn add_bias(pool: &Pool, x: &mut [f32], bias: &[f32]) -> Result<(), ShapeError> {
    whole_rows("what a bias is added to", x.len(), bias.len())?;
    let level = Level::detect();
    for_ranges(pool, x, bias.len(), &|_, x| {
        for row in x.chunks_exact_mut(bias.len().max(1)) {
            add_range(level, row, bias);
        }
    });
    Ok(())
}

fused_kernel! {
    fn add_range[s](x: &mut [f32], y: &[f32]) {
        let (chunks, rest) = x.as_chunks_mut::<8>();
        let (others, others_rest) = y.as_chunks::<8>();
        for (x, y) in chunks.iter_mut().zip(others) {
            s.store(s.add(s.load(x), s.load(y)), x);
        }
        for (x, y) in rest.iter_mut().zip(others_rest) {
            *x += y;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fused::testing::{bits, values};

    #[test]
    fn norms_are_those_of_the_definition_and_rows_do_not_mix() {
        let pool = Pool::new(2);
        for width in [1, 7, 8, 33, 64, 100, 576] {
            let x = values(3 * width, 1);
            let weight = values(width, 2);
            let mut out = vec![f32::NAN; x.len()];
            rms_norm(&pool, &x, &weight, 1e-5, &mut out).unwrap();
            for (i, &found) in out.iter().enumerate() {
                let row = &x[i / width * width..][..width];
                let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / width as f64;
                let scale = 1.0 / (mean + f64::from(1e-5f32)).sqrt();
                let expected = f64::from(x[i]) * scale * f64::from(weight[i % width]);
                assert!((f64::from(found) - expected).abs() <= 5e-7 * expected.abs());
            }
            let mut placed = x.clone();
            rms_norm_in_place(&pool, &mut placed, &weight, 1e-5).unwrap();
            assert_eq!(bits(&placed), bits(&out));
            assert!(rms_norm(&pool, &x, &weight, 1e-5, &mut out[1..]).is_err());
            if width > 1 {
                assert!(rms_norm_in_place(&pool, &mut placed[1..], &weight, 1e-5).is_err());
            }
        }
        assert!(rms_norm_in_place(&pool, &mut [1.0], &[], 1e-5).is_err());
        rms_norm_in_place(&pool, &mut [], &[], 1e-5).unwrap();
    }

    #[test]
    fn activations_are_those_of_their_definitions() {
        let pool = Pool::new(1);
        let x: Vec<f32> = (-999..1000).map(|i| i as f32 / 31.0).collect();
        let up: Vec<f32> = x.iter().map(|x| x.abs() + 0.5).collect();
        let (mut silu, mut gelu) = (x.clone(), x.clone());
        silu_mul(&pool, &mut silu, &up).unwrap();
        gelu_mul(&pool, &mut gelu, &up).unwrap();
        for i in 0..x.len() {
            let (g, u) = (f64::from(x[i]), f64::from(up[i]));
            let expected = g / (1.0 + (-g).exp()) * u;
            assert!((f64::from(silu[i]) - expected).abs() <= 1e-6 * expected.abs(), "{g}");
            let inner = (2.0 / core::f64::consts::PI).sqrt() * (g + 0.044_715 * g.powi(3));
            let expected = 0.5 * g * (1.0 + inner.tanh()) * u;
            assert!((f64::from(gelu[i]) - expected).abs() <= 2e-6 * (expected.abs() + 1e-4), "{g}");
        }
        assert!(silu_mul(&pool, &mut silu, &up[1..]).is_err());
        assert!(gelu_mul(&pool, &mut gelu[1..], &up).is_err());
    }

    #[test]
    fn hostile_numbers_stay_where_they_are() {
        let pool = Pool::new(1);
        let hostile = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45];
        let mut gate = [hostile, [1.0; 6]].concat();
        silu_mul(&pool, &mut gate, &[1.0; 12]).unwrap();
        assert!(gate[0].is_nan() && gate[1] == f32::INFINITY && gate[3] == f32::MAX);
        assert!(gate[4].abs() < 4.0 && gate[6..].iter().all(|x| (x - 0.731_058_6).abs() < 1e-6));
        let mut gate = [hostile, [1.0; 6]].concat();
        gelu_mul(&pool, &mut gate, &[1.0; 12]).unwrap();
        assert!(gate[0].is_nan() && gate[6..].iter().all(|x| (x - 0.841_192).abs() < 1e-5));
        let mut rows = [hostile, [1.0; 6]].concat();
        rms_norm_in_place(&pool, &mut rows, &[1.0; 6], 1e-5).unwrap();
        assert!(rows[0].is_nan());
        assert!(rows[6..].iter().all(|x| (x - 1.0).abs() < 1e-4));
    }

    proptest! {
        #[test]
        fn neither_copies_nor_threads_change_a_bit(
            rows in 1usize..40, width in 1usize..700, seed in 1u64..1000,
        ) {
            let x = values(rows * width, seed);
            let weight = values(width, seed + 1);
            let run = |threads: usize| {
                let pool = Pool::new(threads);
                let (mut normed, mut silu, mut gelu) = (x.clone(), x.clone(), x.clone());
                rms_norm_in_place(&pool, &mut normed, &weight, 1e-6).unwrap();
                silu_mul(&pool, &mut silu, &normed).unwrap();
                gelu_mul(&pool, &mut gelu, &normed).unwrap();
                let mut sum = x.clone();
                add(&pool, &mut sum, &gelu).unwrap();
                add_bias(&pool, &mut sum, &weight).unwrap();
                [normed, silu, gelu, sum].map(|x| bits(&x))
            };
            let expected = run(1);
            prop_assert_eq!(&run(2), &expected);
            for level in Level::all() {
                let (mut normed, mut silu, mut gelu) = (x.clone(), x.clone(), x.clone());
                norm_rows(level, &mut normed, &weight, 1e-6);
                activate_range(level, Activation::Silu, &mut silu, &normed);
                activate_range(level, Activation::Gelu, &mut gelu, &normed);
                let mut sum = x.clone();
                add_range(level, &mut sum, &gelu);
                for row in sum.chunks_mut(width) {
                    add_range(level, row, &weight);
                }
                prop_assert_eq!(&[normed, silu, gelu, sum].map(|x| bits(&x)), &expected);
            }
        }
    }
}

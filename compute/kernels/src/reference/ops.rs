//! Operations on single rows: norms, activations, probabilities.

use super::lanes::{largest, sum};
use crate::isa::{Isa, kernel};
use crate::math::{exp_f32, ln_f64};
use crate::matrix::ShapeError;

/// Root-mean-square norm (Zhang and Sennrich 2019) of each row of `x`, `[n, d]`, by `weight`, `[d]`.
///
/// # Errors
/// Lengths that disagree.
pub fn rms_norm(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    ShapeError::check("the output of a norm", out.len(), x.len())?;
    let whole = x.len().checked_div(weight.len()).unwrap_or(0) * weight.len();
    ShapeError::check("the input of a norm", x.len(), whole)?;
    if !weight.is_empty() {
        norm_rows(Isa::detect(), x, weight, epsilon, out);
    }
    Ok(())
}

kernel! {
    fn norm_rows(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        for (x, out) in x.chunks(weight.len()).zip(out.chunks_mut(weight.len())) {
            let mean = sum(x, |x| x * x) / weight.len() as f32;
            let scale = 1.0 / (mean + epsilon).sqrt();
            for ((x, weight), out) in x.iter().zip(weight).zip(out) {
                *out = x * scale * weight;
            }
        }
    }
}

/// `gate = silu(gate) * up`, element by element, as far as both reach.
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    silu_rows(Isa::detect(), gate, up);
}

kernel! {
    fn silu_rows(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + exp_f32(-*gate)) * up;
        }
    }
}

/// `gate = gelu(gate) * up`, element by element, as far as both reach; the Gaussian error unit by
/// its approximation with a hyperbolic tangent (Hendrycks and Gimpel 2016).
pub fn gelu_mul(gate: &mut [f32], up: &[f32]) {
    gelu_rows(Isa::detect(), gate, up);
}

/// `2 * sqrt(2 / pi)`.
const GELU_SLOPE: f32 = 1.595_769;
/// The weight of the cube in the approximation.
const GELU_CUBE: f32 = 0.044_715;

kernel! {
    fn gelu_rows(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)).
            let x = *gate;
            let twice = GELU_SLOPE * (x + GELU_CUBE * x * x * x);
            *gate = x / (1.0 + exp_f32(-twice)) * up;
        }
    }
}

/// `x *= factor`, element by element.
pub fn scale(x: &mut [f32], factor: f32) {
    for x in x {
        *x *= factor;
    }
}

/// `x += y`, element by element, as far as both reach.
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Turns scores into probabilities, in place.
pub fn softmax(x: &mut [f32]) {
    softmax_row(Isa::detect(), x);
}

kernel! {
    fn softmax_row(x: &mut [f32]) {
        let total = exponentials(x);
        for x in x {
            *x /= total;
        }
    }
}

/// Replaces each score by the exponential of its distance to the largest; returns their sum.
#[inline(always)]
pub(super) fn exponentials(x: &mut [f32]) -> f32 {
    let top = largest(x);
    for x in x.iter_mut() {
        *x = exp_f32(*x - top);
    }
    sum(x, |x| x)
}

/// The logarithm of the sum of the exponentials of `x`: a logit less this is a log-probability.
#[must_use]
pub fn log_sum_exp(x: &[f32]) -> f32 {
    let mut total = 0.0;
    sum_of_exponentials(Isa::detect(), x, largest(x), &mut total);
    (f64::from(largest(x)) + ln_f64(f64::from(total))) as f32
}

kernel! {
    fn sum_of_exponentials(x: &[f32], top: f32, total: &mut f32) {
        *total = sum(x, |x| exp_f32(x - top));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_those_of_the_definition_and_rows_do_not_mix() {
        let x: Vec<f32> = (0..60).map(|i| (i * i % 17) as f32 - 8.0).collect();
        let weight: Vec<f32> = (0..20).map(|i| 1.0 + i as f32 / 10.0).collect();
        let mut out = vec![0.0; 60];
        rms_norm(&x, &weight, 1e-5, &mut out).unwrap();
        for (i, &found) in out.iter().enumerate() {
            let row = &x[i / 20 * 20..][..20];
            let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 20.0;
            let expected = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i % 20]);
            assert!((f64::from(found) - expected).abs() < 1e-5);
        }
        assert!(rms_norm(&x[1..], &weight, 1e-5, &mut out[1..]).is_err());
        assert!(rms_norm(&x, &weight, 1e-5, &mut out[1..]).is_err());
    }

    #[test]
    fn activations_and_probabilities_are_those_of_their_definitions() {
        let mut gate: Vec<f32> = (-40..40).map(|i| i as f32 / 3.0).collect();
        let expected: Vec<f64> =
            gate.iter().map(|&g| f64::from(g) / (1.0 + (-f64::from(g)).exp()) * 2.0).collect();
        silu_mul(&mut gate, &[2.0; 80]);
        for (found, expected) in gate.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5);
        }
        let mut gate: Vec<f32> = (-400..400).map(|i| i as f32 / 30.0).collect();
        let expected: Vec<f64> = gate
            .iter()
            .map(|&g| {
                let g = f64::from(g);
                let u = (2.0 / core::f64::consts::PI).sqrt() * (g + 0.044_715 * g.powi(3));
                0.5 * g * (1.0 + u.tanh()) * 2.0
            })
            .collect();
        gelu_mul(&mut gate, &[2.0; 800]);
        for (found, expected) in gate.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
        let mut halves = [2.0, -3.0];
        scale(&mut halves, 0.5);
        assert_eq!(halves, [1.0, -1.5]);
        let scores: Vec<f32> = (0..37).map(|i| (i * 7 % 11) as f32 * 3.0).collect();
        let total: f64 = scores.iter().map(|&s| f64::from(s).exp()).sum();
        assert!((f64::from(log_sum_exp(&scores)) - total.ln()).abs() < 1e-5);
        let mut found = scores.clone();
        softmax(&mut found);
        for (found, score) in found.iter().zip(scores) {
            assert!((f64::from(*found) - f64::from(score).exp() / total).abs() < 1e-6);
        }
    }

    #[test]
    fn both_copies_give_the_same_bits() {
        let x: Vec<f32> = (0..333).map(|i| (i as f32 * 0.77) % 9.0 - 4.0).collect();
        let mut wide = x.clone();
        softmax(&mut wide);
        let mut plain = x.clone();
        softmax_row(Isa::Baseline, &mut plain);
        assert_eq!(wide, plain);
        silu_mul(&mut wide, &x);
        silu_rows(Isa::Baseline, &mut plain, &x);
        assert_eq!(wide, plain);
        gelu_mul(&mut wide, &x);
        gelu_rows(Isa::Baseline, &mut plain, &x);
        assert_eq!(wide, plain);
        rms_norm(&x, &x, 1e-6, &mut wide).unwrap();
        norm_rows(Isa::Baseline, &x, &x, 1e-6, &mut plain);
        assert_eq!(wide, plain);
    }
}

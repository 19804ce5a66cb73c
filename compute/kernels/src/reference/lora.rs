//! Low-rank updates (Hu et al. 2021) of a product's output.

use super::lanes::dots;
use crate::isa::{Isa, kernel};
use crate::matrix::ShapeError;

/// `out += scale * B (A x)` for one row: `a` is `[rank, in]`, `b` is `[rank, out]` (B transposed, so
/// that a row of it is added at a time), `x` is `[in]`, `out` is `[out]`.
///
/// # Errors
/// Lengths that disagree.
pub fn lora_add(
    x: &[f32],
    a: &[f32],
    b: &[f32],
    scale: f32,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let rank = a.len().checked_div(x.len()).unwrap_or(0);
    ShapeError::check("matrix A of an adapter", a.len(), rank * x.len())?;
    ShapeError::check("matrix B of an adapter", b.len(), rank * out.len())?;
    if !out.is_empty() && !x.is_empty() {
        low_rank(Isa::detect(), x, a, b, scale, out);
    }
    Ok(())
}

kernel! {
    fn low_rank(x: &[f32], a: &[f32], b: &[f32], scale: f32, out: &mut [f32]) {
        for (a, b) in a.chunks(x.len()).zip(b.chunks(out.len())) {
            let [product] = dots::<1>(a, x);
            let shrunk = scale * product;
            for (out, b) in out.iter_mut().zip(b) {
                *out += shrunk * b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_the_product_of_both_matrices() {
        let (input, output, rank) = (37, 23, 3);
        let x: Vec<f32> = (0..input).map(|i| (i % 5) as f32 - 2.0).collect();
        let a: Vec<f32> = (0..rank * input).map(|i| (i % 7) as f32 / 7.0).collect();
        let b: Vec<f32> = (0..rank * output).map(|i| (i % 11) as f32 / 11.0).collect();
        let mut out = vec![1.0; output];
        lora_add(&x, &a, &b, 0.5, &mut out).unwrap();
        for (o, &found) in out.iter().enumerate() {
            let mut expected = 1.0;
            for r in 0..rank {
                let inner: f64 =
                    (0..input).map(|i| f64::from(a[r * input + i]) * f64::from(x[i])).sum();
                expected += 0.5 * inner * f64::from(b[r * output + o]);
            }
            assert!((f64::from(found) - expected).abs() < 1e-5);
        }
        let mut plain = vec![1.0; output];
        low_rank(Isa::Baseline, &x, &a, &b, 0.5, &mut plain);
        assert_eq!(plain, out, "the baseline's copy");
        assert!(lora_add(&x, &a[1..], &b, 0.5, &mut out).is_err());
        assert!(lora_add(&x, &a, &b[1..], 0.5, &mut out).is_err());
    }
}

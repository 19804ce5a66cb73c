//! What an adapter's own product is, against PEFT's formula: `scale * B (A x)`, in 64 bits.
//!
//! Of each site, in the first layer and the last, over inputs of the size that norms give. What
//! is done with the sum is measured end to end elsewhere.

use anyhow::{Context as _, Result};
use openledger_kernels::Pool;
use openledger_kernels::fused::{LoraFormat, LoraGroup, LoraSite, lora};
use openledger_kernels::packed::{Activations, Digits};
use openledger_models::{Adapter, Delta, Site};
use openledger_sim::figures::{Figures, Kind};
use openledger_sim::random::Random;

use super::rounded;
use crate::limits::{PRODUCT_ERROR_MAX, PRODUCT_TOKENS};
use crate::subject::Subject;

/// Shows the relative error of the CPU's kernels with each way of keeping an adapter; 16 bits have
/// a bar.
///
/// # Errors
/// An adapter of another shape than the model's.
pub(super) fn show(subject: &Subject, adapter: &Adapter, figures: &mut Figures) -> Result<()> {
    let config = subject.model.config();
    let last = config.layers.saturating_sub(1);
    let formats =
        [(LoraFormat::F32, "32 bits"), (LoraFormat::F16, "16 bits"), (LoraFormat::Q8, "8 bits")];
    for (format, words) in formats {
        let (mut difference, mut length) = (0.0, 0.0);
        for (number, layer) in [0, last].into_iter().enumerate() {
            for site in Site::ALL {
                let Some(delta) = adapter.deltas.get(&(layer, site)) else { continue };
                let x = inputs(site.shape(config).1, (number * 7 + site as usize) as u64);
                let exact = exact(adapter.scale, delta, &x, site.shape(config));
                let found = computed(adapter.scale, delta, &x, site.shape(config), format)?;
                for (found, exact) in found.iter().zip(&exact) {
                    difference += (f64::from(*found) - exact).powi(2);
                    length += exact.powi(2);
                }
            }
        }
        let error = (difference / length).sqrt();
        let name = format!("{}: an adapter's product, kept in {words}", config.architecture);
        if format == LoraFormat::F16 {
            let wanted = format!("<= {PRODUCT_ERROR_MAX}");
            let fine = error <= PRODUCT_ERROR_MAX;
            figures.hold(&name, rounded(error), "", Kind::Exact, wanted, fine);
        } else {
            figures.show(&name, rounded(error), "", Kind::Exact);
        }
    }
    Ok(())
}

/// `[tokens, cols]`: about normal, of mean square 1.
fn inputs(cols: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed, "inputs");
    let mut number = || {
        // Twelve uniform numbers of variance 1/12.
        let sum: u64 = (0..12).map(|_| random.below(1 << 16)).sum();
        (sum as f32 / 65_536.0) - 6.0
    };
    (0..PRODUCT_TOKENS * cols).map(|_| number()).collect()
}

/// By the formula.
fn exact(scale: f32, delta: &Delta, x: &[f32], (_, cols): (usize, usize)) -> Vec<f64> {
    let dot =
        |a: &[f32], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum() };
    let mut out = Vec::new();
    for x in x.chunks(cols.max(1)) {
        let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let inner: Vec<f64> = delta.a.chunks(cols.max(1)).map(|a| dot(a, &x)).collect();
        let rows = delta.b.chunks(delta.rank.max(1));
        out.extend(rows.map(|b| f64::from(scale) * dot(b, &inner)));
    }
    out
}

/// By the kernels that serve.
fn computed(
    scale: f32,
    delta: &Delta,
    x: &[f32],
    (rows, cols): (usize, usize),
    format: LoraFormat,
) -> Result<Vec<f32>> {
    let pool = Pool::new(1);
    let site = LoraSite::new(delta.rank, cols, rows, &delta.a, &delta.b, format)
        .context("pack an adapter's matrices")?;
    let mut inputs = Activations::new();
    inputs.quantize(&pool, x, cols, Digits::default()).context("quantise inputs")?;
    let tokens: Vec<u32> = (0..PRODUCT_TOKENS as u32).collect();
    let mut out = vec![0.0; PRODUCT_TOKENS * rows];
    let group = LoraGroup { site: &site, scale, rows: &tokens };
    lora(&pool, &[group], &inputs, &mut out, rows).context("apply an adapter")?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_is_pefts() {
        let delta = Delta { a: vec![1.0, 2.0, 0.0, 1.0], b: vec![1.0, 0.0, 3.0, 1.0], rank: 2 };
        // A x = [5, 2], B (A x) = [5, 17].
        assert_eq!(exact(2.0, &delta, &[1.0, 2.0], (2, 2)), [10.0, 34.0]);
    }
}

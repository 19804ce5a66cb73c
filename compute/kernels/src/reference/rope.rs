//! Rotary position embedding (Su et al. 2021).

use crate::math::{pow_f64, sin_cos_f64};
use crate::matrix::ShapeError;

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(0, 1), (2, 3) ...`: what GGUF files of the Llama architecture hold.
    Interleaved,
    /// `(0, d/2), (1, d/2 + 1) ...`: GPT-NeoX and Qwen.
    Halves,
}

/// The frequencies of a model's rotation: what turns positions into angles.
#[derive(Clone, Debug)]
pub struct RopeAngles {
    frequencies: Vec<f64>,
    magnitude: f64,
}

impl RopeAngles {
    /// For the first `dimensions` elements of each head: pair `i` turns by
    /// `scale * base^(-2i / dimensions) / factors[i]` per position. Missing factors are 1 (Llama 3
    /// files carry them).
    #[must_use]
    pub fn new(dimensions: usize, base: f32, scale: f32, factors: Option<&[f32]>) -> Self {
        let frequency = |i: usize| {
            let factor = factors.and_then(|factors| factors.get(i)).copied().unwrap_or(1.0);
            let exponent = -2.0 * i as f64 / dimensions as f64;
            f64::from(scale) * pow_f64(f64::from(base), exponent) / f64::from(factor)
        };
        Self { frequencies: (0..dimensions / 2).map(frequency).collect(), magnitude: 1.0 }
    }

    /// The same with sine and cosine multiplied by a factor (YaRN, Peng et al. 2023, sharpens
    /// attention so).
    #[must_use]
    pub fn with_magnitude(self, magnitude: f32) -> Self {
        Self { magnitude: f64::from(magnitude), ..self }
    }

    /// Elements of a head that turn.
    #[must_use]
    pub const fn dimensions(&self) -> usize {
        self.frequencies.len() * 2
    }

    /// Sine and cosine of each pair at a position, appended to `out`.
    pub fn at(&self, position: usize, out: &mut Vec<(f32, f32)>) {
        out.extend(self.frequencies.iter().map(|frequency| {
            let (sine, cosine) = sin_cos_f64(position as f64 * frequency);
            ((sine * self.magnitude) as f32, (cosine * self.magnitude) as f32)
        }));
    }
}

/// Turns each head of one row `x`, `[heads, head_dim]`, by `angles` of [`RopeAngles::at`].
///
/// # Errors
/// A row that is no whole number of heads, or heads shorter than what turns.
pub fn rope(
    x: &mut [f32],
    head_dim: usize,
    pairs: RopePairs,
    angles: &[(f32, f32)],
) -> Result<(), ShapeError> {
    let whole = x.len().checked_div(head_dim).unwrap_or(0) * head_dim;
    ShapeError::check("a row to be turned", x.len(), whole)?;
    if angles.len() * 2 > head_dim {
        return Err(ShapeError::Length {
            what: "a head to be turned",
            found: head_dim,
            expected: angles.len() * 2,
        });
    }
    for head in x.chunks_mut(head_dim.max(1)) {
        for (i, &(sine, cosine)) in angles.iter().enumerate() {
            let (first, second) = match pairs {
                RopePairs::Interleaved => (2 * i, 2 * i + 1),
                RopePairs::Halves => (i, i + angles.len()),
            };
            let (a, b) = (head[first], head[second]);
            head[first] = a * cosine - b * sine;
            head[second] = a * sine + b * cosine;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_turn_by_their_angles_and_the_rest_of_a_head_stays() {
        let angles = RopeAngles::new(4, 10_000.0, 1.0, Some(&[1.0, 2.0]));
        assert_eq!(angles.dimensions(), 4);
        let mut at = Vec::new();
        angles.at(7, &mut at);
        let turns = [7.0f64, 7.0 / 100.0 / 2.0];
        for (pairs, indices) in
            [(RopePairs::Interleaved, [(0, 1), (2, 3)]), (RopePairs::Halves, [(0, 2), (1, 3)])]
        {
            let before: Vec<f32> = (0..12).map(|i| i as f32 + 0.5).collect();
            let mut x = before.clone();
            rope(&mut x, 6, pairs, &at).unwrap();
            for head in [0, 6] {
                for ((first, second), turn) in indices.into_iter().zip(turns) {
                    let (a, b) =
                        (f64::from(before[head + first]), f64::from(before[head + second]));
                    let expected = a * turn.cos() - b * turn.sin();
                    assert!((f64::from(x[head + first]) - expected).abs() < 1e-5);
                    let expected = a * turn.sin() + b * turn.cos();
                    assert!((f64::from(x[head + second]) - expected).abs() < 1e-5);
                }
                assert_eq!(x[head + 4..head + 6], before[head + 4..head + 6]);
            }
        }
    }

    #[test]
    fn a_magnitude_makes_what_turns_longer() {
        let angles = RopeAngles::new(2, 10_000.0, 1.0, None).with_magnitude(1.5);
        let mut at = Vec::new();
        angles.at(3, &mut at);
        let mut x = [3.0, 4.0, 7.0];
        rope(&mut x, 3, RopePairs::Halves, &at).unwrap();
        assert!((f64::from(x[0]).hypot(f64::from(x[1])) - 7.5).abs() < 1e-5);
        assert_eq!(x[2], 7.0);
    }

    #[test]
    fn heads_that_do_not_fit_are_refused() {
        let angles = [(0.0, 1.0); 3];
        assert!(rope(&mut [0.0; 8], 4, RopePairs::Halves, &angles).is_err());
        assert!(rope(&mut [0.0; 9], 8, RopePairs::Halves, &angles).is_err());
        assert!(rope(&mut [0.0; 8], 0, RopePairs::Halves, &[]).is_err());
    }
}

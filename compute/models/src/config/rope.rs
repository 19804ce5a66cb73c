//! How far positions turn queries and keys (rotary embedding, Su et al. 2021), and the ways in
//! which models stretch it to contexts longer than those of their training.
//!
//! Every way comes down to a divisor for each frequency and one factor on sine and cosine, so that
//! a backend needs to know of none of them.

use super::ConfigError;

/// Which numbers of a head the rotary embedding turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Neighbours: `(0, 1), (2, 3), …`; llama.cpp calls this NORM, and its converter reorders the
    /// rows of query and key for it.
    Interleaved,
    /// Halves: `(0, n/2), (1, n/2 + 1), …`; llama.cpp calls this NEOX.
    Halves,
}

/// How far positions turn: pair `i` of `n/2` by `scale * base^(-2i/n) / factors[i]` per position.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub base: f32,
    /// What positions are multiplied with (linear scaling); 1 without.
    pub scale: f32,
    /// What each frequency is divided by, `[rope_dim / 2]`; nothing without.
    pub factors: Option<Vec<f32>>,
    /// What sine and cosine are multiplied with; 1 without.
    pub magnitude: f32,
}

impl Rope {
    /// Turning without any scaling.
    #[must_use]
    pub const fn plain(base: f32) -> Self {
        Self { base, scale: 1.0, factors: None, magnitude: 1.0 }
    }
}

/// Pairs of a head, and the base of their frequencies: what scalings are computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    pub(crate) base: f32,
    /// Numbers of a head that are turned.
    pub(crate) dim: usize,
}

/// YaRN (Peng et al. 2023): fast turns stay, slow ones are stretched, and what lies between is
/// blended; attention gets sharper by a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Yarn {
    /// How many times longer the context became; at least 1.
    pub(crate) factor: f32,
    /// Context of the training before, in tokens.
    pub(crate) original_context: usize,
    /// Frequencies that turn more often than this within that context stay as they are.
    pub(crate) beta_fast: f32,
    /// Those that turn less often are stretched by the whole factor.
    pub(crate) beta_slow: f32,
    /// How much of the blending is done, 0 to 1; 0 is linear scaling.
    pub(crate) blend: f32,
    /// What sine and cosine are multiplied with, where the file says it; the paper's
    /// `0.1 ln(factor) + 1` without.
    pub(crate) magnitude: Option<f32>,
}

impl Yarn {
    pub(crate) const fn new(factor: f32, original_context: usize) -> Self {
        Self {
            factor,
            original_context,
            beta_fast: 32.0,
            beta_slow: 1.0,
            blend: 1.0,
            magnitude: None,
        }
    }

    /// `key` is what messages name where a number is out of bounds.
    pub(crate) fn rope(self, turns: Turns, key: &str) -> Result<Rope, ConfigError> {
        let wrong = |found: f32, wanted: &str| ConfigError::OutOfBounds {
            key: key.to_owned(),
            found: found.to_string(),
            wanted: wanted.to_owned(),
        };
        if !(1.0..=1e6).contains(&self.factor) {
            return Err(wrong(self.factor, "a factor of 1 to 10^6"));
        }
        for beta in [self.beta_fast, self.beta_slow] {
            if !(1e-3..=1e6).contains(&beta) {
                return Err(wrong(beta, "0.001 to 10^6 turns"));
            }
        }
        if !(0.0..=1.0).contains(&self.blend) {
            return Err(wrong(self.blend, "a share of 0 to 1"));
        }
        let by_paper = || 1.0 + 0.1 * ln(f64::from(self.factor)) as f32;
        let magnitude = match self.magnitude {
            Some(found) if (0.01..=100.0).contains(&found) => found,
            Some(found) => return Err(wrong(found, "a factor of 0.01 to 100")),
            None if self.blend > 0.0 => by_paper(),
            None => 1.0,
        };
        let factors = (0..turns.dim / 2).map(|pair| self.divisor(turns, pair));
        Ok(Rope { base: turns.base, scale: 1.0, factors: Some(factors.collect()), magnitude })
    }

    /// What the frequency of a pair is divided by.
    fn divisor(self, turns: Turns, pair: usize) -> f32 {
        // The pair that turns so often within the original context.
        let pair_of = |count: f32| {
            let length = self.original_context as f64 / (f64::from(count) * core::f64::consts::TAU);
            turns.dim as f64 * ln(length.max(1e-12)) / (2.0 * ln(f64::from(turns.base)).max(1e-12))
        };
        let low = pair_of(self.beta_fast).floor().max(0.0);
        let high = pair_of(self.beta_slow).ceil().min(turns.dim as f64 - 1.0);
        let ramp = ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
        let kept = (1.0 - ramp) * f64::from(self.blend);
        (1.0 / ((1.0 - kept) / f64::from(self.factor) + kept)) as f32
    }
}

/// Llama 3's own scaling: divisors that go from 1 for fast turns to `factor` for slow ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) factor: f32,
    pub(crate) low_frequency: f32,
    pub(crate) high_frequency: f32,
    /// Context of the training before, in tokens.
    pub(crate) original_context: usize,
}

impl Stretch {
    pub(crate) fn rope(self, turns: Turns, key: &str) -> Result<Rope, ConfigError> {
        let (low, high) = (f64::from(self.low_frequency), f64::from(self.high_frequency));
        let wrong = |found: f32, wanted: &str| ConfigError::OutOfBounds {
            key: key.to_owned(),
            found: found.to_string(),
            wanted: wanted.to_owned(),
        };
        if !(1.0..=1e6).contains(&self.factor) {
            return Err(wrong(self.factor, "a factor of 1 to 10^6"));
        }
        if !(low > 0.0 && high > low && high <= 1e6) {
            return Err(wrong(self.high_frequency, "a frequency above the low one"));
        }
        let original = self.original_context as f64;
        let divisor = |pair: usize| {
            let exponent = 2.0 * pair as f64 / turns.dim as f64;
            let wavelength = core::f64::consts::TAU * exp(exponent * ln(f64::from(turns.base)));
            let smooth = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - smooth) / f64::from(self.factor) + smooth)) as f32
        };
        let factors = (0..turns.dim / 2).map(divisor).collect();
        Ok(Rope { factors: Some(factors), ..Rope::plain(turns.base) })
    }
}

/// The natural logarithm of a positive number, from additions and multiplications alone: a
/// platform's own differs in its last bits from the next one's, and so would the model.
fn ln(x: f64) -> f64 {
    let (mut mantissa, mut power) = (x, 0.0);
    while mantissa > core::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        power += 1.0;
    }
    while mantissa < core::f64::consts::FRAC_1_SQRT_2 && mantissa > 0.0 {
        mantissa *= 2.0;
        power -= 1.0;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)); the argument is at most 0.172.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let sum = (0..=11u32).rev().fold(0.0, |sum, n| sum * t * t + 1.0 / f64::from(2 * n + 1));
    power * core::f64::consts::LN_2 + 2.0 * t * sum
}

/// The exponential of a number of ordinary size, likewise.
fn exp(x: f64) -> f64 {
    // exp(x) = exp(x / 1024)^1024.
    let small = x / 1024.0;
    let mut result = (1..=12u32).rev().fold(1.0, |sum, n| 1.0 + sum * small / f64::from(n));
    for _ in 0..10 {
        result *= result;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_and_exponentials_are_close_to_the_platforms() {
        for step in 1..2_000u32 {
            let x = f64::from(step) * 7.3 - 7.0;
            assert!((ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs().max(1.0), "{x}");
            let small = f64::from(step) / 80.0 - 4.0;
            assert!((exp(small) / small.exp() - 1.0).abs() < 1e-12, "{small}");
        }
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
    }

    #[test]
    fn yarn_keeps_fast_turns_and_stretches_slow_ones() {
        // Qwen's own setting: 32,768 tokens, made four times longer.
        let turns = Turns { base: 1_000_000.0, dim: 128 };
        let rope = Yarn::new(4.0, 32_768).rope(turns, "factor").unwrap();
        let factors = rope.factors.unwrap();
        assert_eq!(factors.len(), 64);
        // dim * ln(32768 / (32 * 2 pi)) / (2 ln base) = 23.59, with one turn 39.65.
        assert!(factors[..=23].iter().all(|factor| *factor == 1.0));
        assert!(factors[40..].iter().all(|factor| *factor == 4.0));
        assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]));
        let ramp = (31.0 - 23.0) / (40.0 - 23.0);
        let expected = 1.0 / (ramp / 4.0 + 1.0 - ramp);
        assert!((f64::from(factors[31]) - expected).abs() < 1e-6);
        assert!((f64::from(rope.magnitude) - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-6);
        assert_eq!((rope.scale, rope.base), (1.0, 1_000_000.0));
    }

    #[test]
    fn yarn_without_blending_is_linear() {
        let turns = Turns { base: 10_000.0, dim: 8 };
        let linear = Yarn { blend: 0.0, ..Yarn::new(2.0, 64) };
        let rope = linear.rope(turns, "x").unwrap();
        assert_eq!((rope.factors, rope.magnitude), (Some(vec![2.0; 4]), 1.0));
        let told = Yarn { magnitude: Some(1.25), ..Yarn::new(2.0, 64) };
        assert_eq!(told.rope(turns, "x").unwrap().magnitude, 1.25);
        for wrong in [
            Yarn { factor: 0.5, ..linear },
            Yarn { factor: f32::NAN, ..linear },
            Yarn { beta_fast: 0.0, ..linear },
            Yarn { blend: 2.0, ..linear },
            Yarn { magnitude: Some(f32::INFINITY), ..linear },
        ] {
            assert!(wrong.rope(turns, "x").unwrap_err().to_string().contains("x is"));
        }
    }

    #[test]
    fn llama_3_stretches_slow_turns_eight_times() {
        let turns = Turns { base: 500_000.0, dim: 128 };
        let stretch = Stretch {
            factor: 8.0,
            low_frequency: 1.0,
            high_frequency: 4.0,
            original_context: 8_192,
        };
        let factors = stretch.rope(turns, "x").unwrap().factors.unwrap();
        assert_eq!((factors[0], factors[63]), (1.0, 8.0));
        for (pair, factor) in factors.iter().enumerate() {
            let wavelength = core::f64::consts::TAU * 500_000f64.powf(2.0 * pair as f64 / 128.0);
            let expected = if wavelength < 8_192.0 / 4.0 {
                1.0
            } else if wavelength > 8_192.0 {
                8.0
            } else {
                let smooth = (8_192.0 / wavelength - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / 8.0 + smooth)
            };
            assert!((f64::from(*factor) / expected - 1.0).abs() < 1e-6, "{pair}");
        }
        assert!(Stretch { high_frequency: 1.0, ..stretch }.rope(turns, "x").is_err());
    }
}

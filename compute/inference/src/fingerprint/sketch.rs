//! Signed sums of a hidden state.

use crate::fingerprint::SKETCH;

/// Domain of the signs.
const DOMAIN: &str = "openledger fingerprint v1";

/// The sums of one token.
pub(crate) type Sketch = [f32; SKETCH];

/// The sums of a hidden state at a position of its sequence.
///
/// A hash of the position gives each number of the state one of the sums and a sign. So every
/// position looks along other directions, and all numbers count. In a fixed order, so equal states
/// have equal sums.
pub(crate) fn sketch(hidden: &[f32], position: u64) -> Sketch {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    hasher.update(&position.to_le_bytes());
    let mut stream = hasher.finalize_xof();
    let mut sums = [0.0; SKETCH];
    let mut bytes = [0; 64];
    for numbers in hidden.chunks(bytes.len()) {
        stream.fill(&mut bytes);
        for (number, byte) in numbers.iter().zip(bytes) {
            let signed = if byte & 4 == 0 { *number } else { -number };
            if let Some(sum) = sums.get_mut(usize::from(byte) % SKETCH) {
                *sum += signed;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_linear_and_keep_lengths_and_angles() {
        let a: Vec<f32> = (0..576).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..576).map(|i| (i as f32 * 0.11).cos() * 2.0).collect();
        let both: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + 3.0 * b).collect();
        let (mut squares, mut products) = (0.0, 0.0);
        for position in 0..1_000 {
            let (a, b) = (sketch(&a, position), sketch(&b, position));
            for ((a, b), both) in a.iter().zip(&b).zip(sketch(&both, position)) {
                assert!((a + 3.0 * b - both).abs() < 1e-3);
                squares += f64::from(a * a);
                products += f64::from(a * b);
            }
        }
        let dot = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>() * 1_000.0
        };
        let length = dot(&a, &a);
        assert!((squares / length - 1.0).abs() < 0.1);
        assert!((products - dot(&a, &b)).abs() / (length * dot(&b, &b)).sqrt() < 0.1);
    }

    #[test]
    fn positions_look_along_other_directions() {
        let hidden = vec![1.0; 576];
        assert_ne!(sketch(&hidden, 1), sketch(&hidden, 2));
        assert_eq!(sketch(&hidden, 1), sketch(&hidden, 1));
        assert_eq!(sketch(&[], 1), [0.0; SKETCH]);
    }
}

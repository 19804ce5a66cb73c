//! Rotations by position, made on the host: a few kilobytes per step, in the precision that angles
//! of far positions need and devices lack. [`crate::KvWrite`] applies them.

use openledger_kernels::reference::RopeAngles;

/// Sine and cosine of each pair that turns, `[positions, dimensions / 2, 2]`: what is uploaded as
/// the turns of a [`crate::KvInput`]. Never empty, so that it can be bound.
#[must_use]
pub fn turns(angles: &RopeAngles, positions: impl IntoIterator<Item = usize>) -> Vec<f32> {
    let mut pairs = Vec::new();
    for position in positions {
        angles.at(position, &mut pairs);
    }
    if pairs.is_empty() {
        pairs.push((0.0, 1.0));
    }
    pairs.into_iter().flat_map(|(sine, cosine)| [sine, cosine]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_position_has_its_pairs() {
        let angles = RopeAngles::new(4, 10_000.0, 1.0, None);
        let found = turns(&angles, [0, 7]);
        assert_eq!(found.len(), 8);
        assert_eq!(found[..4], [0.0, 1.0, 0.0, 1.0]);
        assert!((found[4] - 7f32.sin()).abs() < 1e-6 && (found[7] - 0.07f32.cos()).abs() < 1e-6);
        assert_eq!(turns(&angles, []), [0.0, 1.0]);
        assert_eq!(turns(&RopeAngles::new(0, 1e4, 1.0, None), [3]).len(), 2);
    }
}

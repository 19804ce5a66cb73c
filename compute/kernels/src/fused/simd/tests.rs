//! Every copy does the same.

use super::*;
use crate::fused::testing::values;

/// All that a copy does with some inputs, as bits.
fn results(level: Level, x: &[f32], codes: &[i8], quads: &[i8]) -> Vec<u32> {
    let mut bits = Vec::new();
    all(level, x, codes, quads, &mut bits);
    bits
}

fused_kernel! {
    fn all[s](x: &[f32], codes: &[i8], quads: &[i8], bits: &mut Vec<u32>) {
        for chunks in x.as_chunks::<8>().0.as_chunks::<3>().0 {
            let [a, b, c] = [s.load(&chunks[0]), s.load(&chunks[1]), s.load(&chunks[2])];
            let mut half = [0; 8];
            s.store_f16(a, &mut half);
            bits.extend(half.map(u32::from));
            let mut bytes = [0; 32];
            s.store_codes([a, b, c, s.swap_pairs(a)], &mut bytes);
            bits.extend(bytes.map(|code| i32::from(code).cast_unsigned()));
            for v in [
                s.load_f16(&half), s.load_bf16(&half), s.add(a, b), s.sub(a, b), s.mul(a, b),
                s.div(a, b), s.fma(a, b, c), s.larger(a, b), s.smaller(a, b),
                s.zero_below(a, b, c), s.swap_pairs(a), s.exp(a), s.splat(fold(s, a)),
            ] {
                let mut lanes = [0.0; 8];
                s.store(v, &mut lanes);
                bits.extend(lanes.map(f32::to_bits));
            }
        }
        for (chunk, quads) in codes.as_chunks::<32>().0.iter().zip(quads.as_chunks::<4>().0) {
            let (pairs, _) = chunk.as_chunks::<16>();
            let pair = [i16::from(quads[0]) * 258, i16::from(quads[1]) * -258];
            let sums = s.dot_quads(s.zero(), chunk, s.quad(quads));
            let sums = s.dot_pairs(sums, s.pairs(&pairs[1]), s.splat_pair(pair));
            let sums = s.dot_pairs(sums, s.pairs(&pairs[0]), s.splat_pair(pair));
            let mut lanes = [0.0; 8];
            s.store(s.to_f32(sums), &mut lanes);
            bits.extend(lanes.map(f32::to_bits));
            if let Some(first) = chunk.first_chunk() {
                s.store(s.load_i8(first), &mut lanes);
                bits.extend(lanes.map(f32::to_bits));
            }
        }
    }
}

#[test]
fn every_copy_gives_the_same_bits() {
    let mut x: Vec<f32> = values(2400, 1).iter().map(|x| x * 90.0).collect();
    x.extend(values(240, 2).iter().map(|x| x * 1e-6));
    x.extend(values(240, 3).iter().map(|x| x * 1e38));
    let edges =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-44, 88.5, -87.5];
    x.extend(edges.iter().cycle().take(72));
    x.extend(edges.iter().cycle().skip(3).take(24));
    let codes: Vec<i8> = values(3200, 4).iter().map(|x| (x * 127.99) as i8).collect();
    let mut quads: Vec<i8> = values(400, 5).iter().map(|x| (x * 127.99) as i8).collect();
    quads[..8].copy_from_slice(&[127, 127, 127, 127, -127, -127, 0, -127]);
    let expected = results(Level::Plain(Plain), &x, &codes, &quads);
    for level in Level::all() {
        let found = results(level, &x, &codes, &quads);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let nan = f32::from_bits(*found).is_nan() && f32::from_bits(*expected).is_nan();
            assert!(found == expected || nan, "{level:?}, result {i}: {found:x} {expected:x}");
        }
    }
}

#[test]
fn exponentials_are_close_to_the_platforms() {
    let s = Plain;
    for step in -87_000..88_000 {
        let x = step as f32 / 1000.0;
        let expected = f64::from(x).exp();
        assert!((f64::from(s.exp([x; 8])[0]) / expected - 1.0).abs() < 2e-7, "{x}");
    }
    let edges = [0.0, -88.0, f32::NEG_INFINITY, 1e30, f32::NAN, 88.0, f32::INFINITY, -87.0];
    let found = s.exp(edges);
    assert_eq!(found[..4], [1.0, 0.0, 0.0, found[5]]);
    assert!(found[4].is_nan() && found[6] == found[5] && found[7] > 0.0);
}

//! Repacking: from an adapter's matrices, row after row, to what the kernels read.
//!
//! Adapters come and go while others are served, so this is made to be fast: eight numbers at a
//! time, without a division for each.

use super::site::{BCodes, BLOCK, Codes, Floats, PANEL, RANKS, Sizes, WIDE, widened};
use crate::fused::kv::Element;
use crate::fused::simd::{Level, Simd, fused_kernel};

/// `a`, `[rank, cols]`, and `b`, `[rows, rank]`, in 32 bits.
pub(super) fn pack_f32(sizes: &Sizes, a: &[f32], b: &[f32]) -> Floats<f32> {
    let mut floats = blank(sizes);
    f32s(Level::detect(), sizes, a, b, &mut floats);
    floats
}

/// The same in half precision.
pub(super) fn pack_f16(sizes: &Sizes, a: &[f32], b: &[f32]) -> Floats<u16> {
    let mut floats = blank(sizes);
    f16s(Level::detect(), sizes, a, b, &mut floats);
    floats
}

/// The same in eight bits.
pub(super) fn pack_q8(sizes: &Sizes, a: &[f32], b: &[f32]) -> Codes {
    let mut codes = Codes::blank(sizes);
    codes_a(Level::detect(), sizes, a, &mut codes);
    codes_b(Level::detect(), sizes, b, &mut codes);
    codes
}

fn blank<E: Element>(sizes: &Sizes) -> Floats<E> {
    let (a, b) = sizes.floats();
    Floats { a: vec![[E::default(); 8]; a], b: vec![[E::default(); 8]; b] }
}

fused_kernel! {
    fn f32s[s](sizes: &Sizes, a: &[f32], b: &[f32], floats: &mut Floats<f32>) {
        pack_floats(s, sizes, a, b, floats);
    }
}

fused_kernel! {
    fn f16s[s](sizes: &Sizes, a: &[f32], b: &[f32], floats: &mut Floats<u16>) {
        pack_floats(s, sizes, a, b, floats);
    }
}

#[inline(always)]
fn pack_floats<S: Simd, E: Element>(
    s: S,
    sizes: &Sizes,
    a: &[f32],
    b: &[f32],
    floats: &mut Floats<E>,
) {
    let (rank, cols) = (sizes.rank, sizes.cols);
    let panels = a.chunks((PANEL * cols).max(1)).zip(floats.a.chunks_mut(cols.max(1)));
    for (rows, panel) in panels {
        for (k, chunk) in panel.iter_mut().enumerate() {
            *chunk = E::stored(s, &gather(rows, k, cols), 1.0);
        }
    }
    for (eight, rows) in b.chunks((8 * rank).max(1)).enumerate() {
        for r in 0..rank {
            let first = sizes.b_floats(r / RANKS, eight / (WIDE / 8)) + r % RANKS;
            let at = first * (WIDE / 8) + eight % (WIDE / 8);
            if let Some(chunk) = floats.b.get_mut(at) {
                *chunk = E::stored(s, &gather(rows, r, rank), 1.0);
            }
        }
    }
}

/// A column of up to eight rows.
#[inline(always)]
fn gather(rows: &[f32], column: usize, cols: usize) -> [f32; 8] {
    let mut out = [0.0; 8];
    for (out, x) in out.iter_mut().zip(rows.iter().skip(column).step_by(cols)) {
        *out = *x;
    }
    out
}

/// Magnitudes are compared as the integers of their bits, which have the same order: quickly, and
/// what is not finite comes out on top.
#[inline(always)]
fn peak(a: u32, b: f32) -> u32 {
    a.max(b.to_bits() & 0x7FFF_FFFF)
}

/// The scale of codes whose largest magnitude has these bits; NaN where that is not finite.
#[inline(always)]
fn scale_of(peak: u32) -> f32 {
    if peak < 0x7F80_0000 { f32::from_bits(peak) / 127.0 } else { f32::NAN }
}

/// The upper half of the smallest number of that kind that is not below `x`, which is not negative.
#[inline(always)]
fn rounded_up(x: f32) -> u16 {
    if x.is_nan() { 0x7FC0 } else { ((x.to_bits() + 0xFFFF) >> 16) as u16 }
}

/// What makes codes of numbers with this scale; 0 where the scale is 0, nearly so or no number.
#[inline(always)]
fn inverse_of(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse <= f32::MAX { inverse } else { 0.0 }
}

fused_kernel! {
    fn codes_a[s](sizes: &Sizes, a: &[f32], out: &mut Codes) {
        let blocks = sizes.blocks();
        for (r, row) in a.chunks_exact(sizes.cols.max(1)).enumerate() {
            let first = r / PANEL * blocks;
            let lane = r % PANEL;
            let places = out.a.iter_mut().zip(&mut out.a_scales).skip(first);
            let row = row.as_chunks::<8>().0.as_chunks::<{ BLOCK / 8 }>().0;
            for (x, (packed, scales)) in row.iter().zip(places) {
                let mut peaks = [0; 8];
                for x in x {
                    peaks = core::array::from_fn(|i| peak(peaks[i], x[i]));
                }
                let upper = rounded_up(scale_of(peaks.into_iter().fold(0, u32::max)));
                scales[lane] = upper;
                let inverse = s.splat(inverse_of(widened(upper)));
                let mut codes = [0; BLOCK];
                s.store_codes(x.map(|x| s.mul(s.load(&x), inverse)), &mut codes);
                for (quad, codes) in packed.0.iter_mut().zip(codes.as_chunks().0) {
                    quad.as_chunks_mut::<4>().0[lane] = *codes;
                }
            }
        }
    }
}

fused_kernel! {
    fn codes_b[s](sizes: &Sizes, b: &[f32], out: &mut Codes) {
        let rank = sizes.rank.max(1);
        for panel in 0..sizes.panels() {
            let (first, ranks) = (panel * PANEL, (sizes.rank - panel * PANEL).min(PANEL));
            let mut peaks = [0; 8];
            for row in b.chunks_exact(rank) {
                let x = eight(&row[first..first + ranks]);
                peaks = core::array::from_fn(|i| peak(peaks[i], x[i]));
            }
            let scales = peaks.map(scale_of);
            let inverses = scales.map(inverse_of);
            out.b_scales[panel] = scales;
            let inverses = s.load(&inverses);
            for (wide, rows) in b.chunks(WIDE * rank).enumerate() {
                let at = sizes.b_pairs(first / RANKS, wide) + first % RANKS / 2;
                let pairs = &mut out.b[at..at + ranks.div_ceil(2)];
                for (chunk, rows) in rows.chunks(8 * rank).enumerate() {
                    let mut x = [[0.0; 8]; 8];
                    for (x, row) in x.iter_mut().zip(rows.chunks_exact(rank)) {
                        *x = eight(&row[first..first + ranks]);
                    }
                    let mut codes = [[0; 32]; 2];
                    for (codes, x) in codes.iter_mut().zip(x.as_chunks::<4>().0) {
                        s.store_codes(x.map(|x| s.mul(s.load(&x), inverses)), codes);
                    }
                    let codes = codes.as_flattened().as_chunks().0;
                    match pairs.first_chunk_mut::<4>() {
                        Some(pairs) => place(pairs, chunk, codes),
                        None => place(pairs, chunk, codes),
                    }
                }
            }
        }
    }
}

/// Puts eight outputs' codes of eight ranks into the pairs of these.
#[inline(always)]
fn place(pairs: &mut [BCodes], chunk: usize, codes: &[[i8; 8]]) {
    for (number, pair) in pairs.iter_mut().enumerate() {
        for (out, codes) in pair.0[chunk].as_chunks_mut().0.iter_mut().zip(codes) {
            let both: &[[i8; 2]] = codes.as_chunks().0;
            *out = both[number];
        }
    }
}

/// Up to eight numbers, and zeros.
#[inline(always)]
fn eight(x: &[f32]) -> [f32; 8] {
    match x.first_chunk() {
        Some(eight) => *eight,
        None => {
            let mut out = [0.0; 8];
            out[..x.len()].copy_from_slice(x);
            out
        }
    }
}

//! The operations in plain Rust: their definition, and what processors without a copy of their own run.

use super::{ROUND, Simd};
use crate::fused::half::{f16_of, f32_of};
use crate::fused::kv::round_within;

/// Runs everywhere.
#[derive(Clone, Copy, Debug)]
pub(in crate::fused) struct Plain;

/// Applies an operation lane by lane.
macro_rules! lanes {
    ($l:ident => $value:expr) => {{
        let mut out = [Default::default(); 8];
        for $l in 0..8 {
            out[$l] = $value;
        }
        out
    }};
}

impl Simd for Plain {
    type F = [f32; 8];
    type I = [i32; 8];
    type Quad = [i8; 4];
    type Pairs = [i16; 16];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }

    #[inline(always)]
    fn load(self, x: &[f32; 8]) -> [f32; 8] {
        *x
    }

    #[inline(always)]
    fn store(self, v: [f32; 8], out: &mut [f32; 8]) {
        *out = v;
    }

    #[inline(always)]
    fn load_f16(self, bits: &[u16; 8]) -> [f32; 8] {
        lanes!(l => f32_of(bits[l]))
    }

    #[inline(always)]
    fn store_f16(self, v: [f32; 8], out: &mut [u16; 8]) {
        *out = lanes!(l => f16_of(v[l]));
    }

    #[inline(always)]
    fn load_bf16(self, bits: &[u16; 8]) -> [f32; 8] {
        lanes!(l => f32::from_bits(u32::from(bits[l]) << 16))
    }

    #[inline(always)]
    fn load_i8(self, codes: &[i8; 8]) -> [f32; 8] {
        lanes!(l => f32::from(codes[l]))
    }

    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes!(l => a[l] + b[l])
    }

    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes!(l => a[l] - b[l])
    }

    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes!(l => a[l] * b[l])
    }

    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes!(l => a[l] / b[l])
    }

    #[inline(always)]
    fn fma(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        lanes!(l => a[l].mul_add(b[l], c[l]))
    }

    #[inline(always)]
    fn larger(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes!(l => if a[l] > b[l] { a[l] } else { b[l] })
    }

    #[inline(always)]
    fn smaller(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes!(l => if a[l] < b[l] { a[l] } else { b[l] })
    }

    #[inline(always)]
    fn zero_below(self, v: [f32; 8], x: [f32; 8], limit: [f32; 8]) -> [f32; 8] {
        lanes!(l => if x[l] < limit[l] { 0.0 } else { v[l] })
    }

    #[inline(always)]
    fn power_of_two(self, shifted: [f32; 8]) -> [f32; 8] {
        // The bias of an f32 exponent is 127.
        let offset = 127u32.wrapping_sub(ROUND.to_bits());
        lanes!(l => f32::from_bits(shifted[l].to_bits().wrapping_add(offset) << 23))
    }

    #[inline(always)]
    fn swap_pairs(self, v: [f32; 8]) -> [f32; 8] {
        lanes!(l => v[l ^ 1])
    }

    #[inline(always)]
    fn store_codes(self, x: [[f32; 8]; 4], out: &mut [i8; 32]) {
        for (out, x) in out.iter_mut().zip(x.as_flattened()) {
            *out = round_within(*x, 127.0) as i8;
        }
    }

    #[inline(always)]
    fn zero(self) -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    fn to_f32(self, v: [i32; 8]) -> [f32; 8] {
        lanes!(l => v[l] as f32)
    }

    #[inline(always)]
    fn quad(self, codes: &[i8; 4]) -> [i8; 4] {
        *codes
    }

    #[inline(always)]
    fn dot_quads(self, sums: [i32; 8], codes: &[i8; 32], x: [i8; 4]) -> [i32; 8] {
        let mut out = sums;
        for (out, codes) in out.iter_mut().zip(codes.as_chunks::<4>().0) {
            for (&code, x) in codes.iter().zip(x) {
                *out += i32::from(code) * i32::from(x);
            }
        }
        out
    }

    #[inline(always)]
    fn pairs(self, codes: &[i8; 16]) -> [i16; 16] {
        codes.map(i16::from)
    }

    #[inline(always)]
    fn splat_pair(self, pair: [i16; 2]) -> [i16; 16] {
        let mut out = [0; 16];
        for out in out.as_chunks_mut::<2>().0 {
            *out = pair;
        }
        out
    }

    #[inline(always)]
    fn dot_pairs(self, sums: [i32; 8], a: [i16; 16], b: [i16; 16]) -> [i32; 8] {
        lanes!(l => sums[l]
            + i32::from(a[2 * l]) * i32::from(b[2 * l])
            + i32::from(a[2 * l + 1]) * i32::from(b[2 * l + 1]))
    }

    #[inline(always)]
    fn prefetch<T>(self, _: Option<&T>) {}
}

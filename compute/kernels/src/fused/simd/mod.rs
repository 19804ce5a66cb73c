//! Eight numbers at a time: the few operations that the fused kernels are written in.
//!
//! A kernel is written once over [`Simd`] and compiled once per implementation. Each operation is
//! defined lane by lane and exactly rounded, so every implementation gives the same bits: fused
//! multiply-add is fused everywhere, in software where the processor lacks it. Only what a NaN
//! carries in its lower bits is left open.
//!
//! An implementation is a token whose existence proves that the processor can run it; so its
//! methods are safe to call.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
pub(super) use plain::Plain;

/// 1.5 * 2^23: adding it rounds a small `f32` to an integer, held in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;
/// The upper bits of ln 2, so few that its product with a small integer is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
/// ln 2 less [`LN2_HIGH`].
const LN2_LOW: f32 = -2.121_944_4e-4;

/// The operations, on eight lanes.
pub(super) trait Simd: Copy {
    /// Eight `f32`.
    type F: Copy;
    /// Eight `i32`.
    type I: Copy;
    /// Four codes of activations, ready for [`Simd::dot_quads`].
    type Quad: Copy;
    /// Sixteen `i16`, for [`Simd::dot_pairs`].
    type Pairs: Copy;

    /// All lanes the same.
    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; 8]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32; 8]);
    /// Half precision, exactly.
    fn load_f16(self, bits: &[u16; 8]) -> Self::F;
    /// To half precision, to the nearest, ties to even.
    fn store_f16(self, v: Self::F, out: &mut [u16; 8]);
    /// The upper halves of `f32`.
    fn load_bf16(self, bits: &[u16; 8]) -> Self::F;
    fn load_i8(self, codes: &[i8; 8]) -> Self::F;

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` where it is larger, else `b`; so `b` where either is NaN.
    fn larger(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` where it is smaller, else `b`; so `b` where either is NaN.
    fn smaller(self, a: Self::F, b: Self::F) -> Self::F;
    /// 0 where `x` is below `limit`, else `v`.
    fn zero_below(self, v: Self::F, x: Self::F, limit: Self::F) -> Self::F;
    /// 2 to the integer that adding [`ROUND`] left in the low bits of `shifted`.
    fn power_of_two(self, shifted: Self::F) -> Self::F;
    /// Neighbours exchanged: lanes 1, 0, 3, 2 ...
    fn swap_pairs(self, v: Self::F) -> Self::F;

    /// 32 codes: to the nearest integer, of two the even one, within plus and minus 127; -127 for
    /// NaN.
    fn store_codes(self, x: [Self::F; 4], out: &mut [i8; 32]);

    fn zero(self) -> Self::I;
    /// To the nearest `f32`.
    fn to_f32(self, v: Self::I) -> Self::F;
    fn quad(self, codes: &[i8; 4]) -> Self::Quad;
    /// Lane `l` gains the dot product of `codes[4 l ..][..4]` with `x`. No code may be -128.
    fn dot_quads(self, sums: Self::I, codes: &[i8; 32], x: Self::Quad) -> Self::I;
    fn pairs(self, codes: &[i8; 16]) -> Self::Pairs;
    /// Eight times the same pair.
    fn splat_pair(self, pair: [i16; 2]) -> Self::Pairs;
    /// Lane `l` gains the dot product of the pairs `l`.
    fn dot_pairs(self, sums: Self::I, a: Self::Pairs, b: Self::Pairs) -> Self::I;
    /// Asks for the line of memory where `at` starts; changes nothing that can be seen.
    fn prefetch<T>(self, at: Option<&T>);

    /// The exponential function as in [`math`](crate::math::exp_f32) (below -87 it is 0, above 88
    /// that of 88; a NaN stays one), but fused. Relative error below 2e-7.
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        let low = self.splat(-87.0);
        let bounded = self.smaller(self.splat(88.0), self.larger(low, x));
        let round = self.splat(ROUND);
        let shifted = self.fma(bounded, self.splat(core::f32::consts::LOG2_E), round);
        let power = self.sub(shifted, round);
        let r = self.fma(power, self.splat(-LN2_HIGH), bounded);
        let r = self.fma(power, self.splat(-LN2_LOW), r);
        // Taylor's series about zero; |r| <= ln 2 / 2.
        let mut sum = self.splat(1.0 / 5040.0);
        sum = self.fma(sum, r, self.splat(1.0 / 720.0));
        sum = self.fma(sum, r, self.splat(1.0 / 120.0));
        sum = self.fma(sum, r, self.splat(1.0 / 24.0));
        sum = self.fma(sum, r, self.splat(1.0 / 6.0));
        sum = self.fma(sum, r, self.splat(0.5));
        sum = self.fma(sum, r, self.splat(1.0));
        sum = self.fma(sum, r, self.splat(1.0));
        self.zero_below(self.mul(sum, self.power_of_two(shifted)), x, low)
    }
}

/// Folds eight lanes in halves: 4 to 4, 2 to 2, 1 to 1.
#[inline(always)]
pub(super) fn fold<S: Simd>(s: S, v: S::F) -> f32 {
    let mut lanes = [0.0; 8];
    s.store(v, &mut lanes);
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// A compiled copy of the fused kernels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// What every processor of this architecture runs.
    Plain(Plain),
    /// 256-bit registers, fused multiply-add and half-precision conversion of x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

impl Level {
    /// The best copy that this processor can run.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = Avx2::detect() {
            return Self::Avx2(avx2);
        }
        Self::Plain(Plain)
    }

    /// Every copy that this processor can run.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Plain(Plain)];
        #[cfg(target_arch = "x86_64")]
        all.extend(Avx2::detect().map(Self::Avx2));
        all
    }
}

/// Declares a kernel with one source and a copy per [`Level`]; `s` names the token. What it calls
/// over [`Simd`] must be `#[inline(always)]`, or it is compiled without the copy's features.
macro_rules! fused_kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident[$s:ident]($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::fused::simd::Level, $($arg: $type),*) {
            #[inline(always)]
            fn body<S: $crate::fused::simd::Simd>($s: S, $($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($s: $crate::fused::simd::Avx2, $($arg: $type),*) {
                body($s, $($arg),*);
            }

            match level {
                $crate::fused::simd::Level::Plain(s) => body(s, $($arg),*),
                #[cfg(target_arch = "x86_64")]
                $crate::fused::simd::Level::Avx2(s) => {
                    #[expect(unsafe_code, reason = "a copy compiled for detected features")]
                    // SAFETY: the token is made by `Avx2::detect` alone, after the processor and
                    // the system were found to support all three features.
                    unsafe {
                        avx2(s, $($arg),*);
                    }
                }
            }
        }
    };
}
pub(super) use fused_kernel;

#[cfg(test)]
mod tests;

//! Sums for four tokens with AVX2, written out: eight registers hold them, four more are enough.
//!
//! Nothing here knows of formats: codes lie unpacked, in bytes or in 16 bits.
#![expect(unsafe_code, reason = "instructions and unchecked reads of unpacked codes")]

use core::arch::asm;
use core::arch::x86_64::__m256i;

/// What four tokens' codes at an offset add to the sums, by the products of `$mul` and the sums of
/// `$add`; the first ones start them.
macro_rules! step {
    (first $mul:literal, $add:literal, $at:literal) => {
        concat!(
            step!(start $mul, "{a0}", "{b0}", "{x0}", $at),
            step!(start $mul, "{a1}", "{b1}", "{x1}", $at),
            step!(start $mul, "{a2}", "{b2}", "{x2}", $at),
            step!(start $mul, "{a3}", "{b3}", "{x3}", $at),
        )
    };
    (next $mul:literal, $add:literal, $at:literal) => {
        concat!(
            step!(more $mul, $add, "{a0}", "{b0}", "{x0}", $at),
            step!(more $mul, $add, "{a1}", "{b1}", "{x1}", $at),
            step!(more $mul, $add, "{a2}", "{b2}", "{x2}", $at),
            step!(more $mul, $add, "{a3}", "{b3}", "{x3}", $at),
        )
    };
    (start $mul:literal, $a:literal, $b:literal, $x:literal, $at:literal) => {
        concat!(
            "vpbroadcastd {x}, dword ptr [", $x, " + ", $at, "]\n",
            $mul, " ", $a, ", {c}, {x}\n",
            $mul, " ", $b, ", {d}, {x}\n",
        )
    };
    (more $mul:literal, $add:literal, $a:literal, $b:literal, $x:literal, $at:literal) => {
        concat!(
            "vpbroadcastd {x}, dword ptr [", $x, " + ", $at, "]\n",
            $mul, " {t}, {c}, {x}\n",
            $mul, " {x}, {d}, {x}\n",
            $add, " ", $a, ", ", $a, ", {t}\n",
            $add, " ", $b, ", ", $b, ", {x}\n",
        )
    };
}

/// A function that sums the products of unpacked codes with those of four tokens; of each step,
/// where the codes lie and where the tokens'. It is written out so that all sums stay in
/// registers: left alone, the compiler stores and loads half of them at each step.
macro_rules! four {
    ($(#[$doc:meta])* $name:ident: $mul:literal, $add:literal,
     $codes:literal $at:literal $(, $more:literal $then:literal)*) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As [`Lanes::dots`](super::lanes::Lanes::dots).
        #[inline]
        #[target_feature(enable = "avx2")]
        pub(super) unsafe fn $name(codes: *const u8, x: [*const i8; 4]) -> [[__m256i; 2]; 4] {
            let [x0, x1, x2, x3] = x;
            let (a0, a1, a2, a3): (__m256i, __m256i, __m256i, __m256i);
            let (b0, b1, b2, b3): (__m256i, __m256i, __m256i, __m256i);
            // SAFETY: the caller's; memory is only read. (That is not told: what follows is then not
            // fetched early, which would take registers.)
            unsafe {
                asm!(
                    concat!("vmovdqu {c}, ymmword ptr [{codes} + ", $codes, "]"),
                    concat!("vmovdqu {d}, ymmword ptr [{codes} + ", $codes, " + 32]"),
                    step!(first $mul, $add, $at),
                    $(
                        concat!("vmovdqu {c}, ymmword ptr [{codes} + ", $more, "]"),
                        concat!("vmovdqu {d}, ymmword ptr [{codes} + ", $more, " + 32]"),
                        step!(next $mul, $add, $then),
                    )*
                    codes = in(reg) codes,
                    x0 = in(reg) x0, x1 = in(reg) x1, x2 = in(reg) x2, x3 = in(reg) x3,
                    a0 = out(ymm_reg) a0, a1 = out(ymm_reg) a1,
                    a2 = out(ymm_reg) a2, a3 = out(ymm_reg) a3,
                    b0 = out(ymm_reg) b0, b1 = out(ymm_reg) b1,
                    b2 = out(ymm_reg) b2, b3 = out(ymm_reg) b3,
                    c = out(ymm_reg) _, d = out(ymm_reg) _, x = out(ymm_reg) _, t = out(ymm_reg) _,
                    options(nostack, preserves_flags),
                );
            }
            [[a0, b0], [a1, b1], [a2, b2], [a3, b3]]
        }
    };
}

four! {
    /// Eight quads in 16 bits: of codes of 4 bits.
    eight_quads: "vpmaddubsw", "vpaddw",
    0 0, 64 4, 128 8, 192 12, 256 16, 320 20, 384 24, 448 28
}
four! {
    /// Four quads in 16 bits: of codes of 5 bits.
    four_quads: "vpmaddubsw", "vpaddw", 0 0, 64 4, 128 8, 192 12
}
four! {
    /// Two quads in 16 bits: of codes of 6 bits.
    two_quads: "vpmaddubsw", "vpaddw", 0 0, 64 4
}
four! {
    /// A block's codes of 8 bits, in 16, with tokens in 16, summed in 32.
    wide_quads: "vpmaddwd", "vpaddd",
    0 0, 64 4, 128 8, 192 12, 256 16, 320 20, 384 24, 448 28,
    512 32, 576 36, 640 40, 704 44, 768 48, 832 52, 896 56, 960 60
}

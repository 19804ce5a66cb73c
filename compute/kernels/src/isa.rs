//! Which compiled copy of a kernel this processor runs.
//!
//! The copies come from the same source with the same operations in the same order; only the
//! width of the registers differs, so their results are equal bit for bit. (Fused
//! multiply-add would round differently and is never switched on.)

/// A compiled copy of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// What every processor of this architecture runs.
    Baseline,
    /// 256-bit registers of x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Isa {
    /// The widest copy that this processor can run.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        Self::Baseline
    }
}

/// Declares a kernel with one source and a copy per [`Isa`].
macro_rules! kernel {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name(isa: $crate::isa::Isa, $($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) {
                body($($arg),*);
            }

            match isa {
                $crate::isa::Isa::Baseline => body($($arg),*),
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => {
                    #[expect(unsafe_code, reason = "a copy compiled for a detected feature")]
                    // SAFETY: `Isa::Avx2` is made by `Isa::detect` alone (and by tests that ask it
                    // first), after the processor and the system were found to support AVX2.
                    unsafe {
                        avx2($($arg),*);
                    }
                }
            }
        }
    };
}
pub(crate) use kernel;

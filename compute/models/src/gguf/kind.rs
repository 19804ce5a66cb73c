//! How the numbers of a tensor are packed.
//!
//! Codes, block lengths and block sizes are those of `ggml.h`; unpacking is not done here.

/// How the numbers of a tensor are packed: the formats that this engine computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TensorKind {
    /// 32-bit floats.
    F32,
    /// 16-bit floats (IEEE 754 half precision).
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// 32 numbers of 4 bits with a scale.
    Q4_0,
    /// 32 numbers of 4 bits with a scale and a minimum.
    Q4_1,
    /// 32 numbers of 5 bits with a scale.
    Q5_0,
    /// 32 numbers of 5 bits with a scale and a minimum.
    Q5_1,
    /// 32 numbers of 8 bits with a scale.
    Q8_0,
    /// 256 numbers of 4 bits in 8 groups, scales and minima of 6 bits.
    Q4K,
    /// 256 numbers of 5 bits in 8 groups, scales and minima of 6 bits.
    Q5K,
    /// 256 numbers of 6 bits in 16 groups, scales of 8 bits.
    Q6K,
}

impl TensorKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The kind of a code in a file, unless this engine does not compute with it.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The code in a file.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// Numbers in one block; rows are whole blocks.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 4 + 12 + 128,
            Self::Q5K => 4 + 12 + 128 + 32,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// The name in ggml's words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Bytes of a tensor of this shape, fastest dimension first; `None` if the first dimension is
    /// no whole number of blocks or the size overflows.
    #[must_use]
    pub fn bytes_of(self, shape: &[u64]) -> Option<usize> {
        let (first, rest) = shape.split_first()?;
        if *first % self.block_len() as u64 != 0 {
            return None;
        }
        let row = (*first / self.block_len() as u64).checked_mul(self.block_bytes() as u64)?;
        let bytes = rest.iter().try_fold(row, |bytes, n| bytes.checked_mul(*n))?;
        usize::try_from(bytes).ok()
    }
}

/// The name of a code in ggml's words, also of those that this engine does not know.
pub(crate) const fn code_name(code: u32) -> &'static str {
    match code {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        4 => "Q4_2",
        5 => "Q4_3",
        6 => "Q5_0",
        7 => "Q5_1",
        8 => "Q8_0",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        30 => "BF16",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_name_kinds() {
        for kind in TensorKind::ALL {
            assert_eq!(TensorKind::from_code(kind.code()), Some(kind));
            assert_eq!(code_name(kind.code()), kind.name());
        }
        assert_eq!(TensorKind::from_code(10), None);
        assert_eq!((code_name(10), code_name(99)), ("Q2_K", "unknown"));
    }

    #[test]
    fn sizes_are_whole_rows() {
        assert_eq!(TensorKind::Q4_1.bytes_of(&[576, 192]), Some(192 * 18 * 20));
        assert_eq!(TensorKind::F32.bytes_of(&[3]), Some(12));
        assert_eq!(TensorKind::Q4_0.bytes_of(&[33, 2]), None);
        assert_eq!(TensorKind::Q6K.bytes_of(&[256, u64::MAX / 2]), None);
        assert_eq!(TensorKind::F32.bytes_of(&[]), None);
    }
}

//! The formats in which weights are stored.
//!
//! Sizes and names only; what the bytes mean is in `dequantize`.

/// How a matrix's elements are stored, by the names that GGUF files use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// 32-bit floating point, little endian.
    F32,
    /// 16-bit floating point (IEEE 754 half), little endian.
    F16,
    /// The upper half of a 32-bit floating point number.
    Bf16,
    /// 4 bits around a scale, blocks of 32.
    Q4_0,
    /// 4 bits, scale and minimum, blocks of 32.
    Q4_1,
    /// 5 bits around a scale, blocks of 32.
    Q5_0,
    /// 5 bits, scale and minimum, blocks of 32.
    Q5_1,
    /// 8 bits and a scale, blocks of 32.
    Q8_0,
    /// 4 bits, blocks of 256 with scales and minima of 6 bits per 32.
    Q4K,
    /// 5 bits, blocks of 256 with scales and minima of 6 bits per 32.
    Q5K,
    /// 6 bits, blocks of 256 with scales of 8 bits per 16.
    Q6K,
}

impl Format {
    /// Every format, for tests and tables.
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

    /// Elements in a block.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The name that people know it by.
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

    /// Bytes of `elements` elements, or nothing if they do not fill whole blocks.
    #[must_use]
    pub const fn bytes_of(self, elements: usize) -> Option<usize> {
        if elements.is_multiple_of(self.block_len()) {
            (elements / self.block_len()).checked_mul(self.block_bytes())
        } else {
            None
        }
    }
}

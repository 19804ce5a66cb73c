//! How weights lie on a device: nine formats of files in one shape.
//!
//! A row is cut into units of 16 elements. Each element is `scale * code + minimum` with a code of
//! 4, 5, 6 or 8 bits and the numbers of its unit, or a plain float. A panel of rows is one buffer
//! of words, in three parts: codes (4 bits each, or all 8, or the floats), what codes have above 4
//! bits, and scales. Nothing is rounded: scales stay the half-precision numbers and small integers
//! that the file has. Packing runs on the processor, once; nothing here touches a device.

use openledger_kernels::Format;

/// Elements of a unit.
pub(crate) const UNIT: usize = 16;

/// Elements that rows must be multiples of: what the shortest packed block has.
pub(crate) const COLS_MULTIPLE: usize = 32;

/// How an element becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Codes {
    /// Two codes in a byte.
    Four,
    /// The same, and one bit.
    Five,
    /// The same, and two bits.
    Six,
    /// Signed bytes.
    Eight,
    /// Half-precision floats.
    Half,
    /// The upper halves of floats.
    Brain,
    /// Floats.
    Single,
}

/// Where scales come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scales {
    /// A half per 32; the minimum is `-zero * scale`.
    Around {
        /// The code of 0.
        zero: u8,
    },
    /// Two halves per 32: scale and minimum.
    Pair,
    /// Per 256 two halves, and two bytes per 32 that they are multiplied with; the minimum is
    /// subtracted.
    Nested,
    /// Per 256 a half, and a signed byte per 16 that it is multiplied with; codes are around 32.
    Signed,
    /// None.
    Plain,
}

/// How a format lies on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Layout {
    pub(crate) codes: Codes,
    pub(crate) scales: Scales,
}

impl Layout {
    /// The layout of a file's format.
    pub(crate) const fn of(format: Format) -> Self {
        let (codes, scales) = match format {
            Format::F32 => (Codes::Single, Scales::Plain),
            Format::F16 => (Codes::Half, Scales::Plain),
            Format::Bf16 => (Codes::Brain, Scales::Plain),
            Format::Q4_0 => (Codes::Four, Scales::Around { zero: 8 }),
            Format::Q4_1 => (Codes::Four, Scales::Pair),
            Format::Q5_0 => (Codes::Five, Scales::Around { zero: 16 }),
            Format::Q5_1 => (Codes::Five, Scales::Pair),
            Format::Q8_0 => (Codes::Eight, Scales::Around { zero: 0 }),
            Format::Q4K => (Codes::Four, Scales::Nested),
            Format::Q5K => (Codes::Five, Scales::Nested),
            Format::Q6K => (Codes::Six, Scales::Signed),
        };
        Self { codes, scales }
    }

    /// Whether elements are codes, which integer products can take.
    pub(crate) const fn is_coded(self) -> bool {
        !matches!(self.scales, Scales::Plain)
    }

    /// Words of the codes of `elements` elements.
    const fn code_words(self, elements: usize) -> usize {
        match self.codes {
            Codes::Four | Codes::Five | Codes::Six => elements / 8,
            Codes::Eight => elements / 4,
            Codes::Half | Codes::Brain => elements / 2,
            Codes::Single => elements,
        }
    }

    /// Words of what codes have above 4 bits.
    const fn high_words(self, elements: usize) -> usize {
        match self.codes {
            Codes::Five => elements / 32,
            Codes::Six => elements / 16,
            _ => 0,
        }
    }

    /// Words of the scales.
    const fn scale_words(self, elements: usize) -> usize {
        match self.scales {
            Scales::Around { .. } => (elements / 32).div_ceil(2),
            Scales::Pair => elements / 32,
            Scales::Nested | Scales::Signed => elements / 256 * 5,
            Scales::Plain => 0,
        }
    }

    /// The parts of a panel of so many elements.
    pub(crate) const fn parts(self, elements: usize) -> Parts {
        // Codes are read two words at a time, which whole units are.
        let high = self.code_words(elements);
        let scales = high + self.high_words(elements);
        Parts { high, scales, words: (scales + self.scale_words(elements)).next_multiple_of(2) }
    }
}

/// Where the parts of a panel begin, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) high: usize,
    pub(crate) scales: usize,
    /// All of it.
    pub(crate) words: usize,
}

/// One row's codes and scales on their way to a panel.
struct Row<'a> {
    layout: Layout,
    format: Format,
    bytes: &'a [u8],
}

/// Packs rows of a file, as many as both hold, into a panel's words.
pub(crate) fn pack(format: Format, cols: usize, rows: &[u8], out: &mut [u32]) {
    let layout = Layout::of(format);
    let Some(row_bytes) = format.bytes_of(cols).filter(|bytes| *bytes > 0) else { return };
    let count = rows.len() / row_bytes;
    let parts = layout.parts(count * cols);
    let Some((codes, rest)) = out.split_at_mut_checked(parts.high) else { return };
    let Some((high, scales)) = rest.split_at_mut_checked(parts.scales - parts.high) else { return };
    let mut codes = codes.chunks_mut(layout.code_words(cols).max(1));
    let mut high = high.chunks_mut(layout.high_words(cols).max(1));
    for (number, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        let row = Row { layout, format, bytes };
        row.pack_codes(codes.next().unwrap_or_default(), high.next().unwrap_or_default());
        row.pack_scales(scales, number * (cols / 32));
    }
}

/// The bytes of a block, by their places in it.
fn word(bytes: &[u8], at: usize) -> u32 {
    let byte = |i: usize| bytes.get(at + i).copied().unwrap_or(0);
    u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
}

fn half_bits(bytes: &[u8], at: usize) -> u32 {
    word(bytes, at) & 0xFFFF
}

impl Row<'_> {
    fn pack_codes(&self, codes: &mut [u32], high: &mut [u32]) {
        if !self.layout.is_coded() {
            for (out, bytes) in codes.iter_mut().zip(self.bytes.chunks(4)) {
                *out = word(bytes, 0);
            }
            return;
        }
        let (len, block_bytes) = (self.format.block_len(), self.format.block_bytes());
        let (code_words, high_words) = (self.layout.code_words(len), self.layout.high_words(len));
        let mut high = high.chunks_mut(high_words.max(1));
        let mut elements = [0u8; 256];
        let blocks = self.bytes.chunks_exact(block_bytes);
        for (block, codes) in blocks.zip(codes.chunks_mut(code_words)) {
            let Some(elements) = elements.get_mut(..len) else { return };
            unpack(self.format, block, elements);
            self.pack_block(elements, codes, high.next().unwrap_or_default());
        }
    }

    fn pack_block(&self, elements: &[u8], codes: &mut [u32], high: &mut [u32]) {
        if self.layout.codes == Codes::Eight {
            for (out, elements) in codes.iter_mut().zip(elements.chunks_exact(4)) {
                *out = word(elements, 0);
            }
            return;
        }
        // The elements 0 to 3 of a word are the lower halves of its bytes, 4 to 7 the upper ones.
        for (out, elements) in codes.iter_mut().zip(elements.chunks_exact(8)) {
            *out = word(elements, 0) & 0x0F0F_0F0F | (word(elements, 4) & 0x0F0F_0F0F) << 4;
        }
        let bits = match self.layout.codes {
            Codes::Five => 1,
            Codes::Six => 2,
            _ => return,
        };
        for (out, elements) in high.iter_mut().zip(elements.chunks_exact(32 / bits)) {
            let above = elements.iter().enumerate();
            *out = above.fold(0, |all, (i, code)| all | u32::from(code >> 4) << (bits * i));
        }
    }

    /// `first` is the number of the row's first block of 32 in its panel.
    fn pack_scales(&self, out: &mut [u32], first: usize) {
        let blocks = self.bytes.chunks_exact(self.format.block_bytes());
        match self.layout.scales {
            Scales::Plain => {}
            Scales::Around { .. } => {
                for (number, block) in (first..).zip(blocks) {
                    if let Some(out) = out.get_mut(number / 2) {
                        *out |= half_bits(block, 0) << (16 * (number % 2));
                    }
                }
            }
            Scales::Pair => {
                let out = out.iter_mut().skip(first);
                out.zip(blocks).for_each(|(out, block)| *out = word(block, 0));
            }
            Scales::Nested => {
                let out = out.chunks_exact_mut(5).skip(first / 8);
                out.zip(blocks).for_each(|(out, block)| nested(block, out));
            }
            Scales::Signed => {
                let out = out.chunks_exact_mut(5).skip(first / 8);
                for (out, block) in out.zip(blocks) {
                    let words = (0..4).map(|i| word(block, 192 + 4 * i));
                    let all = core::iter::once(half_bits(block, 208)).chain(words);
                    out.iter_mut().zip(all).for_each(|(out, word)| *out = word);
                }
            }
        }
    }
}

/// The scales of a Q4_K or Q5_K block: its two halves, then scale and minimum of each 32 as bytes.
fn nested(block: &[u8], out: &mut [u32]) {
    let packed = |i: usize| u32::from(block.get(4 + i).copied().unwrap_or(0));
    let pair = |j: usize| match j {
        0..4 => (packed(j) & 63, packed(j + 4) & 63),
        _ => (
            (packed(j + 4) & 15) | (packed(j - 4) >> 6) << 4,
            (packed(j + 4) >> 4) | (packed(j) >> 6) << 4,
        ),
    };
    let words = (0..4).map(|i| {
        let ((scale, minimum), (next_scale, next_minimum)) = (pair(2 * i), pair(2 * i + 1));
        scale | minimum << 8 | next_scale << 16 | next_minimum << 24
    });
    let all = core::iter::once(word(block, 0)).chain(words);
    out.iter_mut().zip(all).for_each(|(out, word)| *out = word);
}

/// The codes of a block, in the order of its elements. The layouts are those of GGUF files.
fn unpack(format: Format, block: &[u8], out: &mut [u8]) {
    let byte = |i: usize| block.get(i).copied().unwrap_or(0);
    // Of the formats with blocks of 32: nibbles from `at`, the first 16 elements lower.
    let nibble = |at: usize, i: usize| (byte(at + i % 16) >> (4 * (i / 16))) & 15;
    let bit = |at: usize, i: usize| (byte(at + i / 8) >> (i % 8)) & 1;
    // Of the K formats: 64 elements in 32 bytes.
    let k_nibble =
        |at: usize, i: usize| (byte(at + 32 * (i / 64) + i % 32) >> (4 * (i / 32 % 2))) & 15;
    let code = |i: usize| match format {
        Format::Q4_0 => nibble(2, i),
        Format::Q4_1 => nibble(4, i),
        Format::Q5_0 => nibble(6, i) | bit(2, i) << 4,
        Format::Q5_1 => nibble(8, i) | bit(4, i) << 4,
        Format::Q8_0 => byte(2 + i),
        Format::Q4K => k_nibble(16, i),
        Format::Q5K => k_nibble(48, i) | ((byte(16 + i % 32) >> (i / 32)) & 1) << 4,
        Format::Q6K => {
            let (side, within) = (i / 128, i % 128);
            let low = (byte(64 * side + within % 64) >> (4 * (within / 64))) & 15;
            let high = byte(128 + 32 * side + within % 32) >> (2 * (within / 32));
            low | (high & 3) << 4
        }
        Format::F32 | Format::F16 | Format::Bf16 => 0,
    };
    for (i, out) in out.iter_mut().enumerate() {
        *out = code(i);
    }
}

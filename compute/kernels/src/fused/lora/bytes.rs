//! A repacked site as bytes, for a cache on disk.
//!
//! Little-endian, without padding: `"lorasite"`; five `u32`: version (1), format (0 F32, 1 F16, 2
//! Q8), rank, columns of A, rows of B; four zero bytes; then, each in the order in which the kernels
//! read it, A and B as numbers (F32, F16), or A's codes, A's scales (upper halves of `f32`), B's
//! codes and B's scales (`f32`, eight per panel of ranks). All lengths follow from the header.

use core::error::Error;
use core::fmt;

use super::site::{ACodes, BCodes, BLOCK, Codes, Floats, LoraFormat, LoraSite, Sizes, Store};

const MAGIC: &[u8; 8] = b"lorasite";
const VERSION: u32 = 1;
const HEADER: usize = 32;

/// The most of ranks, columns and rows that a file may name: far above any model's, and so small
/// that their products can be counted.
const SIZE_MAX: u32 = 1 << 20;

/// Why bytes were not read as a site.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoraReadError {
    /// They do not start as a site of this version does.
    Header,
    /// A format or size that no site has.
    Sizes {
        /// Format, rank, columns and rows, as the header says.
        found: [u32; 4],
    },
    /// Another length than the header asks for.
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes that the header asks for.
        expected: usize,
    },
    /// A code of -128 in matrix A, which the kernels cannot use.
    Code,
}

impl fmt::Display for LoraReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(
                f,
                "read a repacked adapter: the bytes do not start with \"lorasite\" and version {VERSION}; repack it from its source"
            ),
            Self::Sizes { found: [format, rank, cols, rows] } => write!(
                f,
                "read a repacked adapter: format {format}, rank {rank}, {cols} columns and {rows} rows are no site; repack it from its source"
            ),
            Self::Length { found, expected } => write!(
                f,
                "read a repacked adapter: {found} bytes, its header asks for {expected}; repack it from its source"
            ),
            Self::Code => write!(
                f,
                "read a repacked adapter: matrix A has a code of -128; repack it from its source"
            ),
        }
    }
}

impl Error for LoraReadError {}

/// Bytes of a number in memory and on disk.
trait Bytes: Copy {
    const LEN: usize;
    fn put(self, out: &mut Vec<u8>);
    /// From exactly [`Bytes::LEN`] bytes.
    fn get(bytes: &[u8]) -> Self;
}

impl Bytes for f32 {
    const LEN: usize = 4;

    fn put(self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Self {
        Self::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default())
    }
}

impl Bytes for u16 {
    const LEN: usize = 2;

    fn put(self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Self {
        Self::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default())
    }
}

fn put_all<T: Bytes>(chunks: &[[T; 8]], out: &mut Vec<u8>) {
    for &number in chunks.as_flattened() {
        number.put(out);
    }
}

/// Chunks of numbers from the front of `bytes`, which is long enough.
fn take_all<T: Bytes + Default>(bytes: &mut &[u8], len: usize) -> Vec<[T; 8]> {
    let (own, rest) = bytes.split_at(bytes.len().min(len * 8 * T::LEN));
    *bytes = rest;
    let chunk = |bytes: &[u8]| {
        let mut out = [T::default(); 8];
        for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(T::LEN)) {
            *out = T::get(bytes);
        }
        out
    };
    own.chunks_exact(8 * T::LEN).map(chunk).collect()
}

/// Codes from the front of `bytes`, which is long enough.
fn take_codes<const WIDTH: usize, const LINES: usize, T>(
    bytes: &mut &[u8],
    len: usize,
    element: impl Fn([[i8; WIDTH]; LINES]) -> T,
) -> Vec<T> {
    let (own, rest) = bytes.split_at(bytes.len().min(len * WIDTH * LINES));
    *bytes = rest;
    let lines = own.as_chunks::<WIDTH>().0.as_chunks::<LINES>().0;
    lines.iter().map(|lines| element(lines.map(|line| line.map(u8::cast_signed)))).collect()
}

impl LoraSite {
    /// Appends the site to `out`.
    pub fn to_bytes(&self, out: &mut Vec<u8>) {
        let Sizes { rank, cols, rows } = self.sizes;
        let format = match self.format() {
            LoraFormat::F32 => 0,
            LoraFormat::F16 => 1,
            LoraFormat::Q8 => 2,
        };
        out.extend(MAGIC);
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        for number in [VERSION, format, size(rank), size(cols), size(rows), 0] {
            out.extend(number.to_le_bytes());
        }
        match &self.store {
            Store::F32(Floats { a, b }) => {
                put_all(a, out);
                put_all(b, out);
            }
            Store::F16(Floats { a, b }) => {
                put_all(a, out);
                put_all(b, out);
            }
            Store::Q8(codes) => {
                for codes in &codes.a {
                    out.extend(codes.0.as_flattened().iter().map(|code| code.cast_unsigned()));
                }
                put_all(&codes.a_scales, out);
                for codes in &codes.b {
                    out.extend(codes.0.as_flattened().iter().map(|code| code.cast_unsigned()));
                }
                put_all(&codes.b_scales, out);
            }
        }
    }

    /// Reads what [`LoraSite::to_bytes`] wrote; there may be nothing behind it.
    ///
    /// # Errors
    /// Bytes that are no site; nothing is taken from the system for more than there is.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoraReadError> {
        let (header, mut rest) = bytes.split_at(bytes.len().min(HEADER));
        let mut words = [0; 6];
        let (magic, numbers) = header.split_at(header.len().min(8));
        for (word, bytes) in words.iter_mut().zip(numbers.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let [version, format, rank, cols, rows, zero] = words;
        if header.len() < HEADER || magic != MAGIC || version != VERSION || zero != 0 {
            return Err(LoraReadError::Header);
        }
        let wrong = LoraReadError::Sizes { found: [format, rank, cols, rows] };
        let format = match format {
            0 => LoraFormat::F32,
            1 => LoraFormat::F16,
            2 => LoraFormat::Q8,
            _ => return Err(wrong),
        };
        if rank.max(cols).max(rows) > SIZE_MAX || !cols.is_multiple_of(BLOCK as u32) {
            return Err(wrong);
        }
        let sizes = Sizes { rank: rank as usize, cols: cols as usize, rows: rows as usize };
        let expected = HEADER.saturating_add(len_of(&sizes, format).ok_or(wrong)?);
        if bytes.len() != expected {
            return Err(LoraReadError::Length { found: bytes.len(), expected });
        }
        let ((a_floats, b_floats), (a_codes, b_codes)) = (sizes.floats(), sizes.codes());
        let rest = &mut rest;
        let store = match format {
            LoraFormat::F32 => {
                Store::F32(Floats { a: take_all(rest, a_floats), b: take_all(rest, b_floats) })
            }
            LoraFormat::F16 => {
                Store::F16(Floats { a: take_all(rest, a_floats), b: take_all(rest, b_floats) })
            }
            LoraFormat::Q8 => {
                let a = take_codes(rest, a_codes, ACodes);
                if a.iter().any(|codes| codes.0.as_flattened().contains(&i8::MIN)) {
                    return Err(LoraReadError::Code);
                }
                let a_scales = take_all(rest, a_codes);
                let b = take_codes(rest, b_codes, BCodes);
                Store::Q8(Codes { a, a_scales, b, b_scales: take_all(rest, sizes.panels()) })
            }
        };
        Ok(Self { sizes, store })
    }
}

/// Bytes behind the header, if they can be counted.
fn len_of(sizes: &Sizes, format: LoraFormat) -> Option<usize> {
    // Sizes are at most 2^20, so 64 bits hold every product.
    let (rank, cols, rows) = (sizes.rank as u64, sizes.cols as u64, sizes.rows as u64);
    let (a, b) = (rank.div_ceil(8) * 8 * cols, rows.div_ceil(32) * 32);
    let bytes = match format {
        LoraFormat::F32 => (a + rank * b) * 4,
        LoraFormat::F16 => (a + rank * b) * 2,
        LoraFormat::Q8 => {
            let scales = a / BLOCK as u64 * 2 + rank.div_ceil(8) * 32;
            a + rank.div_ceil(2) * 2 * b + scales
        }
    };
    usize::try_from(bytes).ok().filter(|bytes| isize::try_from(*bytes).is_ok())
}

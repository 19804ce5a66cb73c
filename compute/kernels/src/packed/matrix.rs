//! Weights repacked for this machine.

use std::sync::Mutex;

use super::activations::BLOCK;
use super::arena::Region;
use super::kind::{self, Element, Kind, ROWS};
use super::parse::{parse, place, place_byte, place_half};
use crate::format::Format;
use crate::matrix::{Matrix, ShapeError};
use crate::pool::Pool;

/// A matrix `[rows, cols]` of weights in panels of 16 rows, the last one filled up with zeros.
///
/// It owns its memory, in large pages where the system has them, and needs about as many bytes
/// as the file did: codes keep their width, scales theirs.
#[derive(Debug)]
pub struct Packed {
    format: Format,
    rows: usize,
    cols: usize,
    region: Region,
}

/// What a format's packed blocks look like: [`Kind`]'s constants.
#[derive(Clone, Copy)]
struct Layout {
    bits: usize,
    group: usize,
    header: usize,
    record: usize,
    stride: usize,
}

impl Layout {
    const fn of<K: Kind>() -> Self {
        Self {
            bits: K::BITS,
            group: K::GROUP,
            header: K::HEADER,
            record: K::RECORD,
            stride: K::STRIDE,
        }
    }

    /// The layout of an integer format.
    const fn new(format: Format) -> Option<Self> {
        match format {
            Format::F32 | Format::F16 | Format::Bf16 => None,
            Format::Q4_0 => Some(Self::of::<kind::Q40>()),
            Format::Q4_1 => Some(Self::of::<kind::Q41>()),
            Format::Q5_0 => Some(Self::of::<kind::Q50>()),
            Format::Q5_1 => Some(Self::of::<kind::Q51>()),
            Format::Q8_0 => Some(Self::of::<kind::Q80>()),
            Format::Q4K => Some(Self::of::<kind::Q4K>()),
            Format::Q5K => Some(Self::of::<kind::Q5K>()),
            Format::Q6K => Some(Self::of::<kind::Q6K>()),
        }
    }
}

impl Packed {
    /// Repacks a matrix of any format.
    ///
    /// # Errors
    /// A number of columns that is no multiple of 32.
    pub fn new(matrix: &Matrix<'_>, pool: &Pool) -> Result<Self, ShapeError> {
        let (format, rows, cols) = (matrix.format(), matrix.rows(), matrix.cols());
        ShapeError::check(
            "a row of weights, in whole blocks of 32,",
            cols,
            cols.next_multiple_of(BLOCK),
        )?;
        let panels = rows.div_ceil(ROWS);
        let panel_bytes = panel_bytes(format, cols);
        let mut region = Region::new(panels * panel_bytes);
        if panel_bytes > 0 && panels > 0 {
            let share = panels.div_ceil(pool.threads()).max(1);
            let parts = region.bytes_mut().chunks_mut(share * panel_bytes).enumerate();
            // Each part takes its own panels once; the lock is never waited for.
            let parts: Vec<Mutex<_>> = parts.map(Mutex::new).collect();
            pool.run(parts.len(), &|part| {
                if let Some(Ok(mut part)) = parts.get(part).map(Mutex::lock) {
                    let (number, panels) = &mut *part;
                    for (i, panel) in panels.chunks_mut(panel_bytes).enumerate() {
                        pack_panel(matrix, (*number * share + i) * ROWS, panel);
                    }
                }
            });
        }
        Ok(Self { format, rows, cols, region })
    }

    /// How elements were stored in the file.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Outputs.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs, a multiple of 32.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Memory, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.region.len()
    }

    /// Panels of 16 rows.
    pub(super) const fn panels(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Bytes of a panel.
    pub(super) fn panel_bytes(&self) -> usize {
        panel_bytes(self.format, self.cols)
    }

    /// The first panel.
    pub(super) fn start(&self) -> *const u8 {
        self.region.start().as_ptr()
    }
}

/// Bytes of a panel of 16 rows.
fn panel_bytes(format: Format, cols: usize) -> usize {
    let element = match format {
        Format::F32 => kind::F32::BYTES,
        Format::F16 => kind::F16::BYTES,
        _ => kind::Bf16::BYTES,
    };
    Layout::new(format)
        .map_or(ROWS * cols * element, |layout| cols / BLOCK / layout.group * layout.stride)
}

/// Fills a panel of zeros with the rows from `first` on.
fn pack_panel(matrix: &Matrix<'_>, first: usize, panel: &mut [u8]) {
    let layout = Layout::new(matrix.format());
    for r in 0..ROWS {
        let Some(row) = matrix.row(first + r) else { return };
        match layout {
            Some(layout) => pack_row(matrix.format(), layout, row, r, panel),
            None if matrix.format() == Format::F32 => {
                for (bytes, slots) in row.as_chunks::<4>().0.iter().zip(panel.chunks_mut(4 * ROWS))
                {
                    let native = f32::from_le_bytes(*bytes).to_ne_bytes();
                    slots[4 * r..4 * r + 4].copy_from_slice(&native);
                }
            }
            None => {
                for (bytes, slots) in row.as_chunks::<2>().0.iter().zip(panel.chunks_mut(2 * ROWS))
                {
                    place_half(*bytes, r, slots);
                }
            }
        }
    }
}

/// Puts one row of an integer format into its places of a panel.
fn pack_row(format: Format, layout: Layout, row: &[u8], r: usize, panel: &mut [u8]) {
    let blocks = row.chunks_exact(format.block_bytes());
    for (block, group) in blocks.zip(panel.chunks_exact_mut(layout.stride)) {
        let (header, records) = group.split_at_mut(layout.header);
        for (j, record) in records.chunks_exact_mut(layout.record).enumerate() {
            let parsed = parse(format, block, j);
            let (codes, own) = record.split_at_mut(64 * layout.bits);
            place(&parsed.codes, layout.bits, r, codes);
            let halves = if layout.group == 1 { own } else { &mut *header };
            for (half, list) in parsed.halves.iter().zip(halves.chunks_exact_mut(2 * ROWS)) {
                place_half(*half, r, list);
            }
            if layout.group > 1 {
                let own = &mut record[64 * layout.bits..];
                for (factor, list) in parsed.factors.iter().zip(own.chunks_exact_mut(ROWS)) {
                    place_byte(*factor, r, list);
                }
            }
        }
    }
}

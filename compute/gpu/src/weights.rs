//! Weights on a device.

use openledger_kernels::{Format, Matrix};

use crate::buffer::Buffer;
use crate::error::GpuError;
use crate::gpu::Gpu;
use crate::layout::{COLS_MULTIPLE, Layout, Parts, pack};
use crate::limits::{PANEL_ROWS_MAX, UPLOAD_BYTES_MAX};

/// Rows of a matrix in one buffer.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) parts: Parts,
    pub(crate) words: Buffer,
}

/// A matrix `[rows, cols]` on a device, in panels of whole rows that each can be bound.
#[derive(Debug)]
pub struct Weights {
    format: Format,
    rows: usize,
    cols: usize,
    pub(crate) panels: Vec<Panel>,
}

/// Rows of each panel: as many as a binding takes, in whole groups.
fn panel_rows(layout: Layout, cols: usize, bytes_max: u64) -> usize {
    // Estimated by 64 rows at a time, so that parts that are rounded up are counted.
    let bytes = (4 * layout.parts(64 * cols).words as u64).max(1);
    let rows = usize::try_from(bytes_max / bytes).unwrap_or(usize::MAX).saturating_mul(64);
    rows.clamp(64, PANEL_ROWS_MAX)
}

impl Weights {
    /// Whether a matrix can be had on a device: rows of whole blocks of 32.
    ///
    /// # Errors
    /// Other rows, or an empty matrix.
    pub fn check(matrix: &Matrix<'_>) -> Result<(), GpuError> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        if rows == 0 || cols == 0 || !cols.is_multiple_of(COLS_MULTIPLE) {
            let what = format!("a matrix of {rows} rows of {cols} elements, which");
            return Err(GpuError::Shape { what, multiple: COLS_MULTIPLE });
        }
        Ok(())
    }

    /// What a matrix takes of a device's memory, in bytes.
    #[must_use]
    pub fn bytes_of(gpu: &Gpu, matrix: &Matrix<'_>) -> u64 {
        let layout = Layout::of(matrix.format());
        let most = panel_rows(layout, matrix.cols(), gpu.panel_bytes_max());
        let bytes = |rows: usize| 4 * layout.parts(rows * matrix.cols()).words as u64;
        let (whole, rest) = (matrix.rows() / most, matrix.rows() % most);
        whole as u64 * bytes(most) + bytes(rest)
    }

    /// Packs a matrix and puts it on a device.
    ///
    /// # Errors
    /// Rows that are no whole blocks of 32, no room, a lost device.
    pub fn upload(gpu: &Gpu, label: &str, matrix: &Matrix<'_>) -> Result<Self, GpuError> {
        Self::check(matrix)?;
        let (format, rows, cols) = (matrix.format(), matrix.rows(), matrix.cols());
        let layout = Layout::of(format);
        let most = panel_rows(layout, cols, gpu.panel_bytes_max());
        let row_bytes = matrix.data().len() / rows;
        let panels = matrix.data().chunks(most * row_bytes).enumerate().map(|(number, data)| {
            let rows = data.len() / row_bytes;
            let parts = layout.parts(rows * cols);
            let mut words = vec![0u32; parts.words];
            pack(format, cols, data, &mut words);
            let words = gpu.upload(label, bytemuck::cast_slice(&words))?;
            Ok(Panel { first: number * most, rows, parts, words })
        });
        let panels = panels.collect::<Result<_, GpuError>>()?;
        Ok(Self { format, rows, cols, panels })
    }

    /// How the file stores it.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Outputs.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// What it takes of the device's memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.panels.iter().map(|panel| panel.words.bytes()).sum()
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::of(self.format)
    }
}

impl Gpu {
    /// Bytes of a panel: bounded by what can be bound, and by what is packed at a time on the way.
    fn panel_bytes_max(&self) -> u64 {
        let features = self.features();
        let most = features.max_binding_bytes.min(features.max_buffer_bytes);
        most.min(crate::limits::PANEL_BYTES_MAX).max(UPLOAD_BYTES_MAX as u64)
    }
}

//! Keys and values of a layer on the device, in pages, and how rows find theirs.
//!
//! The same pages as the processor's (`openledger_kernels::fused::KvCache`), laid out for threads
//! that read side by side: `[pages, keys and values, kv_heads, page_tokens, head_dim]`, so that a
//! page is one run of bytes. Whom a page belongs to, and when it is free, is not known here.

mod copy;
mod rows;
mod write;

pub use copy::KvCopy;
pub use rows::RowTable;
pub use write::{HeadNorms, KvInput, KvWrite};

use openledger_kernels::fused::KvFormat;
use openledger_kernels::reference::AttentionShape;

use crate::buffer::Buffer;
use crate::error::GpuError;
use crate::gpu::Gpu;

/// The pages of one layer.
#[derive(Debug)]
pub struct KvPages {
    shape: AttentionShape,
    format: KvFormat,
    pages: usize,
    kv: Buffer,
    /// `[pages, keys and values, kv_heads, page_tokens]`, of 8 bits alone.
    scales: Buffer,
}

/// The shader piece that stores and loads a format, and what it needs.
pub(crate) const fn format_files(format: KvFormat) -> [&'static str; 2] {
    let half = include_str!("../shaders/half.wgsl");
    match format {
        KvFormat::F32 => [half, include_str!("../shaders/kv_f32.wgsl")],
        KvFormat::F16 => [half, include_str!("../shaders/kv_f16.wgsl")],
        KvFormat::Q8 => [half, include_str!("../shaders/kv_q8.wgsl")],
    }
}

/// Checks that kernels can work with these sizes.
pub(crate) fn check(shape: &AttentionShape) -> Result<(), GpuError> {
    let AttentionShape { heads, kv_heads, head_dim, page_tokens } = *shape;
    let grouped = heads.checked_rem(kv_heads) == Some(0) && heads > 0;
    let sized = head_dim > 0 && head_dim.is_multiple_of(4) && head_dim <= 1024;
    if !grouped || !sized || page_tokens == 0 {
        return Err(GpuError::misuse(format!(
            "attention of {heads} heads over {kv_heads}, each of {head_dim} (a multiple of 4, at \
             most 1,024), in pages of {page_tokens} positions has no kernel"
        )));
    }
    Ok(())
}

impl KvPages {
    /// Pages of zeros.
    ///
    /// # Errors
    /// Sizes that no kernel works with, more bytes than the device has left.
    pub fn new(
        gpu: &Gpu,
        shape: AttentionShape,
        pages: usize,
        format: KvFormat,
    ) -> Result<Self, GpuError> {
        check(&shape)?;
        let (numbers, scales) = Self::page_parts(&shape, format);
        let pages_u64 = pages.max(1) as u64;
        let kv = gpu.buffer("keys and values", pages_u64.saturating_mul(numbers))?;
        let scales = gpu.buffer("scales of keys and values", pages_u64.saturating_mul(scales))?;
        Ok(Self { shape, format, pages, kv, scales })
    }

    /// Bytes of a page's numbers and of its scales.
    fn page_parts(shape: &AttentionShape, format: KvFormat) -> (u64, u64) {
        let places = (shape.kv_heads as u64).saturating_mul(shape.page_tokens as u64) * 2;
        let number = shape.head_dim as u64 * format.element_bytes() as u64;
        let scaled = matches!(format, KvFormat::Q8);
        (places.saturating_mul(number), if scaled { places.saturating_mul(4) } else { 0 })
    }

    /// What one page takes on the device, in bytes.
    #[must_use]
    pub fn page_bytes(shape: &AttentionShape, format: KvFormat) -> u64 {
        let (numbers, scales) = Self::page_parts(shape, format);
        numbers.saturating_add(scales)
    }

    /// How many there are.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.pages
    }

    /// How they store.
    #[must_use]
    pub const fn format(&self) -> KvFormat {
        self.format
    }

    /// The sizes that they were made for.
    #[must_use]
    pub const fn shape(&self) -> &AttentionShape {
        &self.shape
    }

    /// Their numbers.
    pub(crate) const fn kv(&self) -> &Buffer {
        &self.kv
    }

    /// Their scales; a word that means nothing where there are none.
    pub(crate) const fn scales(&self) -> &Buffer {
        &self.scales
    }

    /// Whether they are what a kernel was compiled for.
    pub(crate) fn fits(&self, shape: &AttentionShape, format: KvFormat) -> Result<(), GpuError> {
        if self.shape == *shape && self.format == format {
            return Ok(());
        }
        Err(GpuError::misuse(format!(
            "pages of {:?} in {:?} were given to a kernel for {shape:?} in {format:?}",
            self.shape, self.format
        )))
    }
}

#[cfg(test)]
pub(crate) mod tests;

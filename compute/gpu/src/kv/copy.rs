//! Copies of whole pages, for sequences that go their own way from a common start.

use std::sync::Arc;

use openledger_kernels::fused::KvFormat;
use openledger_kernels::reference::AttentionShape;

use super::{KvPages, check, format_files};
use crate::buffer::Binding;
use crate::compose::{compose, room, word};
use crate::error::GpuError;
use crate::gpu::Gpu;
use crate::kernel::{Access, Kernel};
use crate::limits::GROUPS_MAX;
use crate::step::Step;

/// Threads of a workgroup.
const THREADS: usize = 128;

/// Workgroups that share a page.
const SHARES: u32 = 8;

/// Copies pages within a layer.
#[derive(Clone, Debug)]
pub struct KvCopy {
    shape: AttentionShape,
    format: KvFormat,
    kernel: Arc<Kernel>,
}

impl KvCopy {
    /// Compiles it.
    ///
    /// # Errors
    /// Sizes that no kernel works with, a shader that does not compile, a lost device.
    pub fn new(gpu: &Gpu, shape: AttentionShape, format: KvFormat) -> Result<Self, GpuError> {
        check(&shape)?;
        let [half, store] = format_files(format);
        let file = include_str!("../shaders/kv_copy.wgsl");
        let source = compose(&[("THREADS", THREADS.into())], &[half, store, file]);
        let bound = [Access::Read, Access::Write, Access::Write];
        Ok(Self { shape, format, kernel: gpu.kernel("copy of pages", &source, &bound, &[])? })
    }

    /// Copies `count` pages: `pairs` are words, from which page and to which. No page may be
    /// copied to in two pairs, nor from one that another pair copies to; pages that the layer does
    /// not have are passed over.
    pub fn record(&self, step: &mut Step<'_>, layer: &KvPages, count: usize, pairs: Binding<'_>) {
        if let Err(error) = layer.fits(&self.shape, self.format) {
            return step.fail(error);
        }
        if count > GROUPS_MAX {
            let what = format!("{count} pages are more than {GROUPS_MAX} copies in one run");
            return step.fail(GpuError::misuse(what));
        }
        room(step, "pairs of pages", pairs, count * 2);
        let places = self.shape.kv_heads * self.shape.page_tokens * 2;
        let scales = if self.format == KvFormat::Q8 { places } else { 0 };
        let params = [
            word(step, places * (self.shape.head_dim / 4)),
            word(step, scales),
            word(step, layer.pages()),
        ];
        let bound = [pairs, layer.kv().all(), layer.scales().all()];
        step.run(&self.kernel, &bound, &params, [count as u32, SHARES, 1]);
    }
}

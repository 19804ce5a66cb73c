//! Memory on a device.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::GpuError;
use crate::gpu::{Gpu, Shared, locked};
use crate::limits::{BINDING_ALIGNMENT, UPLOAD_BYTES_MAX};

/// A storage buffer. It counts against the device's budget until it is dropped.
pub struct Buffer {
    pub(crate) raw: wgpu::Buffer,
    pub(crate) id: u64,
    label: String,
    bytes: u64,
    shared: Arc<Shared>,
}

impl core::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Buffer({}, {} bytes)", self.label, self.bytes)
    }
}

impl Buffer {
    /// What it is for.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its size: what was asked for, rounded up to whole words of 4 bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it, for a kernel.
    #[must_use]
    pub fn all(&self) -> Binding<'_> {
        Binding { buffer: self, offset: 0, bytes: self.bytes }
    }

    /// A part of it, for a kernel: `offset` in bytes, a multiple of 256; `bytes` a multiple of 4.
    #[must_use]
    pub fn part(&self, offset: u64, bytes: u64) -> Binding<'_> {
        Binding { buffer: self, offset, bytes }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.shared.memory_used.fetch_sub(self.bytes, Ordering::Relaxed);
        locked(&self.shared.bind_groups).forget(self.id);
    }
}

/// What a kernel sees of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    pub(crate) buffer: &'a Buffer,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl<'a> From<&'a Buffer> for Binding<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        buffer.all()
    }
}

impl Binding<'_> {
    /// Whether a device can bind it.
    pub(crate) fn check(&self, bytes_max: u64) -> Result<(), GpuError> {
        let Self { buffer, offset, bytes } = *self;
        let end = offset.checked_add(bytes);
        let aligned = offset.is_multiple_of(BINDING_ALIGNMENT) && bytes.is_multiple_of(4);
        if bytes == 0 || !aligned || end.is_none_or(|end| end > buffer.bytes) || bytes > bytes_max {
            return Err(GpuError::misuse(format!(
                "bytes {offset} and {bytes} more of {buffer:?} cannot be bound (at most {bytes_max})"
            )));
        }
        Ok(())
    }
}

impl Gpu {
    /// A buffer of zeros; at least 4 bytes.
    ///
    /// # Errors
    /// More than the budget or the device has left, or than one buffer may have.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        let shared = &self.shared;
        shared.check()?;
        let budget = shared.memory_max;
        let bytes = bytes.max(4).checked_next_multiple_of(4).unwrap_or(u64::MAX);
        let one = shared.features.max_buffer_bytes;
        if bytes > one {
            let what = format!("{label}, of which one buffer holds at most {one} bytes,");
            return Err(GpuError::OutOfMemory { what, bytes });
        }
        let grown = |used: u64| used.checked_add(bytes).filter(|used| *used <= budget);
        let order = Ordering::Relaxed;
        if let Err(used) = shared.memory_used.fetch_update(order, order, grown) {
            let left = budget.saturating_sub(used);
            return Err(GpuError::Memory { what: label.to_owned(), bytes, left, budget });
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        match shared.caught(|| shared.device.create_buffer(&descriptor)) {
            Ok(raw) => Ok(Buffer {
                raw,
                id: shared.next_buffer.fetch_add(1, order),
                label: label.to_owned(),
                bytes,
                shared: Arc::clone(shared),
            }),
            Err(error) => {
                shared.memory_used.fetch_sub(bytes, order);
                Err(match shared.explain(&error, label) {
                    GpuError::OutOfMemory { what, .. } => GpuError::OutOfMemory { what, bytes },
                    other => other,
                })
            }
        }
    }

    /// A buffer that holds these bytes, and zeros up to a whole word.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn upload(&self, label: &str, data: &[u8]) -> Result<Buffer, GpuError> {
        let buffer = self.buffer(label, data.len() as u64)?;
        self.write(&buffer, 0, data)?;
        Ok(buffer)
    }

    /// Writes bytes at an offset that is a multiple of 4; a last word that is not whole is filled
    /// up with zeros. Ordered before all steps that are submitted later.
    ///
    /// # Errors
    /// Bytes outside the buffer, a lost device.
    pub fn write(&self, buffer: &Buffer, offset: u64, data: &[u8]) -> Result<(), GpuError> {
        let shared = &self.shared;
        shared.check()?;
        let end = (data.len() as u64).checked_next_multiple_of(4);
        let end = end.and_then(|len| len.checked_add(offset));
        if !offset.is_multiple_of(4) || end.is_none_or(|end| end > buffer.bytes) {
            let len = data.len();
            let what = format!("{len} bytes at {offset} cannot be written to {buffer:?}");
            return Err(GpuError::misuse(what));
        }
        let mut offset = offset;
        for part in data.chunks(UPLOAD_BYTES_MAX) {
            let whole = part.len() - part.len() % 4;
            let (words, rest) = part.split_at(whole);
            let mut last = [0; 4];
            last.iter_mut().zip(rest).for_each(|(last, byte)| *last = *byte);
            let write = || {
                shared.queue.write_buffer(&buffer.raw, offset, words);
                if !rest.is_empty() {
                    shared.queue.write_buffer(&buffer.raw, offset + whole as u64, &last);
                }
            };
            shared.caught(write).map_err(|error| shared.explain(&error, &buffer.label))?;
            offset += part.len() as u64;
            if part.len() == UPLOAD_BYTES_MAX {
                // Staging memory is given back only when the copy is done.
                shared.queue.submit([]);
                shared.wait()?;
            }
        }
        Ok(())
    }

    /// Reads bytes back, and waits for everything submitted so far. Steps have
    /// [`crate::Step::read`], which costs no submission of its own.
    ///
    /// # Errors
    /// Bytes outside the buffer, a lost device.
    pub fn read(&self, buffer: &Buffer, range: Range<u64>) -> Result<Vec<u8>, GpuError> {
        let mut step = self.step();
        let ticket = step.read(buffer, range);
        let output = step.submit()?;
        Ok(output.bytes(ticket).to_vec())
    }
}

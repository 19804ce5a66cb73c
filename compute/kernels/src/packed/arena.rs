//! Memory for packed weights: large pages where the system has them.
//!
//! A matrix of a small model is smaller than a large page, so matrices share chunks of memory,
//! in the order in which they are packed. What is left of a chunk goes back to the system with
//! the last matrix in it; nothing is moved.
#![expect(unsafe_code, reason = "memory of its own alignment, shared by several owners")]

use core::ptr::NonNull;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a large page, on the processors that have them.
const HUGE: usize = 2 << 20;

/// Bytes taken from the system at a time. Pages are only backed by memory once written, so the
/// unused end of a chunk costs addresses alone; allocators map so much apart and give it back.
const CHUNK: usize = 32 << 20;

/// Bytes of a cache line, to which regions are aligned.
const LINE: usize = 64;

/// Memory from the system.
#[derive(Debug)]
struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a chunk is only a range of memory; who may touch which part is `Region`'s matter.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.max(CHUNK).next_multiple_of(HUGE);
        let Ok(layout) = Layout::from_size_align(bytes, HUGE) else {
            handle_alloc_error(Layout::new::<[u8; HUGE]>())
        };
        // SAFETY: the layout's size is at least `CHUNK`, so not 0.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        advise(start, bytes);
        Self { start, layout }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and the last region that used it is gone.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Asks for large pages; a system that refuses gives small ones.
#[cfg(target_os = "linux")]
fn advise(start: NonNull<u8>, bytes: usize) {
    use core::ffi::{c_int, c_void};

    const MADV_HUGEPAGE: c_int = 14;
    unsafe extern "C" {
        fn madvise(start: *mut c_void, bytes: usize, advice: c_int) -> c_int;
    }
    // SAFETY: the range is one allocation, aligned to pages; this advice changes no contents.
    let _ = unsafe { madvise(start.as_ptr().cast(), bytes, MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: NonNull<u8>, _: usize) {}

/// The chunk that the next regions come from, and how much of it is given out.
static CURRENT: Mutex<Option<(Arc<Chunk>, usize)>> = Mutex::new(None);

/// A range of a chunk with one owner, aligned to 64 bytes.
#[derive(Debug)]
pub(super) struct Region {
    chunk: Arc<Chunk>,
    first: usize,
    len: usize,
}

impl Region {
    /// `len` bytes of 0.
    pub(super) fn new(len: usize) -> Self {
        let taken = len.next_multiple_of(LINE);
        // No code that may panic runs under this lock, so a poisoned one is as good.
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |used: &usize, chunk: &Chunk| taken <= chunk.layout.size() - used;
        let (chunk, first) = match &mut *current {
            Some((chunk, used)) if fits(used, chunk) => {
                let first = *used;
                *used += taken;
                (Arc::clone(chunk), first)
            }
            other => {
                let chunk = Arc::new(Chunk::new(taken));
                let left = |size: usize, used: usize| size - used;
                let old = other.as_ref().map_or(0, |(old, used)| left(old.layout.size(), *used));
                if left(chunk.layout.size(), taken) >= old {
                    *other = Some((Arc::clone(&chunk), taken));
                }
                (chunk, 0)
            }
        };
        drop(current);
        let region = Self { chunk, first, len };
        // SAFETY: the range lies in the chunk and was given to this region alone.
        unsafe { region.start().as_ptr().write_bytes(0, len) };
        region
    }

    /// Its first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        // SAFETY: `first` lies within the chunk, or at its end for an empty region.
        unsafe { self.chunk.start.add(self.first) }
    }

    /// Its length in bytes.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Its bytes.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range lies in the chunk, was written to at once, and belongs to this region
        // alone, which is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.start().as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zeroed_aligned_and_apart() {
        let mut regions: Vec<Region> = (0..64).map(|i| Region::new(i * 37)).collect();
        regions.push(Region::new(CHUNK + 1));
        regions.push(Region::new(5));
        for (i, region) in regions.iter_mut().enumerate() {
            assert_eq!(region.start().as_ptr() as usize % LINE, 0);
            assert!(region.bytes_mut().iter().all(|&byte| byte == 0));
            region.bytes_mut().fill(i as u8 + 1);
        }
        for (i, region) in regions.iter_mut().enumerate() {
            assert!(region.bytes_mut().iter().all(|&byte| byte == i as u8 + 1));
        }
        assert_eq!(regions[64].len(), CHUNK + 1);
    }
}

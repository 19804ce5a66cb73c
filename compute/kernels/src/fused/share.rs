//! Parts of one slice for several threads.

use core::marker::PhantomData;
use core::ops::Range;

use crate::pool::Pool;

/// Elements below which the caller works alone: sharing them costs more than working on them.
const SHARED_MIN: usize = 1 << 14;

/// A slice whose parts are handed to several threads; that no two overlap is theirs to see to.
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

#[expect(unsafe_code, reason = "parts of one slice are written by several threads")]
// SAFETY: the only access is `Disjoint::part`, whose callers promise that parts in use at the same
// time do not overlap; so this is no more than handing out the halves of `split_at_mut`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) const fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// A part; empty if it does not lie within the slice.
    ///
    /// # Safety
    /// No other part that overlaps it may be in use.
    #[expect(unsafe_code, reason = "parts of one slice are written by several threads")]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        if range.start > range.end || range.end > self.len {
            return &mut [];
        }
        // SAFETY: within the slice, which is borrowed mutably for 'a by this value alone; the
        // caller promises that nobody else uses these elements.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Calls `work` with ranges of `x` that together are all of it, and where each starts. They start
/// at multiples of `width`, and there is one per thread if that pays.
pub(super) fn for_ranges(
    pool: &Pool,
    x: &mut [f32],
    width: usize,
    work: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    if x.len() < SHARED_MIN || pool.threads() == 1 {
        work(0, x);
        return;
    }
    let width = width.max(1);
    let height = x.len().div_ceil(width).div_ceil(pool.threads()) * width;
    let (parts, len) = (x.len().div_ceil(height), x.len());
    let x = Disjoint::new(x);
    pool.run(parts, &|part| {
        let start = part * height;
        #[expect(unsafe_code, reason = "parts of one slice are written by several threads")]
        // SAFETY: each part runs once and has its own range.
        let range = unsafe { x.part(start..len.min(start + height)) };
        work(start, range);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_and_start_at_rows() {
        for threads in [1, 2, 3] {
            for (len, width) in [(0, 7), (SHARED_MIN - 1, 7), (7 * SHARED_MIN, 7), (99_999, 0)] {
                let mut x = vec![0.0; len];
                for_ranges(&Pool::new(threads), &mut x, width, &|start, x| {
                    assert_eq!(start % width.max(1), 0);
                    for (i, x) in x.iter_mut().enumerate() {
                        *x += (start + i) as f32;
                    }
                });
                assert!(x.iter().enumerate().all(|(i, &x)| x == i as f32));
            }
        }
    }
}

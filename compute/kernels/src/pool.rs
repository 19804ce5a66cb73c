//! A fixed set of threads that share one kernel's work.
//!
//! A job is a number of parts; which thread runs which part is fixed by its number, and no part
//! may depend on another, so results cannot depend on the number of threads. There is no queue:
//! the caller works too, and returns when the last part is done.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A job whose borrow is not known to the threads: [`Pool::run`] outlives every use of it.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn(usize) + Sync));

#[expect(unsafe_code, reason = "a pointer to a job that any thread may call")]
// SAFETY: what it points to is `Sync`, so it may be called from any thread; that it is alive
// while it is called is `Pool::run`'s duty.
unsafe impl Send for Job {}

/// What the threads wait for.
struct State {
    /// Counts jobs; a thread runs each number once.
    number: u64,
    job: Option<Job>,
    parts: usize,
    /// Threads that share the job, the caller's own among them.
    stride: usize,
    /// A part panicked in a thread of the pool.
    panicked: bool,
    closing: bool,
}

struct Shared {
    state: Mutex<State>,
    /// The number in `state`, to be looked at without the lock.
    published: AtomicU64,
    start: Condvar,
    /// Threads that have not finished the present job.
    busy: AtomicUsize,
    idle: Condvar,
}

impl Shared {
    /// No code that may panic runs under this lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a thread looks before it sleeps, some tens of microseconds: parts end at nearly the
/// same time and jobs follow each other closely, while waking a sleeper takes as long as a job.
const SPINS: usize = 2_000;

/// Looks until something is so, at most [`SPINS`] times.
fn spin_until(so: impl Fn() -> bool) {
    for _ in 0..SPINS {
        if so() {
            return;
        }
        core::hint::spin_loop();
    }
}

/// A fixed set of threads; dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// One job at a time.
    running: Mutex<()>,
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller's own among them; 0 counts as 1. Threads that the
    /// system refuses to start are done without.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let state =
            State { number: 0, job: None, parts: 0, stride: 1, panicked: false, closing: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            published: AtomicU64::new(0),
            start: Condvar::new(),
            busy: AtomicUsize::new(0),
            idle: Condvar::new(),
        });
        let mut handles = Vec::new();
        for _ in 1..threads {
            let (index, own) = (handles.len() + 1, Arc::clone(&shared));
            let named = std::thread::Builder::new().name(format!("kernels-{index}"));
            // A thread learns the stride with each job, so a missing one is no gap.
            match named.spawn(move || work(&own, index)) {
                Ok(handle) => handles.push(handle),
                Err(_) => break,
            }
        }
        Self { shared, threads: handles, running: Mutex::new(()) }
    }

    /// Threads that work on a job, the caller's own among them.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `job` with each number below `parts`, spread over the threads, and returns when all
    /// calls have. Calls from several threads wait for each other; a job must not start another
    /// on the same pool.
    ///
    /// # Panics
    /// When a call of `job` does.
    pub fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        let stride = self.threads();
        if stride == 1 || parts <= 1 {
            (0..parts).for_each(job);
            return;
        }
        let _one = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut state = self.shared.lock();
            state.number += 1;
            state.job = Some(Job(erase(job)));
            state.parts = parts;
            state.stride = stride;
            state.panicked = false;
            self.shared.busy.store(self.threads.len(), Ordering::Release);
            self.shared.published.store(state.number, Ordering::Release);
        }
        self.shared.start.notify_all();
        let own = catch_unwind(AssertUnwindSafe(|| (0..parts).step_by(stride).for_each(job)));
        let panicked = self.wait();
        if let Err(payload) = own {
            resume_unwind(payload);
        }
        assert!(!panicked, "a part of a job panicked in a thread of the pool");
    }

    /// Calls `row` with each row of `out`, `width` elements long, and its number.
    ///
    /// # Panics
    /// When a call of `row` does.
    pub fn for_rows(
        &self,
        out: &mut [f32],
        width: usize,
        row: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        let parts = self.threads();
        let mut shares: Vec<Vec<(usize, &mut [f32])>> = (0..parts).map(|_| Vec::new()).collect();
        for (number, slice) in out.chunks_mut(width.max(1)).enumerate() {
            if let Some(share) = shares.get_mut(number % parts) {
                share.push((number, slice));
            }
        }
        // Each part takes its own share once; the lock is never waited for.
        let shares: Vec<Mutex<_>> = shares.into_iter().map(Mutex::new).collect();
        self.run(parts, &|part| {
            if let Some(Ok(mut share)) = shares.get(part).map(Mutex::lock) {
                for (number, slice) in share.iter_mut() {
                    row(*number, slice);
                }
            }
        });
    }

    /// Waits until no thread uses the job, then forgets it.
    fn wait(&self) -> bool {
        spin_until(|| self.shared.busy.load(Ordering::Acquire) == 0);
        let mut state = self.shared.lock();
        while self.shared.busy.load(Ordering::Acquire) != 0 {
            state = self.shared.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.job = None;
        state.panicked
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.start.notify_all();
        for handle in self.threads.drain(..) {
            // A thread of the pool catches what its parts panic with, so it ends well.
            drop(handle.join());
        }
    }
}

/// The job without its lifetime.
fn erase(job: &(dyn Fn(usize) + Sync)) -> *const (dyn Fn(usize) + Sync) {
    let job: *const (dyn Fn(usize) + Sync + '_) = job;
    #[expect(unsafe_code, reason = "threads that live on cannot name a call's lifetime")]
    // SAFETY: only the lifetime bound of the trait object changes, not its layout. The pointer is
    // called by threads that `busy` counts, and `Pool::run` does not return, nor unwind, before
    // that count is 0 and the pointer is forgotten.
    unsafe {
        core::mem::transmute::<
            *const (dyn Fn(usize) + Sync + '_),
            *const (dyn Fn(usize) + Sync + 'static),
        >(job)
    }
}

/// A thread of the pool: runs its parts of each job until the pool closes.
fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        spin_until(|| shared.published.load(Ordering::Acquire) != seen);
        let (job, parts, stride) = {
            let mut state = shared.lock();
            while !state.closing && state.number == seen {
                state = shared.start.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closing {
                return;
            }
            seen = state.number;
            (state.job, state.parts, state.stride)
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Some(Job(job)) = job {
                #[expect(unsafe_code, reason = "calls a job through its pointer")]
                // SAFETY: this thread is counted in `busy` since before the job was published,
                // so `Pool::run`, which borrows the job, is still waiting for it.
                let job = unsafe { &*job };
                (index..parts).step_by(stride).for_each(job);
            }
        }));
        let mut state = shared.lock();
        state.panicked |= outcome.is_err();
        if shared.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.idle.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_whatever_the_number_of_threads() {
        for threads in [0, 1, 2, 3, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for parts in [0, 1, 2, 7, 64] {
                for _ in 0..50 {
                    let counts: Vec<AtomicUsize> =
                        (0..parts).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(parts, &|part| {
                        counts[part].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn rows_are_dealt_out_with_their_numbers() {
        for threads in [1, 2, 3] {
            let mut out = vec![0.0; 23];
            Pool::new(threads).for_rows(&mut out, 5, &|number, row| row.fill(number as f32));
            assert!(out.iter().enumerate().all(|(i, &x)| x == (i / 5) as f32));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_works_on() {
        let pool = Pool::new(2);
        for bad in [0, 1] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(2, &|part| assert!(part != bad, "part {bad}"));
            }));
            assert!(outcome.is_err());
            let done = AtomicUsize::new(0);
            pool.run(4, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 4);
        }
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(3, &|_| {
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::Relaxed), 600);
    }
}

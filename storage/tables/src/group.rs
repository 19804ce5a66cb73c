//! Group commit: many callers, one sync.
//!
//! A sync costs milliseconds whether it carries one row or a thousand. Callers submit closures;
//! one thread runs those that are waiting in one transaction, in the order they were submitted,
//! syncs, and only then answers each of them. While it syncs, the next group gathers, so there is
//! no timer and a lone caller waits for nobody.
//!
//! A closure that returns an error writes nothing, and costs the group a second run; say no by a
//! value (`Ok(Verdict::Duplicate)`) where refusals are common.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use thiserror::Error;

use crate::error::{OpenError, StoreError, from_io};
use crate::limits;
use crate::queue::{Queue, Refused};
use crate::store::{Store, WriteTxn};

/// How large groups and the queue before them may grow.
#[derive(Debug, Clone, Copy)]
pub struct GroupOptions {
    /// Most jobs to one commit.
    pub jobs_max: usize,
    /// Most jobs that wait before submitters are held back.
    pub queue_max: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { jobs_max: limits::GROUP_JOBS_MAX, queue_max: limits::QUEUE_JOBS_MAX }
    }
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many jobs wait as may.
    #[error("{queue_max} writes are waiting already: slow down and try again")]
    Full {
        /// The limit.
        queue_max: usize,
    },
    /// The committing thread has ended.
    #[error("the store is shutting down: start again")]
    Closed,
}

/// Commits the jobs of many callers together.
///
/// Dropping it runs and syncs what was submitted, then ends the thread.
#[derive(Debug)]
pub struct GroupCommit {
    queue: Arc<Queue<Box<dyn Job>>>,
    options: GroupOptions,
    store: Arc<str>,
    thread: Option<JoinHandle<()>>,
}

impl GroupCommit {
    /// Starts the committing thread on `store`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: Store, options: GroupOptions) -> Result<Self, OpenError> {
        let queue: Arc<Queue<Box<dyn Job>>> = Arc::new(Queue::new(options.queue_max));
        let label = Arc::clone(&store.0.label);
        let closing = CloseOnExit(Arc::clone(&queue));
        let thread = std::thread::Builder::new()
            .name("group-commit".to_owned())
            .spawn(move || {
                let closing = closing;
                loop {
                    let group = closing.0.pop_group(options.jobs_max);
                    if group.is_empty() {
                        break;
                    }
                    commit_group(&store, group);
                }
            })
            .map_err(|error| from_io(Arc::clone(&label), error))?;
        Ok(Self { queue, options, store: label, thread: Some(thread) })
    }

    /// Submits `work` and waits until it is synced.
    ///
    /// `work` may run more than once, each time on a state without its earlier run's writes.
    ///
    /// # Errors
    /// What `work` returns, or the store's errors: then nothing is acknowledged.
    pub fn run<T, E>(
        &self,
        work: impl FnMut(&mut WriteTxn) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(work, move |outcome| {
            // Its receiver waits below, so this cannot fail.
            let _ = sender.send(outcome);
        });
        receiver.recv().unwrap_or_else(|_| Err(self.halted().into()))
    }

    /// Submits `work` as a future that resolves once it is synced. It is queued at the first poll,
    /// in the order of polls; dropped before that it never runs, dropped later it still does.
    ///
    /// Needs no particular runtime.
    pub fn commit<T, E>(
        &self,
        work: impl FnMut(&mut WriteTxn) -> Result<T, E> + Send + 'static,
    ) -> Commit<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let slot = Arc::new(Slot(Mutex::new(Waiting { outcome: None, waker: None })));
        let filled = Arc::clone(&slot);
        let job = self.job(work, move |outcome| filled.fill(outcome));
        Commit { queue: Arc::clone(&self.queue), job: Some(job), slot }
    }

    /// Submits `work`, waiting for room in the queue, and returns. `done` is called from the
    /// committing thread, exactly once: with what `work` returned, after the sync, or with an
    /// error. It should only pass its argument on.
    pub fn submit<T, E>(
        &self,
        work: impl FnMut(&mut WriteTxn) -> Result<T, E> + Send + 'static,
        done: impl FnOnce(Result<T, E>) + Send + 'static,
    ) where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        if let Err(mut job) = self.queue.push(self.job(work, done)) {
            job.fail(self.halted());
        }
    }

    /// As [`GroupCommit::submit`], but refuses instead of waiting for room.
    ///
    /// # Errors
    /// When there is no room or the thread has ended; `done` is not called then.
    pub fn try_submit<T, E>(
        &self,
        work: impl FnMut(&mut WriteTxn) -> Result<T, E> + Send + 'static,
        done: impl FnOnce(Result<T, E>) + Send + 'static,
    ) -> Result<(), SubmitError>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (mut job, error) = match self.queue.try_push(self.job(work, done), None) {
            Ok(()) => return Ok(()),
            Err(Refused::Full(job)) => {
                (job, SubmitError::Full { queue_max: self.options.queue_max })
            }
            Err(Refused::Closed(job)) => (job, SubmitError::Closed),
        };
        job.forget();
        Err(error)
    }

    fn job<T, E>(
        &self,
        work: impl FnMut(&mut WriteTxn) -> Result<T, E> + Send + 'static,
        done: impl FnOnce(Result<T, E>) + Send + 'static,
    ) -> Box<dyn Job>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = Arc::clone(&self.store);
        Box::new(Pending { work, done: Some(done), outcome: None, store })
    }

    fn halted(&self) -> StoreError {
        StoreError::Halted { store: Arc::clone(&self.store) }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic of a job has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// Closes the queue and drops what is in it when the thread ends, by whatever way, so that no
/// caller waits for a thread that is gone.
struct CloseOnExit(Arc<Queue<Box<dyn Job>>>);

impl Drop for CloseOnExit {
    fn drop(&mut self) {
        self.0.close();
        while !self.0.pop_group(usize::MAX).is_empty() {}
    }
}

/// A submitted closure and whom to answer.
trait Job: Send {
    /// Runs it; true when it wants its writes committed.
    fn run(&mut self, txn: &mut WriteTxn) -> bool;
    /// Answers with what the last run returned.
    fn finish(&mut self);
    /// Answers with an error instead.
    fn fail(&mut self, error: StoreError);
    /// Answers nobody.
    fn forget(&mut self);
}

struct Pending<W, D, T, E>
where
    D: FnOnce(Result<T, E>),
    E: From<StoreError>,
{
    work: W,
    done: Option<D>,
    outcome: Option<Result<T, E>>,
    store: Arc<str>,
}

impl<W, D, T, E> Job for Pending<W, D, T, E>
where
    W: FnMut(&mut WriteTxn) -> Result<T, E> + Send,
    D: FnOnce(Result<T, E>) + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, txn: &mut WriteTxn) -> bool {
        let outcome = (self.work)(txn);
        let wants_commit = outcome.is_ok();
        self.outcome = Some(outcome);
        wants_commit
    }

    fn finish(&mut self) {
        if let (Some(done), Some(outcome)) = (self.done.take(), self.outcome.take()) {
            done(outcome);
        }
    }

    fn fail(&mut self, error: StoreError) {
        if let Some(done) = self.done.take() {
            done(Err(error.into()));
        }
    }

    fn forget(&mut self) {
        self.done = None;
    }
}

impl<W, D, T, E> Drop for Pending<W, D, T, E>
where
    D: FnOnce(Result<T, E>),
    E: From<StoreError>,
{
    fn drop(&mut self) {
        // Only when the thread died with the job in hand.
        if let Some(done) = self.done.take() {
            done(Err(StoreError::Halted { store: Arc::clone(&self.store) }.into()));
        }
    }
}

impl std::fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// Commits all jobs of a group that succeed, in order, and answers every one.
///
/// When a job refuses, the jobs before it are committed alone, and it runs again first in the next
/// round, where its refusal, on the state it will really be answered for, harms nobody.
fn commit_group(store: &Store, mut jobs: VecDeque<Box<dyn Job>>) {
    let mut count = jobs.len();
    while !jobs.is_empty() {
        match attempt(store, &mut jobs, count) {
            Ok(None) => {
                jobs.drain(..count).for_each(|mut job| job.finish());
                count = jobs.len();
            }
            Ok(Some(0)) => {
                if let Some(mut job) = jobs.pop_front() {
                    job.finish();
                }
                count = jobs.len();
            }
            Ok(Some(refusing)) => count = refusing,
            Err(error) => {
                jobs.drain(..count).for_each(|mut job| job.fail(error.clone()));
                count = jobs.len();
            }
        }
    }
}

/// Runs the first `count` jobs and commits; or gives the first job that refuses, with nothing
/// committed.
fn attempt(
    store: &Store,
    jobs: &mut VecDeque<Box<dyn Job>>,
    count: usize,
) -> Result<Option<usize>, StoreError> {
    let mut txn = store.begin_write()?;
    for (index, job) in jobs.iter_mut().take(count).enumerate() {
        if !job.run(&mut txn) {
            txn.abort();
            return Ok(Some(index));
        }
    }
    txn.commit()?;
    Ok(None)
}

/// A submitted write that resolves after its sync. See [`GroupCommit::commit`].
#[must_use = "a commit is queued when it is first polled"]
pub struct Commit<T, E> {
    queue: Arc<Queue<Box<dyn Job>>>,
    job: Option<Box<dyn Job>>,
    slot: Arc<Slot<T, E>>,
}

struct Slot<T, E>(Mutex<Waiting<T, E>>);

struct Waiting<T, E> {
    outcome: Option<Result<T, E>>,
    waker: Option<Waker>,
}

impl<T, E> Slot<T, E> {
    fn fill(&self, outcome: Result<T, E>) {
        let mut waiting = self.lock();
        waiting.outcome = Some(outcome);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T, E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, E> Future for Commit<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(job) = self.job.take() {
            match self.queue.try_push(job, Some(context.waker())) {
                Ok(()) => {}
                Err(Refused::Full(job)) => {
                    self.job = Some(job);
                    return Poll::Pending;
                }
                // Dropping the job answers with an error, into the slot.
                Err(Refused::Closed(job)) => drop(job),
            }
        }
        let mut waiting = self.slot.lock();
        match waiting.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                waiting.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

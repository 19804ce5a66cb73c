//! A bounded queue between many submitters and one committing thread.
//!
//! Threads wait for room with a condition variable, futures with a waker, so that both blocking
//! and async callers feel the same back-pressure. Knows nothing of jobs.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    drained: Condvar,
    items_max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    waiting: Vec<Waker>,
}

/// Why an item was not taken; it comes back.
#[derive(Debug)]
pub(crate) enum Refused<T> {
    Full(T),
    Closed(T),
}

impl<T> Queue<T> {
    pub(crate) fn new(items_max: usize) -> Self {
        let state = State { items: VecDeque::new(), closed: false, waiting: Vec::new() };
        Self {
            state: Mutex::new(state),
            filled: Condvar::new(),
            drained: Condvar::new(),
            items_max: items_max.max(1),
        }
    }

    /// Adds an item, waiting for room; gives it back once the queue is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        while !state.closed && state.items.len() >= self.items_max {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(item);
        }
        state.items.push_back(item);
        self.filled.notify_one();
        Ok(())
    }

    /// Adds an item if there is room now; else remembers `waker`, which is woken when there is.
    pub(crate) fn try_push(&self, item: T, waker: Option<&Waker>) -> Result<(), Refused<T>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(item));
        }
        if state.items.len() >= self.items_max {
            if let Some(waker) = waker
                && !state.waiting.iter().any(|known| known.will_wake(waker))
            {
                state.waiting.push(waker.clone());
            }
            return Err(Refused::Full(item));
        }
        state.items.push_back(item);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes up to `items_max` items, waiting for the first; none when the queue is closed and
    /// empty.
    pub(crate) fn pop_group(&self, items_max: usize) -> VecDeque<T> {
        let mut state = self.lock();
        while !state.closed && state.items.is_empty() {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = state.items.len().min(items_max.max(1));
        let group = state.items.drain(..count).collect();
        self.make_room(state);
        group
    }

    /// Refuses further items; those inside can still be taken.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.filled.notify_all();
        self.make_room(state);
    }

    fn make_room(&self, mut state: MutexGuard<'_, State<T>>) {
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.drained.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing inside the lock can leave the state half changed, so poison is harmless.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_closed_give_the_item_back() {
        let queue = Queue::new(1);
        queue.push(1).unwrap();
        assert!(matches!(queue.try_push(2, None), Err(Refused::Full(2))));
        queue.close();
        assert!(matches!(queue.try_push(3, None), Err(Refused::Closed(3))));
        assert_eq!(queue.push(4), Err(4));
        assert_eq!(queue.pop_group(9), [1]);
        assert!(queue.pop_group(9).is_empty());
    }

    #[test]
    fn a_waiting_thread_goes_on_when_there_is_room() {
        let queue = Queue::new(1);
        queue.push(1).unwrap();
        std::thread::scope(|scope| {
            let pusher = scope.spawn(|| queue.push(2));
            assert_eq!(queue.pop_group(1), [1]);
            pusher.join().unwrap().unwrap();
        });
        assert_eq!(queue.pop_group(1), [2]);
    }
}

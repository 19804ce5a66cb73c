//! Calls whose constraint is being compiled, in a thread beside the engine: the largest take longer
//! than a step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use openledger_inference::{Constraint, Constraints};
use openledger_wire::call::{Call, CallFailure};
use tokio::sync::mpsc;

use super::infer_adapters::News;
use crate::serving::{Wishes, codes, failure};

/// Stack of the thread that compiles: schemas are walked by recursion, to a bounded depth.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// A call that waits for its constraint.
pub(super) struct Constrained {
    /// Correlates the answers.
    pub(super) id: u64,
    pub(super) call: Box<Call>,
    pub(super) wishes: Wishes,
    pub(super) constraint: Constraint,
}

/// Compiles constraints one after the other.
pub(super) struct Compiler {
    constraints: Arc<Constraints>,
    /// Calls that wait and are still wanted.
    waiting: BTreeSet<u64>,
    /// The thread's queue, once it was needed.
    queue: Option<Sender<Constrained>>,
    news: mpsc::WeakSender<News>,
}

impl Compiler {
    pub(super) const fn new(constraints: Arc<Constraints>, news: mpsc::WeakSender<News>) -> Self {
        Self { constraints, waiting: BTreeSet::new(), queue: None, news }
    }

    /// Whether a constraint needs no compiling any more.
    pub(super) fn has(&self, constraint: &Constraint) -> bool {
        self.constraints.has(constraint)
    }

    /// Compiles a call's constraint; [`News::Compiled`] follows.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn put(&mut self, asked: Constrained) -> Result<(), CallFailure> {
        if self.queue.is_none() {
            self.queue = Some(self.start().map_err(|error| {
                failure(codes::BUSY, &format!("the system gives no thread: {error}"), 2_000)
            })?);
        }
        let id = asked.id;
        let is_queued = self.queue.as_ref().is_some_and(|queue| queue.send(asked).is_ok());
        if !is_queued {
            self.queue = None;
            let message = "the thread that compiles constraints is gone";
            return Err(failure(codes::ENGINE, message, 1_000));
        }
        self.waiting.insert(id);
        Ok(())
    }

    /// A call is not wanted any more.
    pub(super) fn cancel(&mut self, id: u64) {
        self.waiting.remove(&id);
    }

    /// A call's constraint is compiled; says whether the call is still wanted.
    pub(super) fn came(&mut self, id: u64) -> bool {
        self.waiting.remove(&id)
    }

    fn start(&self) -> std::io::Result<Sender<Constrained>> {
        let (queue, asked) = std::sync::mpsc::channel::<Constrained>();
        let (constraints, told) = (Arc::clone(&self.constraints), self.news.clone());
        let thread = std::thread::Builder::new().name("constraints".to_owned());
        thread.stack_size(STACK_BYTES).spawn(move || {
            for one in asked {
                let went = constraints
                    .prepare(&one.constraint)
                    .map_err(|error| failure(codes::CONSTRAINT, &format!("failed to {error}"), 0));
                let Some(told) = told.upgrade() else { return };
                if told.blocking_send(News::Compiled(Box::new((one, went)))).is_err() {
                    return;
                }
            }
        })?;
        Ok(queue)
    }
}

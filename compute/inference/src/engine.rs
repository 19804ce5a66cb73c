//! The engine: what callers hold.
//!
//! One engine serves one base model on one backend. It is driven by its caller, one step at a time,
//! and does nothing in between; it holds no thread but its backend's.

use std::collections::BTreeMap;
use std::sync::Arc;

use openledger_models::Model;
use thiserror::Error;

use crate::adapters::{AdapterSet, AdapterStore};
use crate::backend::{Backend, BackendError, RowOutput};
use crate::class::BackendKind;
use crate::cpu::{CpuBackend, Progress};
use crate::event::{Event, FinishReason, SequenceError, Usage};
use crate::figures::Figures;
use crate::fingerprint::{Fingerprint, sketch};
use crate::limits::{BACKEND_FAILURES_MAX, QUEUED_MAX, QUEUED_PER_CALLER_MAX};
use crate::options::EngineOptions;
use crate::pace::Pace;
use crate::plan::StepPlan;
use crate::reference::ReferenceBackend;
use crate::request::{CallerId, Request, SequenceId, SubmitError};
use crate::sampling::{likeliest_of, sample};
use crate::scheduler::Scheduler;
use crate::sequence::Sequence;

/// Why an engine was not made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// A size of 0.
    #[error("make an engine: {name} is 0; give it at least 1")]
    Zero {
        /// Which option.
        name: &'static str,
    },
    /// The backend.
    #[error("make an engine: {0}")]
    Backend(#[from] BackendError),
}

/// Why a step failed. Nothing is lost: all sequences are run again from their tokens by the steps
/// that follow, except those that failed too often, which the next step reports.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// The backend.
    #[error("step the engine: {0}")]
    Backend(#[from] BackendError),
}

/// Serves one base model with many adapters.
pub struct Engine {
    pub(crate) model: Arc<Model>,
    pub(crate) options: EngineOptions,
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) adapters: AdapterStore,
    pub(crate) scheduler: Scheduler,
    pub(crate) counted: Figures,
    pace: Pace,
    sequences: u64,
    /// What the next step reports beside its own.
    pub(crate) events: Vec<Event>,
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine")
            .field("backend", &self.backend.name())
            .field("options", &self.options)
            .field("running", &self.scheduler.running())
            .field("waiting", &self.scheduler.waiting())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine on the backend that the options name.
    ///
    /// # Errors
    /// Options or a model that make no engine.
    pub fn new(model: Arc<Model>, options: EngineOptions) -> Result<Self, EngineError> {
        Self::load(model, options, &mut |_, _| ())
    }

    /// The same, which tells how many bytes of how many are loaded.
    ///
    /// # Errors
    /// Options or a model that make no engine.
    pub fn load(
        model: Arc<Model>,
        options: EngineOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self, EngineError> {
        if let Some(name) = options.zero() {
            return Err(EngineError::Zero { name });
        }
        let own = Arc::clone(&model);
        let backend: Box<dyn Backend> = match options.backend {
            BackendKind::Int12 => Box::new(CpuBackend::new(own, &options, progress)?),
            BackendKind::Reference => Box::new(ReferenceBackend::new(own, &options)?),
        };
        Self::with_backend(model, options, backend)
    }

    /// An engine on another backend, which must have been made for the same model and options.
    ///
    /// # Errors
    /// Options that make no engine.
    pub fn with_backend(
        model: Arc<Model>,
        options: EngineOptions,
        backend: Box<dyn Backend>,
    ) -> Result<Self, EngineError> {
        if let Some(name) = options.zero() {
            return Err(EngineError::Zero { name });
        }
        let (storage, bytes_max) = (options.adapter_storage(), options.adapters_bytes_max);
        Ok(Self {
            adapters: AdapterStore::new(model.config(), storage, bytes_max),
            model,
            options,
            backend,
            scheduler: Scheduler::new(&options),
            counted: Figures::default(),
            pace: Pace::default(),
            sequences: 0,
            events: Vec::new(),
        })
    }

    /// The base model.
    #[must_use]
    pub const fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The sizes that it was made with.
    #[must_use]
    pub const fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Which backend serves.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    /// What the backend runs on, in words.
    #[must_use]
    pub fn device(&self) -> String {
        self.backend.device()
    }

    /// Queues a request. Adapters that are in memory are pinned as they are now, where there is no
    /// older request that waits for room; others are waited for, see [`Engine::wanted`].
    ///
    /// # Errors
    /// A request that this engine could never run, or a full queue.
    pub fn submit(&mut self, request: Request) -> Result<SequenceId, SubmitError> {
        self.resume(request, &[])
    }

    /// Queues a request whose answer begins with these tokens, drawn elsewhere: what follows is
    /// what would have followed there. They count against `tokens_max`; one that they complete
    /// already is reported as finished by the next step.
    ///
    /// # Errors
    /// A request that this engine could never run, or a full queue.
    pub fn resume(&mut self, request: Request, answer: &[u32]) -> Result<SequenceId, SubmitError> {
        self.check(&request)?;
        let vocab = self.model.config().vocab;
        if let Some(&token) = answer.iter().find(|&&token| token as usize >= vocab) {
            return Err(SubmitError::UnknownToken { token, vocab });
        }
        self.check_queue(request.caller)?;
        let ask = self.adapters.ask(&request.adapters, &request.merge)?;
        self.sequences += 1;
        let id = SequenceId(self.sequences);
        let mut sequence = Sequence::new(id, request, AdapterSet::default());
        match sequence.replay(self.model.tokenizer(), answer) {
            Some(reason) => self.events.push(finished(&sequence, reason)),
            None => {
                sequence.ready = ask.is_bare();
                self.scheduler.push(sequence);
                if !ask.is_bare() {
                    self.adapters.wait(id, ask);
                    self.settle_adapters(false);
                }
            }
        }
        Ok(id)
    }

    /// Checks a request against the model and this engine's memory.
    pub(crate) fn check(&self, request: &Request) -> Result<(), SubmitError> {
        let config = self.model.config();
        request.check(config.vocab, config.context, self.scheduler.pages.positions())
    }

    /// Checks that there is room to wait, for all and for this caller.
    fn check_queue(&self, caller: Option<CallerId>) -> Result<(), SubmitError> {
        let queued = self.scheduler.waiting();
        if queued >= QUEUED_MAX {
            let retry_after_ms = self.retry_after_ms(None);
            return Err(SubmitError::QueueFull { queued, retry_after_ms });
        }
        let queued = self.scheduler.waiting_of(caller);
        if caller.is_some() && queued >= QUEUED_PER_CALLER_MAX {
            let retry_after_ms = self.retry_after_ms(caller);
            return Err(SubmitError::CallerFull { queued, retry_after_ms });
        }
        Ok(())
    }

    /// When one of all requests, or one of a caller's, is likely to have ended: what one has left on
    /// average, at the pace of late; a caller has the pace of its part.
    fn retry_after_ms(&self, caller: Option<CallerId>) -> u64 {
        let (requests, tokens) = self.scheduler.load(caller);
        let parts = if caller.is_some() { self.scheduler.callers() as u64 } else { 1 };
        self.pace.retry_after_ms((tokens / requests.max(1)).saturating_mul(parts))
    }

    /// Says what time it is, in milliseconds of any clock that does not go back: for deadlines, and to
    /// tell callers that are turned away when to come again. To be said before each step.
    pub fn set_now(&mut self, now_ms: u64) {
        self.pace.set_now(now_ms);
    }

    /// Ends a sequence; its pages are free at once, and the next step reports it. Says whether it
    /// was there.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        let Some(sequence) = self.scheduler.remove(id) else { return false };
        self.events.push(finished(&sequence, FinishReason::Cancelled));
        self.settle_adapters(false);
        true
    }

    /// Whether there is nothing to run and nothing to report.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running() == 0 && self.queued() == 0 && self.events.is_empty()
    }

    /// Sequences that step.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.scheduler.running()
    }

    /// Sequences that wait for a place.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.scheduler.waiting()
    }

    /// Pages of keys and values that are free, of [`EngineOptions::pages_max`].
    #[must_use]
    pub fn pages_free(&self) -> usize {
        self.scheduler.pages.free()
    }

    /// Runs one step of all sequences that have a place, and draws a token for each that is due.
    ///
    /// # Errors
    /// A backend that failed; see [`StepError`].
    pub fn step(&mut self) -> Result<Vec<Event>, StepError> {
        self.expire();
        self.settle_adapters(true);
        let plan = self.scheduler.plan();
        if !plan.rows.is_empty() {
            match self.backend.run(&plan) {
                Ok(outputs) => self.advance(&plan, outputs),
                Err(error) => {
                    self.backend_failed(&error);
                    return Err(error.into());
                }
            }
        }
        Ok(core::mem::take(&mut self.events))
    }

    /// Ends requests that should have started by now.
    fn expire(&mut self) {
        let now_ms = self.pace.now_ms();
        for sequence in self.scheduler.expired(now_ms) {
            self.counted.expired += 1;
            let deadline_ms = sequence.deadline_ms.unwrap_or_default();
            let error = SequenceError::Deadline { deadline_ms, now_ms };
            self.events.push(Event::Failed { sequence: sequence.id, error });
        }
    }

    /// Notes what has been run, and draws tokens.
    fn advance(&mut self, plan: &StepPlan, outputs: Vec<RowOutput>) {
        let mut due = BTreeMap::new();
        for (row, output) in plan.rows.iter().zip(outputs) {
            if let RowOutput::Logits { logits, hidden } = output {
                due.insert(row.sequence, (logits, hidden));
            }
        }
        let mut ended = Vec::new();
        for (index, sequence) in self.scheduler.planned().enumerate() {
            sequence.cached += sequence.planned;
            sequence.planned = 0;
            sequence.failures = 0;
            let Some((logits, hidden)) = due.get(&index) else { continue };
            sequence.sketches.push(sketch(hidden, sequence.tokens.len() as u64));
            if let Some(last) = draw_token(&self.model, sequence, logits, &mut self.events) {
                ended.push((sequence.id, last));
            }
        }
        self.scheduler.ran();
        for (id, last) in ended {
            self.scheduler.remove(id);
            self.events.push(last);
        }
        self.counted.steps += 1;
        self.counted.tokens_run += plan.rows.len() as u64;
        self.pace.ran(plan.rows.len(), self.scheduler.can_run());
    }

    /// Takes back what was run; gives up sequences that failed too often.
    fn backend_failed(&mut self, error: &BackendError) {
        let mut hopeless = Vec::new();
        for sequence in self.scheduler.planned() {
            sequence.failures += 1;
            if sequence.failures >= BACKEND_FAILURES_MAX {
                hopeless.push((sequence.id, sequence.failures));
            }
        }
        self.scheduler.preempt_all();
        for (sequence, failures) in hopeless {
            self.scheduler.remove(sequence);
            let error = SequenceError::Backend { failures, last: error.to_string() };
            self.events.push(Event::Failed { sequence, error });
        }
    }
}

/// The event of an end.
fn finished(sequence: &Sequence, reason: FinishReason) -> Event {
    let usage = Usage {
        prompt_tokens: sequence.prompt_len,
        cached_tokens: sequence.reused,
        completion_tokens: sequence.answer().len(),
    };
    let fingerprint = Fingerprint::new(&sequence.sketches);
    Event::Finished { sequence: sequence.id, reason, usage, fingerprint }
}

/// Draws a sequence's next token and reports it; returns the event of its end if it ends with it.
fn draw_token(
    model: &Model,
    sequence: &mut Sequence,
    logits: &[f32],
    events: &mut Vec<Event>,
) -> Option<Event> {
    let position = sequence.tokens.len();
    let drawn = sample(logits, &sequence.sampling, sequence.history(), position as u64);
    let drawn = match drawn {
        Ok(drawn) => drawn,
        Err(source) => {
            let error = SequenceError::Sample { position, source };
            return Some(Event::Failed { sequence: sequence.id, error });
        }
    };
    sequence.tokens.push(drawn.token);
    let ends = model.tokenizer().is_end(drawn.token) && !sequence.ignore_end;
    let mut text = String::new();
    let mut stopped = false;
    if !ends {
        let added = sequence.text.push(model.tokenizer(), drawn.token);
        (text, stopped) = (added.text, added.stopped);
    }
    let reason = if ends || stopped {
        Some(FinishReason::Stop)
    } else if sequence.answer().len() >= sequence.tokens_max {
        Some(FinishReason::Length)
    } else {
        None
    };
    if reason.is_some() && !stopped {
        text += &sequence.text.finish();
    }
    events.push(Event::Token {
        sequence: sequence.id,
        token: drawn.token,
        text,
        logprob: drawn.logprob,
        top: sequence.logprobs.map(|count| likeliest_of(logits, count)).unwrap_or_default(),
    });
    reason.map(|reason| finished(sequence, reason))
}

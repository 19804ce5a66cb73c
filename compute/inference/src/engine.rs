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
use crate::constraint::{Constrained, ConstraintError, Constraints, Grammar, Walk};
use crate::cpu::{CpuBackend, Progress};
use crate::event::{Event, FinishReason, SequenceError, Usage};
use crate::figures::Figures;
use crate::fingerprint::{Fingerprint, sketch};
use crate::gpu::{GpuBackend, GpuOptions};
use crate::limits::{BACKEND_FAILURES_MAX, QUEUED_MAX, QUEUED_PER_CALLER_MAX};
use crate::onnx::{OnnxBackend, OnnxError, OnnxOptions};
use crate::options::EngineOptions;
use crate::pace::Pace;
use crate::plan::{Row, StepPlan, Wants};
use crate::reference::ReferenceBackend;
use crate::request::{CallerId, Request, SequenceId, SubmitError};
use crate::sampling::{Drawn, Likeliest, likeliest_of, sample_allowed, sample_likeliest};
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
    /// The backend on ONNX Runtime.
    #[error("make an engine: {0}")]
    Onnx(#[from] OnnxError),
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
    constraints: Arc<Constraints>,
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
    /// An engine on the backend that the options name; ONNX Runtime must have been loaded before
    /// ([`crate::onnx_library`]), and computes on the processor.
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
            BackendKind::Int12 | BackendKind::Int12Whole => {
                Box::new(CpuBackend::new(own, &options, progress)?)
            }
            BackendKind::Reference => Box::new(ReferenceBackend::new(own, &options)?),
            BackendKind::Onnx => {
                let onnx = OnnxOptions::loaded()?;
                Box::new(OnnxBackend::new(own, &options, &onnx, progress)?)
            }
            BackendKind::Wgpu => {
                Box::new(GpuBackend::new(own, &options, &GpuOptions::default(), progress)?)
            }
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
            constraints: Arc::new(Constraints::new(Arc::clone(&model))),
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

    /// Whether the backend will never run a step again: a device that was lost too often. Another
    /// engine, on the processor, takes over what is here by [`Engine::resume`].
    #[must_use]
    pub fn backend_gone(&self) -> bool {
        self.backend.is_gone()
    }

    /// What the backend runs on, in words.
    #[must_use]
    pub fn device(&self) -> String {
        self.backend.device()
    }

    /// Where constraints of requests are compiled and kept. A large one takes longer than a step:
    /// [`Constraints::prepare`] on another thread before [`Engine::submit`] spares the steps that.
    #[must_use]
    pub const fn constraints(&self) -> &Arc<Constraints> {
        &self.constraints
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
        let grammar = self.grammar(&request)?;
        if let Some(grammar) = &grammar {
            check_begun(grammar, answer)?;
        }
        let ask = self.adapters.ask(&request.adapters, &request.merge)?;
        self.sequences += 1;
        let id = SequenceId(self.sequences);
        let mut sequence = Sequence::new(id, request, AdapterSet::default());
        sequence.constraint = grammar.map(Constrained::new);
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
        if let Some((adapter, _)) = request.adapters.first()
            && !self.backend.takes_adapters()
        {
            return Err(SubmitError::AdaptersRefused { adapter: *adapter });
        }
        let config = self.model.config();
        request.check(config.vocab, config.context, self.scheduler.pages.positions())
    }

    /// A request's constraint, compiled.
    pub(crate) fn grammar(
        &self,
        request: &Request,
    ) -> Result<Option<Arc<Grammar>>, ConstraintError> {
        request.constraint.as_ref().map(|wanted| self.constraints.grammar(wanted)).transpose()
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
            let counts = self.likeliest_counts();
            match self.backend.run_likeliest(&plan, &counts_of(&plan, &counts)) {
                Ok(outputs) => self.advance(&plan, outputs),
                Err(error) => {
                    self.backend_failed(&error);
                    return Err(error.into());
                }
            }
        }
        Ok(core::mem::take(&mut self.events))
    }

    /// How many of the likeliest tokens each planned sequence's draw needs; 0 for all logits.
    fn likeliest_counts(&mut self) -> Vec<usize> {
        let most = self.backend.likeliest_max();
        if most == 0 {
            return Vec::new();
        }
        let count = |sequence: &mut Sequence| {
            let needed = sequence.sampling.decided_by().filter(|_| sequence.constraint.is_none());
            let needed = needed.map(|count| count.max(sequence.logprobs.unwrap_or(0).into()));
            needed.filter(|count| *count <= most).unwrap_or(0)
        };
        self.scheduler.planned().map(count).collect()
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
            match output {
                RowOutput::Logits { logits, hidden } => {
                    due.insert(row.sequence, (Given::Logits(logits), hidden));
                }
                RowOutput::Likeliest { tokens, log_sum_exp, hidden } => {
                    let likeliest = Likeliest { tokens, log_sum_exp };
                    due.insert(row.sequence, (Given::Likeliest(likeliest), hidden));
                }
                RowOutput::Hidden(_) | RowOutput::Nothing => {}
            }
        }
        let mut ended = Vec::new();
        for (index, sequence) in self.scheduler.planned().enumerate() {
            sequence.cached += sequence.planned;
            sequence.planned = 0;
            sequence.failures = 0;
            let Some((given, hidden)) = due.get(&index) else { continue };
            sequence.sketches.push(sketch(hidden, sequence.tokens.len() as u64));
            if let Some(last) = draw_token(&self.model, sequence, given, &mut self.events) {
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

/// Checks that the beginning of an answer fits its constraint.
fn check_begun(grammar: &Arc<Grammar>, answer: &[u32]) -> Result<(), ConstraintError> {
    if answer.is_empty() {
        return Ok(());
    }
    let mut walk = Walk::new(grammar);
    let misfit = answer.iter().position(|token| !walk.take(*token).unwrap_or(false));
    misfit.map_or(Ok(()), |index| Err(ConstraintError::Begun { index }))
}

/// What a token is drawn from.
enum Given {
    Logits(Vec<f32>),
    Likeliest(Likeliest),
}

impl Given {
    /// The likeliest tokens with their log-probabilities.
    fn first(&self, count: u8) -> Vec<(u32, f32)> {
        match self {
            Self::Logits(logits) => likeliest_of(logits, count),
            Self::Likeliest(likeliest) => likeliest.first(count),
        }
    }
}

/// The counts of a plan's rows, from those of its sequences.
fn counts_of(plan: &StepPlan, counts: &[usize]) -> Vec<usize> {
    let count = |row: &Row| match row.wants {
        Wants::Logits => counts.get(row.sequence).copied().unwrap_or(0),
        Wants::Hidden | Wants::Nothing => 0,
    };
    plan.rows.iter().map(count).collect()
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
    given: &Given,
    events: &mut Vec<Event>,
) -> Option<Event> {
    let drawn = match drawn_of(sequence, given) {
        Ok(drawn) => drawn,
        Err(error) => return Some(Event::Failed { sequence: sequence.id, error }),
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
        top: sequence.logprobs.map(|count| given.first(count)).unwrap_or_default(),
    });
    reason.map(|reason| finished(sequence, reason))
}

/// Draws a sequence's next token, among those that its constraint allows.
fn drawn_of(sequence: &mut Sequence, given: &Given) -> Result<Drawn, SequenceError> {
    let position = sequence.tokens.len();
    let logits = match given {
        Given::Logits(logits) => logits,
        // Asked for only where there is no constraint.
        Given::Likeliest(likeliest) => {
            return sample_likeliest(likeliest, &sequence.sampling, position as u64)
                .map_err(|source| SequenceError::Sample { position, source });
        }
    };
    let unfollowed = |source| SequenceError::Constraint { position, source };
    let mut constraint = sequence.constraint.take();
    let mask = constraint.as_mut().map(|constraint| constraint.mask(sequence.answer()));
    let mask = mask.transpose().map_err(unfollowed)?;
    let (sampling, history) = (&sequence.sampling, sequence.history());
    let drawn = sample_allowed(logits, sampling, history, position as u64, mask.as_ref())
        .map_err(|source| SequenceError::Sample { position, source })?;
    if let Some(constraint) = &mut constraint {
        constraint.took(drawn.token).map_err(unfollowed)?;
    }
    sequence.constraint = constraint;
    Ok(drawn)
}

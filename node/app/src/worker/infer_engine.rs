//! The engine's desk: takes requests between steps, hands out what each step gave.
//!
//! One thread does all of it, so that nothing of the engine needs a lock; adapters are read and
//! merged in others. Texts to turn into vectors take turns with the steps of calls, one text at a
//! time.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openledger_inference::{
    Constraint, Engine, EngineOptions, Event, Progress, SequenceId, of_class,
};
use openledger_models::{Model, ModelConfig};
use openledger_wire::call::{Call, CallFailure, Embed, Embedded};
use openledger_wire::proof::InferOutput;
use openledger_wire::worker::{InferRequest, InferResponse, InferSetup};
use openledger_wire::{Blob, BlobId, List, Text};
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::infer_adapters::{Adapters, News};
use super::infer_ask::InferAsk;
use super::infer_call::{
    Outgoing, bytes_of, end_of, grant, of_score, of_sequence, of_submit, request_of, token_of,
    tokens_of, weights,
};
use super::infer_check::{checked, of_verify};
use super::infer_constraints::{Compiler, Constrained};
use super::infer_device::{bound, engine, look};
use super::infer_tools::{constraint_of, tools_of};
use crate::limits;
use crate::serving::{Wishes, codes, failure, length};

/// Bytes that keys and values of so many tokens take at most: with 32 bits for each number.
pub(crate) fn kv_bytes(shape: &ModelConfig, tokens: usize) -> u64 {
    let numbers = [2, shape.layers, shape.kv_heads, shape.head_dim, tokens];
    numbers.into_iter().fold(4, |bytes, count| bytes.saturating_mul(count as u64))
}

/// The engine with who asked for what.
pub(super) struct Desk {
    engine: Engine,
    model: Arc<Model>,
    answering: BTreeMap<SequenceId, Answering>,
    adapters: Adapters,
    compiler: Compiler,
    embedding: VecDeque<Embedding>,
    /// What the engine's clock counts from.
    begun: Instant,
    /// After so many milliseconds an adapter that nobody uses leaves the memory; 0 for never.
    idle_max_ms: u64,
    /// When it was looked for such adapters, by the engine's clock.
    looked_ms: u64,
    /// Steps that failed in a row.
    failures: u32,
}

struct Answering {
    id: u64,
    text: Outgoing,
    /// Whether its end brings its fingerprint.
    fingerprint: bool,
}

struct Embedding {
    id: u64,
    adapters: Vec<(BlobId, f32)>,
    texts: VecDeque<Vec<u32>>,
    vectors: Vec<Blob<{ 64 * 1024 }>>,
    prompt_tokens: usize,
}

impl Desk {
    /// Opens the model and makes the engine.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn open(
        setup: &InferSetup,
        news: mpsc::WeakSender<News>,
        progress: &mut Progress<'_>,
    ) -> Result<Self, CallFailure> {
        let options = options(setup)?;
        let (kind, device) = (options.backend, setup.device.as_ref());
        look(kind, device)?;
        let path = Path::new(&*setup.path);
        let file_bytes = length(path).unwrap_or(0);
        let base = limits::INFER_MEMORY_BYTES.saturating_add(file_bytes);
        bound(kind, base);
        let bad = |error: &dyn std::fmt::Display| {
            let message = format!("failed to {error} (file {})", path.display());
            failure(codes::BAD_FILE, &message, 0)
        };
        let model = Arc::new(Model::open(path).map_err(|error| bad(&error))?);
        // The fast backend holds a copy of the weights beside the file.
        let base = base.saturating_add(file_bytes);
        let kept = kv_bytes(model.config(), options.page_tokens.saturating_mul(options.pages_max));
        // Adapters are parsed beside those that are loaded.
        let adapters = setup.adapter_bytes_max.saturating_mul(3);
        bound(kind, base.saturating_add(kept).saturating_add(adapters));
        let engine = engine(Arc::clone(&model), options, device, path, progress)?;
        let compiler = Compiler::new(Arc::clone(engine.constraints()), news.clone());
        let adapters = Adapters::new(Arc::clone(&model), engine.adapter_storage(), news);
        let adapters = adapters.map_err(|error| {
            failure(codes::BUSY, &format!("the system gives no thread: {error}"), 2_000)
        })?;
        Ok(Self {
            engine,
            model,
            answering: BTreeMap::new(),
            adapters,
            compiler,
            embedding: VecDeque::new(),
            begun: Instant::now(),
            idle_max_ms: u64::from(setup.adapter_idle_s) * 1_000,
            looked_ms: 0,
            failures: 0,
        })
    }

    /// What the worker says of itself.
    pub(super) fn ready(&self) -> InferResponse {
        let config = self.model.config();
        InferResponse::Ready {
            name: Text::clipped(&config.name),
            architecture: Text::clipped(&config.architecture),
            context: u32::try_from(config.context).unwrap_or(u32::MAX),
            backend: Text::clipped(self.engine.options().class()),
            device: Some(Text::clipped(&self.engine.device())),
        }
    }

    /// Serves until nobody asks or listens any more.
    pub(super) fn run(
        mut self,
        mut inbox: mpsc::Receiver<News>,
        answers: &mpsc::Sender<InferResponse>,
        clock: &tokio::runtime::Handle,
    ) {
        loop {
            let mut now = Vec::new();
            if let Some(time_max) = self.wait_max() {
                let waiting = async { tokio::time::timeout(time_max, inbox.recv()).await };
                match clock.block_on(waiting) {
                    Ok(Some(news)) => self.hear(news, &mut now),
                    Ok(None) => return,
                    // It is time to look at deadlines, and for adapters that nobody uses.
                    Err(_) => {}
                }
            }
            loop {
                match inbox.try_recv() {
                    Ok(news) => self.hear(news, &mut now),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.step(&mut now);
            if self.has_lost_its_device() {
                tracing::error!("the device does not compute any more; this process ends");
                return;
            }
            self.embed_one(&mut now);
            for answer in now {
                if answers.blocking_send(answer).is_err() {
                    return;
                }
            }
        }
    }

    /// How long to wait for news, if there is nothing to do before.
    fn wait_max(&self) -> Option<Duration> {
        if !self.embedding.is_empty() {
            return None;
        }
        if self.engine.is_idle() {
            return Some(Duration::from_millis(limits::IDLE_LOOK_MS));
        }
        let waits = self.adapters.is_busy() && self.engine.awaits_adapters();
        waits.then_some(limits::INFER_WAIT_MAX)
    }

    /// Whether a device fails whatever it is given; who started this process then uses another.
    fn has_lost_its_device(&self) -> bool {
        let on_device = !self.engine.options().backend.exact();
        self.engine.backend_gone() || on_device && self.failures >= limits::DEVICE_FAILURES_MAX
    }

    fn hear(&mut self, news: News, answers: &mut Vec<InferResponse>) {
        match news {
            News::Asked(ask) => self.take(ask, answers),
            News::Read(id, read) => {
                answers.extend(self.adapters.came(&mut self.engine, id, read));
            }
            News::Merged(outcome) => self.adapters.merged(&mut self.engine, *outcome),
            News::Compiled(done) => {
                let (Constrained { id, call, wishes, constraint }, went) = *done;
                if self.compiler.came(id)
                    && let Err(failure) =
                        went.and_then(|()| self.begin(id, &call, &wishes, Some(constraint)))
                {
                    answers.push(InferResponse::Failed { id, failure });
                }
            }
        }
    }

    fn take(&mut self, ask: InferAsk, answers: &mut Vec<InferResponse>) {
        let request = match ask {
            InferAsk::Plain(request) => request,
            InferAsk::Wishing { id, call, wishes } => {
                if let Err(failure) = self.accept(id, call, *wishes) {
                    answers.push(InferResponse::Failed { id, failure });
                }
                return;
            }
        };
        match request {
            InferRequest::Setup(_) | InferRequest::Probe(_) => {
                let failure = failure(codes::INVALID, "this worker has its model already", 0);
                answers.push(InferResponse::Failed { id: 0, failure });
            }
            InferRequest::Adapter { id, adapter, path } => {
                let path = Path::new(&*path);
                answers.extend(self.adapters.named(&mut self.engine, id, adapter, path));
            }
            InferRequest::Call { id, call } => {
                if let Err(failure) = self.accept(id, call, Wishes::default()) {
                    answers.push(InferResponse::Failed { id, failure });
                }
            }
            InferRequest::Cancel { id } => {
                let found = self.answering.iter().find(|(_, one)| one.id == id);
                if let Some(sequence) = found.map(|(sequence, _)| *sequence) {
                    self.answering.remove(&sequence);
                    self.engine.cancel(sequence);
                }
                self.compiler.cancel(id);
                self.embedding.retain(|one| one.id != id);
            }
            InferRequest::Embed { id, embed } => match self.texts(id, &embed) {
                Ok(embedding) => self.embedding.push_back(embedding),
                Err(failure) => answers.push(InferResponse::Failed { id, failure }),
            },
            InferRequest::Check { id, call } => answers.push(match self.check(&call) {
                Ok(output) => InferResponse::Checked { id, output: Box::new(output) },
                Err(failure) => InferResponse::Failed { id, failure },
            }),
        }
    }

    /// Takes a call: it begins once its constraint is compiled.
    fn accept(&mut self, id: u64, call: Box<Call>, wishes: Wishes) -> Result<(), CallFailure> {
        match constraint_of(&self.model, &call) {
            Some(constraint) if !self.compiler.has(&constraint) => {
                self.compiler.put(Constrained { id, call, wishes, constraint })
            }
            constraint => self.begin(id, &call, &wishes, constraint),
        }
    }

    fn begin(
        &mut self,
        id: u64,
        call: &Call,
        wishes: &Wishes,
        constraint: Option<Constraint>,
    ) -> Result<(), CallFailure> {
        let prompt = tokens_of(&self.model, &call.prompt, &tools_of(call))?;
        let options = self.engine.options();
        let held = options.page_tokens.saturating_mul(options.pages_max);
        let mut request = request_of(call, prompt, self.model.config().context, held)?;
        grant(wishes, &mut request, self.now_ms());
        request.constraint = constraint;
        let sequence = self.engine.resume(request, &call.generated);
        let sequence = sequence.map_err(|error| of_submit(&error))?;
        let (text, fingerprint) = (Outgoing::default(), wishes.fingerprint);
        self.answering.insert(sequence, Answering { id, text, fingerprint });
        Ok(())
    }

    fn texts(&mut self, id: u64, embed: &Embed) -> Result<Embedding, CallFailure> {
        self.adapters.reload(&mut self.engine, &embed.adapters)?;
        let tokens = |text| tokens_of(&self.model, text, &[]);
        let texts: VecDeque<Vec<u32>> =
            embed.inputs.iter().map(tokens).collect::<Result<_, _>>()?;
        let prompt_tokens = texts.iter().map(Vec::len).sum();
        let adapters = weights(&embed.adapters);
        Ok(Embedding { id, adapters, texts, vectors: Vec::new(), prompt_tokens })
    }

    /// Runs an answer through the model, at once: who checks has no part in the batch.
    fn check(&mut self, call: &Call) -> Result<InferOutput, CallFailure> {
        self.adapters.reload(&mut self.engine, &call.adapters)?;
        let prompt = tokens_of(&self.model, &call.prompt, &tools_of(call))?;
        let options = self.engine.options();
        let (held, class) =
            (options.page_tokens.saturating_mul(options.pages_max), options.class());
        let request = request_of(call, prompt, self.model.config().context, held)?;
        let found = self.engine.examine(&request, &call.generated);
        checked(&call.generated, &found.map_err(|error| of_verify(&error))?, class)
    }

    fn step(&mut self, answers: &mut Vec<InferResponse>) {
        let now_ms = self.now_ms();
        self.engine.set_now(now_ms);
        if now_ms.saturating_sub(self.looked_ms) >= limits::IDLE_LOOK_MS {
            self.looked_ms = now_ms;
            self.evict(now_ms);
        }
        self.adapters.bring(&mut self.engine);
        match self.engine.step() {
            Ok(events) => {
                self.failures = 0;
                answers.extend(events.into_iter().filter_map(|event| self.tell(event)));
            }
            // Nothing is lost: the engine runs everything again, and gives up what fails always.
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                tracing::warn!("failed to {error}");
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Puts adapters out that nobody has used for as long as the owner says.
    fn evict(&mut self, now_ms: u64) {
        if self.idle_max_ms == 0 {
            return;
        }
        let gone = self.engine.evict_idle(now_ms, self.idle_max_ms).len();
        if gone > 0 {
            tracing::debug!(adapters = gone, "adapters that nobody used left the memory");
            self.adapters.changed();
        }
    }

    /// An event as an answer; none if nobody waits for it.
    fn tell(&mut self, event: Event) -> Option<InferResponse> {
        let sequence = event.sequence();
        match event {
            Event::Token { token, text, logprob, top, .. } => {
                let one = self.answering.get_mut(&sequence)?;
                let text = one.text.next(&text);
                let token = token_of(self.model.tokenizer(), token, text, logprob, &top);
                Some(InferResponse::Token { id: one.id, token })
            }
            Event::Finished { reason, usage, fingerprint, .. } => {
                let mut one = self.answering.remove(&sequence)?;
                self.adapters.changed();
                let mut end = end_of(reason, usage, one.text.next(""))?;
                // Answers that are too long for one are no task's.
                end.fingerprint =
                    if one.fingerprint { Blob::new(fingerprint.to_bytes()).ok() } else { None };
                Some(InferResponse::End { id: one.id, end })
            }
            Event::Failed { error, .. } => {
                let one = self.answering.remove(&sequence)?;
                self.adapters.changed();
                Some(InferResponse::Failed { id: one.id, failure: of_sequence(&error) })
            }
        }
    }

    /// Turns one text into a vector; answers when it was the last of its request.
    fn embed_one(&mut self, answers: &mut Vec<InferResponse>) {
        let Some(one) = self.embedding.front_mut() else { return };
        if let Some(text) = one.texts.pop_front() {
            let vector = self.engine.embed(&text, &one.adapters).map_err(|error| of_score(&error));
            let vector = vector.and_then(|vector| {
                Blob::new(bytes_of(&vector)).map_err(|error| {
                    let message = format!("the model's vectors are too long: {error} bytes");
                    failure(codes::ENGINE, &message, 0)
                })
            });
            match vector {
                Ok(vector) => one.vectors.push(vector),
                Err(failure) => {
                    answers.push(InferResponse::Failed { id: one.id, failure });
                    self.embedding.pop_front();
                    return;
                }
            }
        }
        if one.texts.is_empty() {
            let Some(done) = self.embedding.pop_front() else { return };
            let vectors = List::new(done.vectors).unwrap_or_default();
            let prompt_tokens = u32::try_from(done.prompt_tokens).unwrap_or(u32::MAX);
            let embedded = Embedded { vectors, prompt_tokens };
            answers.push(InferResponse::Embedded { id: done.id, embedded });
        }
    }
}

fn options(setup: &InferSetup) -> Result<EngineOptions, CallFailure> {
    let default = EngineOptions::default().class();
    let class = setup.backend.as_deref().unwrap_or(default);
    let Some((backend, kv, adapters)) = of_class(class) else {
        let message = format!("this build has no backend of the class {class}");
        return Err(failure(codes::INVALID, &message, 0));
    };
    let page_tokens = 16;
    let tokens_max = usize::try_from(setup.tokens_max).unwrap_or(usize::MAX);
    Ok(EngineOptions {
        backend,
        kv,
        adapters,
        threads: usize::from(setup.threads),
        sequences_max: usize::from(setup.sequences_max),
        page_tokens,
        pages_max: tokens_max.div_ceil(page_tokens),
        chunk_tokens_max: limits::INFER_CHUNK_TOKENS_MAX,
        adapters_bytes_max: usize::try_from(setup.adapter_bytes_max).unwrap_or(usize::MAX),
        ..EngineOptions::default()
    })
}

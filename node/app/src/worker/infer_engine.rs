//! The engine's desk: takes requests between steps, hands out what each step gave.
//!
//! One thread does all of it, so that nothing of the engine needs a lock. Texts to turn into
//! vectors take turns with the steps of calls, one text at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use openledger_inference::{
    AdapterStoreError, Engine, EngineOptions, Event, PreparedAdapter, SequenceId, of_class,
};
use openledger_models::{Model, ModelConfig};
use openledger_wire::call::{Call, CallFailure, Embed, Embedded};
use openledger_wire::worker::{InferRequest, InferResponse, InferSetup};
use openledger_wire::{Blob, BlobId, List, Text};
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::child::limit_memory;
use super::infer_ask::InferAsk;
use super::infer_call::{
    Outgoing, bytes_of, end_of, grant, of_prepare, of_score, of_sequence, of_store, of_submit,
    request_of, token_of, tokens_of, weights,
};
use crate::limits;
use crate::serving::{Wishes, codes, failure};

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
    /// Files of adapters, so that one that the engine put out comes back by itself.
    files: BTreeMap<BlobId, PathBuf>,
    embedding: VecDeque<Embedding>,
    /// What the engine's clock counts from.
    begun: Instant,
}

struct Answering {
    id: u64,
    text: Outgoing,
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
    pub(super) fn open(setup: &InferSetup) -> Result<Self, CallFailure> {
        let path = Path::new(&*setup.path);
        let file_bytes = path.metadata().map_or(0, |data| data.len());
        let base = limits::INFER_MEMORY_BYTES.saturating_add(file_bytes);
        limit_memory(base);
        let bad = |error: &dyn std::fmt::Display| {
            let message = format!("failed to {error} (file {})", path.display());
            failure(codes::BAD_FILE, &message, 0)
        };
        let model = Arc::new(Model::open(path).map_err(|error| bad(&error))?);
        let options = options(setup)?;
        // The fast backend holds a copy of the weights beside the file.
        let base = base.saturating_add(file_bytes);
        let kept = kv_bytes(model.config(), options.page_tokens.saturating_mul(options.pages_max));
        // Adapters are parsed beside those that are loaded.
        let adapters = setup.adapter_bytes_max.saturating_mul(3);
        limit_memory(base.saturating_add(kept).saturating_add(adapters));
        let engine = Engine::new(Arc::clone(&model), options).map_err(|error| bad(&error))?;
        Ok(Self {
            engine,
            model,
            answering: BTreeMap::new(),
            files: BTreeMap::new(),
            embedding: VecDeque::new(),
            begun: Instant::now(),
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
        mut inbox: mpsc::Receiver<InferAsk>,
        answers: &mpsc::Sender<InferResponse>,
    ) {
        loop {
            let mut now = Vec::new();
            if self.engine.is_idle() && self.embedding.is_empty() {
                match inbox.blocking_recv() {
                    Some(request) => self.take(request, &mut now),
                    None => return,
                }
            }
            loop {
                match inbox.try_recv() {
                    Ok(request) => self.take(request, &mut now),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.step(&mut now);
            self.embed_one(&mut now);
            for answer in now {
                if answers.blocking_send(answer).is_err() {
                    return;
                }
            }
        }
    }

    fn take(&mut self, ask: InferAsk, answers: &mut Vec<InferResponse>) {
        let request = match ask {
            InferAsk::Plain(request) => request,
            InferAsk::Wishing { id, call, wishes } => {
                if let Err(failure) = self.begin(id, &call, &wishes) {
                    answers.push(InferResponse::Failed { id, failure });
                }
                return;
            }
        };
        match request {
            InferRequest::Setup(_) => {
                let failure = failure(codes::INVALID, "this worker has its model already", 0);
                answers.push(InferResponse::Failed { id: 0, failure });
            }
            InferRequest::Adapter { id, adapter, path } => {
                answers.push(match self.load(adapter, Path::new(&*path)) {
                    Ok(bytes) => InferResponse::Loaded { id, bytes },
                    Err(failure) => InferResponse::Failed { id, failure },
                });
            }
            InferRequest::Call { id, call } => {
                if let Err(failure) = self.begin(id, &call, &Wishes::default()) {
                    answers.push(InferResponse::Failed { id, failure });
                }
            }
            InferRequest::Cancel { id } => {
                let found = self.answering.iter().find(|(_, one)| one.id == id);
                if let Some(sequence) = found.map(|(sequence, _)| *sequence) {
                    self.answering.remove(&sequence);
                    self.engine.cancel(sequence);
                }
                self.embedding.retain(|one| one.id != id);
            }
            InferRequest::Embed { id, embed } => match self.texts(id, &embed) {
                Ok(embedding) => self.embedding.push_back(embedding),
                Err(failure) => answers.push(InferResponse::Failed { id, failure }),
            },
        }
    }

    /// Reads an adapter and stores its numbers as the engine takes them.
    fn prepare(&self, path: &Path) -> Result<PreparedAdapter, CallFailure> {
        let bytes = read(path).map_err(|error| {
            let message = format!("failed to read adapter {}: {error}", path.display());
            failure(codes::BAD_FILE, &message, 0)
        })?;
        let storage = self.engine.adapter_storage();
        let prepared = PreparedAdapter::from_bundle(self.model.config(), &bytes, storage);
        prepared.map_err(|error| of_prepare(&error))
    }

    /// Takes an adapter, and loads it if there is room now; gives the bytes that it takes. Calls
    /// may name it from now on: they wait for it.
    fn load(&mut self, adapter: BlobId, path: &Path) -> Result<u64, CallFailure> {
        let prepared = self.prepare(path)?;
        let bytes = prepared.bytes() as u64;
        let kept = self.files.contains_key(&adapter);
        if kept || self.files.len() < limits::INFER_ADAPTERS_MAX {
            self.files.insert(adapter, path.to_owned());
            self.engine.register_adapter(adapter);
        }
        match self.engine.deliver(adapter, prepared) {
            Err(AdapterStoreError::Full { .. }) if self.files.contains_key(&adapter) => Ok(bytes),
            Err(error) => Err(of_store(&error)),
            Ok(_) => Ok(bytes),
        }
    }

    /// Brings the adapters that calls wait for, as far as there is room.
    fn bring(&mut self) {
        let mut tried = BTreeSet::new();
        while let Some(id) = self.engine.wanted().into_iter().find(|id| tried.insert(*id)) {
            let Some(path) = self.files.get(&id).cloned() else { continue };
            match self.prepare(&path) {
                // Without room it is wanted again.
                Ok(prepared) => drop(self.engine.deliver(id, prepared)),
                Err(failure) => self.engine.adapter_unavailable(&id, &failure.message),
            }
        }
    }

    /// Loads those again that the engine put out to make room.
    fn reload(&mut self, adapters: &[(BlobId, u32)]) -> Result<(), CallFailure> {
        for (adapter, _) in adapters {
            if !self.engine.has_adapter(adapter)
                && let Some(path) = self.files.get(adapter).cloned()
            {
                self.load(*adapter, &path)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: u64, call: &Call, wishes: &Wishes) -> Result<(), CallFailure> {
        let prompt = tokens_of(&self.model, &call.prompt)?;
        let options = self.engine.options();
        let held = options.page_tokens.saturating_mul(options.pages_max);
        let mut request = request_of(call, prompt, self.model.config().context, held)?;
        grant(wishes, &mut request);
        let sequence = self.engine.resume(request, &call.generated);
        let sequence = sequence.map_err(|error| of_submit(&error))?;
        self.answering.insert(sequence, Answering { id, text: Outgoing::default() });
        Ok(())
    }

    fn texts(&mut self, id: u64, embed: &Embed) -> Result<Embedding, CallFailure> {
        self.reload(&embed.adapters)?;
        let tokens = |text| tokens_of(&self.model, text);
        let texts: VecDeque<Vec<u32>> =
            embed.inputs.iter().map(tokens).collect::<Result<_, _>>()?;
        let prompt_tokens = texts.iter().map(Vec::len).sum();
        let adapters = weights(&embed.adapters);
        Ok(Embedding { id, adapters, texts, vectors: Vec::new(), prompt_tokens })
    }

    fn step(&mut self, answers: &mut Vec<InferResponse>) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.engine.set_now(now_ms);
        self.bring();
        match self.engine.step() {
            Ok(events) => answers.extend(events.into_iter().filter_map(|event| self.tell(event))),
            // Nothing is lost: the engine runs everything again, and gives up what fails always.
            Err(error) => tracing::warn!("failed to {error}"),
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
            Event::Finished { reason, usage, .. } => {
                let mut one = self.answering.remove(&sequence)?;
                let end = end_of(reason, usage, one.text.next(""))?;
                Some(InferResponse::End { id: one.id, end })
            }
            Event::Failed { error, .. } => {
                let one = self.answering.remove(&sequence)?;
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

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::ADAPTER_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits::ADAPTER_BYTES_MAX {
        let reason = format!("it has more than {} bytes", limits::ADAPTER_BYTES_MAX);
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

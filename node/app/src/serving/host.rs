//! The process that holds the engine, from the outside: started when first needed, watched,
//! started again with back-off.
//!
//! When it dies, every call in hand ends with a failure, and what it had in hand is suspected: an
//! input that is there again and again when it crashes is refused for a while. Nothing is tried
//! again by itself; that is for whoever called.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openledger_wire::call::{Call, CallFailure, Embed, Embedded};
use openledger_wire::proof::InferOutput;
use openledger_wire::worker::{InferProbe, InferRequest, InferResponse, InferSetup};
use openledger_wire::{BlobId, Text, encode, limits as wire_limits};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::in_hand::{InHand, Waiting, died};
use super::suspects::{Death, Suspects};
use super::{CallStream, Wishes, codes, failure};
use crate::limits;
use crate::node::lock;
use crate::worker::{BackOff, InferAsk, Program, WorkerKind, read_frame, spawn, write_frame};

/// An adapter with its file.
pub type AdapterFile = (BlobId, PathBuf);

/// What a worker says of the model that it has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name, as the file says.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Tokens of context.
    pub context: u32,
    /// Class of the engine's results.
    pub backend: String,
    /// What the engine computes on, in words.
    pub device: String,
}

/// Called when a process died by itself.
pub type OnCrash = Arc<dyn Fn() + Send + Sync>;

/// One infer worker over one base model.
pub struct Host {
    program: Program,
    setup: InferSetup,
    slot: AsyncMutex<Slot>,
    /// Bytes of the model that are loaded, and all, while it is.
    loading: Mutex<Option<(u64, u64)>>,
    next: AtomicU64,
    starts: AtomicU64,
    suspects: Arc<Suspects>,
    on_crash: OnCrash,
    /// Whether tasks use it.
    works: AtomicBool,
}

/// The process at the moment, and how the last ones did.
#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    back_off: BackOff,
}

struct Live {
    requests: mpsc::Sender<InferAsk>,
    in_hand: Arc<InHand>,
    info: ModelInfo,
    /// Each adapter that was asked for, and whether the process knows it.
    adapters: Mutex<BTreeMap<BlobId, Arc<AsyncMutex<bool>>>>,
    pid: Option<u32>,
    started: Instant,
    end: CancellationToken,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Host {
    /// A host; nothing is started yet.
    #[must_use]
    pub fn new(program: Program, setup: InferSetup, on_crash: OnCrash) -> Self {
        Self {
            program,
            setup,
            slot: AsyncMutex::default(),
            loading: Mutex::default(),
            on_crash,
            works: AtomicBool::new(false),
            next: AtomicU64::new(1),
            starts: AtomicU64::new(0),
            suspects: Arc::default(),
        }
    }

    /// The base model.
    #[must_use]
    pub fn model(&self) -> BlobId {
        self.setup.model
    }

    /// The backend class in which it computes.
    #[must_use]
    pub fn class(&self) -> &str {
        self.setup.backend.as_deref().unwrap_or_default()
    }

    /// How often a process was started.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// The process id, while one runs.
    pub async fn pid(&self) -> Option<u32> {
        let slot = self.slot.lock().await;
        slot.live.as_ref().filter(|live| !live.in_hand.is_dead()).and_then(|live| live.pid)
    }

    /// Requests that wait for an answer; one at least while the model is loaded for somebody.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        let Ok(slot) = self.slot.try_lock() else { return 1 };
        slot.live.as_ref().map_or(0, |live| live.in_hand.len())
    }

    /// Notes that tasks use it.
    pub fn note_work(&self) {
        self.works.store(true, Ordering::Relaxed);
    }

    /// Whether tasks use it.
    #[must_use]
    pub fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    /// Bytes of the model that are loaded, and all, while it is loaded.
    #[must_use]
    pub fn loading(&self) -> Option<(u64, u64)> {
        *lock(&self.loading)
    }

    /// Loads the model if that is not done, and says what it is.
    ///
    /// # Errors
    /// What kept it from being loaded.
    pub async fn info(self: &Arc<Self>) -> Result<ModelInfo, CallFailure> {
        Ok(self.live().await?.info.clone())
    }

    /// Begins a call. What only the engine can say (the prompt is too long, for instance) comes
    /// as the stream's first piece.
    ///
    /// # Errors
    /// [`CallFailure`] if the process or an adapter cannot be had, or the input is in quarantine.
    pub async fn call(
        self: &Arc<Self>,
        call: Call,
        wishes: Wishes,
        adapters: &[AdapterFile],
    ) -> Result<CallStream, CallFailure> {
        let input = {
            // A call that goes on elsewhere is the same input.
            let generated = openledger_wire::List::default();
            fingerprint(&Call { generated, ..call.clone() })
        };
        self.suspects.check(input)?;
        let live = self.live().await?;
        self.load(&live, adapters).await?;
        let id = self.number();
        // Room for the whole answer, so that a slow reader holds nobody else up.
        let tokens_max = usize::try_from(call.tokens_max).unwrap_or(usize::MAX);
        let (sender, stream) = mpsc::channel(tokens_max.min(wire_limits::CALL_TOKENS_MAX) + 2);
        let (done, is_done) = oneshot::channel();
        let reader = sender.clone();
        live.in_hand.expect(id, Waiting::Call { sender, input, _done: done })?;
        let (call, wishes) = (Box::new(call), Box::new(wishes));
        live.ask(InferAsk::Wishing { id, call, wishes }).await;
        tokio::spawn(async move {
            tokio::select! {
                // Nobody wants the answer any more.
                () = reader.closed() => {
                    live.in_hand.forget(id);
                    live.ask(InferRequest::Cancel { id }).await;
                }
                _ = is_done => {}
            }
        });
        Ok(stream)
    }

    /// Turns texts into vectors.
    ///
    /// # Errors
    /// [`CallFailure`].
    pub async fn embed(
        self: &Arc<Self>,
        embed: Embed,
        adapters: &[AdapterFile],
    ) -> Result<Embedded, CallFailure> {
        let input = fingerprint(&embed);
        self.suspects.check(input)?;
        let live = self.live().await?;
        self.load(&live, adapters).await?;
        let id = self.number();
        let (sender, answer) = oneshot::channel();
        live.in_hand.expect(id, Waiting::Embed { sender, input })?;
        live.ask(InferRequest::Embed { id, embed }).await;
        live.answer(id, answer, limits::EMBED_TIME_MAX).await
    }

    /// Runs an answer, which is what the call has generated already, through the model.
    ///
    /// # Errors
    /// [`CallFailure`].
    pub async fn check(
        self: &Arc<Self>,
        call: Call,
        adapters: &[AdapterFile],
    ) -> Result<InferOutput, CallFailure> {
        let input = fingerprint(&call);
        self.suspects.check(input)?;
        let live = self.live().await?;
        self.load(&live, adapters).await?;
        let id = self.number();
        let (sender, answer) = oneshot::channel();
        live.in_hand.expect(id, Waiting::Check { sender, input })?;
        live.ask(InferRequest::Check { id, call: Box::new(call) }).await;
        live.answer(id, answer, limits::INFER_TIME_MAX).await
    }

    /// Ends the process, if one runs; the next call starts another.
    pub async fn stop(&self) {
        if let Some(live) = self.slot.lock().await.live.take() {
            live.end.cancel();
        }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Has the process load those adapters that it does not know.
    async fn load(&self, live: &Live, adapters: &[AdapterFile]) -> Result<(), CallFailure> {
        for (adapter, path) in adapters {
            // One asks for it, and who names it too waits for that.
            let turn = Arc::clone(lock(&live.adapters).entry(*adapter).or_default());
            let mut is_known = turn.lock().await;
            if *is_known {
                continue;
            }
            self.suspects.check(adapter.0)?;
            let Ok(path) = Text::new(path.display().to_string()) else {
                let message = format!("the path {} is too long; move it up", path.display());
                return Err(failure(codes::BAD_FILE, &message, 0));
            };
            let id = self.number();
            let (sender, answer) = oneshot::channel();
            live.in_hand.expect(id, Waiting::Adapter { sender, input: adapter.0 })?;
            live.ask(InferRequest::Adapter { id, adapter: *adapter, path }).await;
            let bytes = live.answer(id, answer, limits::ADAPTER_TIME_MAX).await?;
            tracing::debug!(adapter = %adapter, bytes, "an adapter is loaded");
            *is_known = true;
        }
        Ok(())
    }

    /// The running process, or a new one, which is started to its end even if who asked first does
    /// not wait for it.
    async fn live(self: &Arc<Self>) -> Result<Arc<Live>, CallFailure> {
        if let Ok(slot) = self.slot.try_lock()
            && let Some(live) = slot.live.as_ref().filter(|live| !live.in_hand.is_dead())
        {
            return Ok(Arc::clone(live));
        }
        let own = Arc::clone(self);
        let started = tokio::spawn(async move { own.live_or_start().await });
        started.await.unwrap_or_else(|_| Err(died()))
    }

    async fn live_or_start(&self) -> Result<Arc<Live>, CallFailure> {
        let mut slot = self.slot.lock().await;
        if let Some(live) = &slot.live {
            if !live.in_hand.is_dead() {
                return Ok(Arc::clone(live));
            }
            let started = live.started;
            slot.live = None;
            slot.back_off.died(started);
        }
        let wait = slot.back_off.wait();
        if wait > limits::WORKER_WAIT_MAX {
            let message = "the engine's process died several times and rests for a while";
            return Err(failure(codes::START, message, millis(wait)));
        }
        tokio::time::sleep(wait).await;
        match self.start().await {
            Ok(live) => {
                let live = Arc::new(live);
                slot.live = Some(Arc::clone(&live));
                Ok(live)
            }
            Err(failure) => {
                slot.back_off.failed();
                Err(failure)
            }
        }
    }

    /// Starts a process and waits until its model is loaded.
    async fn start(&self) -> Result<Live, CallFailure> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        *lock(&self.loading) = Some((0, 0));
        let started = self.start_and_load().await;
        *lock(&self.loading) = None;
        started
    }

    async fn start_and_load(&self) -> Result<Live, CallFailure> {
        let begun = Instant::now();
        let (child, socket) = spawn(&self.program, WorkerKind::Infer, limits::INFER_TIME_MAX)
            .map_err(|error| not_started(&error))?;
        let (mut reader, mut writer) = socket.into_split();
        write_frame(&mut writer, &InferRequest::Setup(self.setup.clone()))
            .await
            .map_err(|error| not_started(&error))?;
        let info = self.ready(&mut reader).await?;
        let (pid, took) = (child.id(), begun.elapsed().as_millis());
        let (model, class, device) = (&info.name, &info.backend, &info.device);
        tracing::info!(model, class, device, pid, ms = took, "a model is loaded");
        let (requests, queue) = mpsc::channel(limits::INFER_QUEUE_MAX);
        let (in_hand, end) = (Arc::new(InHand::default()), CancellationToken::new());
        tokio::spawn(write_all(writer, queue));
        let watch = Watch {
            child,
            in_hand: Arc::clone(&in_hand),
            suspects: Arc::clone(&self.suspects),
            on_crash: Arc::clone(&self.on_crash),
            end: end.clone(),
        };
        tokio::spawn(watch.listen(reader));
        let (adapters, started) = (Mutex::default(), Instant::now());
        Ok(Live { requests, in_hand, info, adapters, pid, started, end })
    }

    /// Waits until the model is loaded, as long as the process gives signs of life.
    async fn ready(&self, reader: &mut OwnedReadHalf) -> Result<ModelInfo, CallFailure> {
        let mut told = Instant::now();
        loop {
            let said = read_frame::<InferResponse>(reader);
            match tokio::time::timeout(limits::INFER_START_TIME_MAX, said).await {
                Ok(Ok(Some(InferResponse::Loading { done, total }))) => {
                    *lock(&self.loading) = Some((done, total));
                    if told.elapsed() >= limits::PROGRESS_EVERY {
                        told = Instant::now();
                        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
                        let (class, model) = (self.class(), self.model().short());
                        tracing::info!(model, class, percent, "a model is being loaded");
                    }
                }
                Ok(Ok(Some(InferResponse::Ready {
                    name,
                    architecture,
                    context,
                    backend,
                    device,
                }))) => {
                    let (name, architecture) = (name.to_string(), architecture.to_string());
                    let device = device.map(|device| device.to_string()).unwrap_or_default();
                    let backend = backend.to_string();
                    return Ok(ModelInfo { name, architecture, context, backend, device });
                }
                Ok(Ok(Some(InferResponse::Failed { failure, .. }))) => return Err(failure),
                Ok(Ok(_)) => return Err(not_started(&"it ended while it loaded the model")),
                Ok(Err(error)) => return Err(not_started(&error)),
                Err(_) => return Err(not_started(&"the model was not loaded in time")),
            }
        }
    }
}

/// Asks a process what a backend would compute on; it ends afterwards.
///
/// # Errors
/// That there is nothing ([`codes::NO_DEVICE`]), or why nothing could be found out.
pub async fn probe(program: &Program, asked: InferProbe) -> Result<String, CallFailure> {
    let (_child, socket) = spawn(program, WorkerKind::Infer, limits::PROBE_TIME_MAX)
        .map_err(|error| not_started(&error))?;
    let (mut reader, mut writer) = socket.into_split();
    write_frame(&mut writer, &InferRequest::Probe(asked))
        .await
        .map_err(|error| not_started(&error))?;
    let said = read_frame::<InferResponse>(&mut reader);
    match tokio::time::timeout(limits::PROBE_TIME_MAX, said).await {
        Ok(Ok(Some(InferResponse::Probed { device }))) => Ok(device.to_string()),
        Ok(Ok(Some(InferResponse::Failed { failure, .. }))) => Err(failure),
        Ok(Ok(_)) => Err(not_started(&"it ended while it looked for a device")),
        Ok(Err(error)) => Err(not_started(&error)),
        Err(_) => Err(not_started(&"it found no end in looking for a device")),
    }
}

impl Live {
    /// Sends a request. If the process is dead, whoever waits is told by who watches it.
    async fn ask(&self, request: impl Into<InferAsk>) {
        if self.requests.send(request.into()).await.is_err() {
            tracing::debug!("an infer worker does not read any more");
        }
    }

    async fn answer<T>(
        &self,
        id: u64,
        answer: oneshot::Receiver<Result<T, CallFailure>>,
        time_max: Duration,
    ) -> Result<T, CallFailure> {
        match tokio::time::timeout(time_max, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(died()),
            Err(_) => {
                self.in_hand.forget(id);
                self.ask(InferRequest::Cancel { id }).await;
                let message = format!("it took more than {} s", time_max.as_secs());
                Err(failure(codes::BUSY, &message, 1_000))
            }
        }
    }
}

/// Hands answers to who waits for them until the process is gone, then tells the others.
struct Watch {
    child: Child,
    in_hand: Arc<InHand>,
    suspects: Arc<Suspects>,
    on_crash: OnCrash,
    end: CancellationToken,
}

impl Watch {
    async fn listen(mut self, mut reader: OwnedReadHalf) {
        loop {
            let answer = tokio::select! {
                answer = read_frame::<InferResponse>(&mut reader) => answer,
                () = self.end.cancelled() => break,
            };
            match answer {
                Ok(Some(answer)) => {
                    if let Some(input) = self.in_hand.answer(answer) {
                        self.suspects.clear(input);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!("failed to {error}; the infer worker is ended");
                    break;
                }
            }
        }
        // Its socket is closed or makes no sense: if it has not ended, it does now. One that died
        // by itself is given a moment, so that its last word is its own.
        let death = if self.end.is_cancelled() {
            Death::Wanted
        } else {
            let moment = Duration::from_millis(500);
            let status = tokio::time::timeout(moment, self.child.wait()).await;
            status.ok().and_then(Result::ok).map_or(Death::Crash, Death::of)
        };
        // Does nothing to one that has ended.
        let _ = self.child.kill().await;
        let waiting = self.in_hand.close();
        if death != Death::Wanted {
            tracing::warn!(in_hand = waiting.len(), ?death, "the infer worker died");
        }
        // Noted before anybody is told, so that who asks again at once is known.
        let inputs: Vec<[u8; 32]> = waiting.iter().map(Waiting::input).collect();
        self.suspects.died(&inputs, death);
        if death == Death::Crash {
            (self.on_crash)();
        }
        for one in waiting {
            one.fail(died());
        }
    }
}

async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<InferAsk>) {
    while let Some(request) = queue.recv().await {
        if let Err(error) = write_frame(&mut writer, &request).await {
            tracing::debug!("an infer worker does not read any more: {error}");
            return;
        }
    }
}

/// What identifies an input, however often it comes.
fn fingerprint<T: serde::Serialize>(input: &T) -> [u8; 32] {
    encode(input).map_or([0; 32], |bytes| BlobId::of(&bytes).0)
}

fn not_started(why: &dyn std::fmt::Display) -> CallFailure {
    let message = format!("failed to start the engine's process: {why}");
    failure(codes::START, &message, 2_000)
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

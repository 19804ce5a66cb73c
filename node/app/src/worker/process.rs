//! A worker process from the outside: started on demand, watched, started again with back-off.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openledger_wire::worker::{FetchSetup, WorkerRequest, WorkerResponse};
use thiserror::Error;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::back_off::BackOff;
use super::child::WorkerKind;
use super::frame::{read_frame, write_frame};
use super::spawn::spawn;
use crate::limits;

/// Why a worker gave no answer.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The worker could not be started.
    #[error("start a {kind} worker: {reason}; check that the program file is still in its place")]
    Start {
        /// Which.
        kind: &'static str,
        /// The system's words.
        reason: String,
    },
    /// It died with this input in hand.
    #[error("the {kind} worker died while it handled this input")]
    Died {
        /// Which.
        kind: &'static str,
        /// Whether this was the only input in hand, so that nothing else can be the cause.
        alone: bool,
    },
    /// It took too long and was killed.
    #[error("the {kind} worker took more than {seconds} s and was stopped")]
    TimedOut {
        /// Which.
        kind: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// It says that it failed.
    #[error("{message}")]
    Failed {
        /// Stable code.
        code: String,
        /// What was wrong and what to do.
        message: String,
        /// Whether another attempt may help.
        retryable: bool,
    },
}

/// Which program workers are.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
}

impl Program {
    /// The program that runs now.
    ///
    /// # Errors
    /// When the system does not say which file that is.
    pub fn current() -> std::io::Result<Self> {
        Ok(Self { path: std::env::current_exe()? })
    }
}

/// One worker process, started when first needed.
pub struct Worker {
    kind: WorkerKind,
    program: Program,
    setup: Option<FetchSetup>,
    time_max: Duration,
    next: AtomicU64,
    live: AsyncMutex<Slot>,
}

/// The process at the moment, and how the last ones did.
#[derive(Default)]
struct Slot {
    live: Option<Live>,
    back_off: BackOff,
}

struct Live {
    writer: Arc<AsyncMutex<OwnedWriteHalf>>,
    waiting: Arc<Waiting>,
    started: Instant,
    child: Child,
}

/// Who waits for which answer.
#[derive(Default)]
struct Waiting(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    by_id: BTreeMap<u64, oneshot::Sender<Answer>>,
    is_dead: bool,
}

/// What comes back: an answer, or that the process died with this many inputs in hand.
enum Answer {
    Response(WorkerResponse),
    Died(usize),
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver for the answer to `id`; `None` if the process is dead.
    fn expect(&self, id: u64) -> Option<oneshot::Receiver<Answer>> {
        let mut calls = self.lock();
        if calls.is_dead {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        calls.by_id.insert(id, sender);
        Some(receiver)
    }

    fn answer(&self, response: WorkerResponse) {
        let id = match &response {
            WorkerResponse::Ready => 0,
            WorkerResponse::Fetched { id, .. }
            | WorkerResponse::Refined { id, .. }
            | WorkerResponse::Failed { id, .. } => *id,
        };
        if let Some(sender) = self.lock().by_id.remove(&id) {
            let _ = sender.send(Answer::Response(response));
        }
    }

    fn died(&self) {
        let mut calls = self.lock();
        calls.is_dead = true;
        let waiting = std::mem::take(&mut calls.by_id);
        let in_hand = waiting.values().filter(|sender| !sender.is_closed()).count();
        for sender in waiting.into_values() {
            let _ = sender.send(Answer::Died(in_hand));
        }
    }
}

impl Worker {
    /// A fetch worker, which gives each page up after `time_max`; nothing is started yet.
    #[must_use]
    pub fn fetch(program: Program, setup: FetchSetup, time_max: Duration) -> Self {
        Self::new(WorkerKind::Fetch, program, Some(setup), time_max)
    }

    /// A refine worker; nothing is started yet.
    #[must_use]
    pub fn refine(program: Program) -> Self {
        Self::new(WorkerKind::Refine, program, None, limits::REFINE_TIME_MAX)
    }

    fn new(
        kind: WorkerKind,
        program: Program,
        setup: Option<FetchSetup>,
        time_max: Duration,
    ) -> Self {
        // Id 0 is the answer to the setup.
        let (next, live) = (AtomicU64::new(1), AsyncMutex::default());
        Self { kind, program, setup, time_max, next, live }
    }

    /// The process id, while one runs.
    pub async fn pid(&self) -> Option<u32> {
        self.live.lock().await.live.as_ref().and_then(|live| live.child.id())
    }

    /// Asks the worker; `make` gets the number of the request.
    ///
    /// # Errors
    /// [`CallError`]. After one of [`CallError::Died`] or [`CallError::TimedOut`] the next call
    /// starts a new process.
    pub async fn call(
        &self,
        time_max: Duration,
        make: impl FnOnce(u64) -> WorkerRequest,
    ) -> Result<WorkerResponse, CallError> {
        let kind = self.kind.name();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (writer, waiting, answer) = self.connection(id).await?;
        let request = make(id);
        let sent = write_frame(&mut *writer.lock().await, &request).await;
        if let Err(error) = sent {
            tracing::debug!(kind, %error, "a worker does not read any more");
        }
        match tokio::time::timeout(time_max, answer).await {
            Ok(Ok(Answer::Response(WorkerResponse::Failed {
                code, message, retryable, ..
            }))) => {
                let (code, message) = (code.to_string(), message.to_string());
                Err(CallError::Failed { code, message, retryable })
            }
            Ok(Ok(Answer::Response(response))) => Ok(response),
            Ok(Ok(Answer::Died(in_hand))) => Err(CallError::Died { kind, alone: in_hand <= 1 }),
            Ok(Err(_)) => Err(CallError::Died { kind, alone: false }),
            Err(_) => {
                waiting.lock().by_id.remove(&id);
                // A fetch that waits harms nobody; a refine that spins holds a core.
                if self.kind == WorkerKind::Refine {
                    self.kill().await;
                }
                Err(CallError::TimedOut { kind, seconds: time_max.as_secs() })
            }
        }
    }

    /// Ends the process, if one runs.
    pub async fn kill(&self) {
        let mut slot = self.live.lock().await;
        if let Some(mut live) = slot.live.take() {
            let _ = live.child.kill().await;
        }
    }

    /// The running process, or a new one, with a place for the answer to `id`.
    async fn connection(
        &self,
        id: u64,
    ) -> Result<(Arc<AsyncMutex<OwnedWriteHalf>>, Arc<Waiting>, oneshot::Receiver<Answer>), CallError>
    {
        let mut slot = self.live.lock().await;
        if let Some(live) = &mut slot.live {
            // One that died idle must not be held against the input that comes next.
            let is_running = matches!(live.child.try_wait(), Ok(None));
            if let Some(answer) = live.waiting.expect(id).filter(|_| is_running) {
                return Ok((Arc::clone(&live.writer), Arc::clone(&live.waiting), answer));
            }
            let started = live.started;
            slot.live = None;
            slot.back_off.died(started);
        }
        tokio::time::sleep(slot.back_off.wait()).await;
        let live = match self.start().await {
            Ok(live) => live,
            Err(error) => {
                slot.back_off.failed();
                return Err(error);
            }
        };
        let died = CallError::Died { kind: self.kind.name(), alone: false };
        let answer = live.waiting.expect(id).ok_or(died)?;
        let connection = (Arc::clone(&live.writer), Arc::clone(&live.waiting), answer);
        slot.live = Some(live);
        Ok(connection)
    }

    /// Starts a process and waits until it is ready.
    async fn start(&self) -> Result<Live, CallError> {
        let kind = self.kind.name();
        let failed = |reason: String| CallError::Start { kind, reason };
        let (child, socket) = spawn(&self.program, self.kind, self.time_max)
            .map_err(|error| failed(error.to_string()))?;
        let (mut reader, mut writer) = socket.into_split();
        if let Some(setup) = &self.setup {
            write_frame(&mut writer, &WorkerRequest::Setup(setup.clone()))
                .await
                .map_err(|error| failed(error.to_string()))?;
        }
        let ready = tokio::time::timeout(Duration::from_secs(20), read_frame(&mut reader)).await;
        match ready {
            Ok(Ok(Some(WorkerResponse::Ready))) => {}
            Ok(Ok(Some(WorkerResponse::Failed { message, .. }))) => {
                return Err(failed(message.to_string()));
            }
            Ok(Ok(_)) => return Err(failed("it ended at once".to_owned())),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("it was not ready within 20 s".to_owned())),
        }
        tracing::debug!(kind, pid = child.id(), "a worker is ready");
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(listen(kind, reader, Arc::clone(&waiting)));
        let writer = Arc::new(AsyncMutex::new(writer));
        Ok(Live { writer, waiting, started: Instant::now(), child })
    }
}

/// Hands answers to who waits for them until the process is gone.
async fn listen(kind: &'static str, mut reader: OwnedReadHalf, waiting: Arc<Waiting>) {
    loop {
        match read_frame::<WorkerResponse>(&mut reader).await {
            Ok(Some(response)) => waiting.answer(response),
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(kind, %error, "a worker speaks no more");
                break;
            }
        }
    }
    waiting.died();
}

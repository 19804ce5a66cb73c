//! The one task that owns the rules' machine.
//!
//! Commands arrive over a bounded queue. The task lets the machine handle as many as wait, makes
//! everything that came of them durable with one commit, and only then answers and tells
//! listeners. What the ledger refuses ends the coordinator: memory would be ahead of the disk.

mod restore;
mod store;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use openledger_ledger::{Ledger, LedgerError};
use openledger_rules::{ApplyError, Event, Logged, Refusal, Setup, State};
use openledger_wire::NodeId;
use openledger_wire::gossip::Holder;
use openledger_wire::link::LeasedTask;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::beacon::BeaconClient;
use crate::figures::Figures;
use crate::limits;

pub(crate) use task::leased_task;

/// Why the core did not start or ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The ledger failed.
    #[error("keep the log: {0}")]
    Ledger(#[from] LedgerError),
    /// The log in the ledger is not one of these rules.
    #[error("replay the log: {0}")]
    Replay(#[from] ApplyError),
    /// Nobody listens any more.
    #[error("ask the core: it has ended; see the log above for the reason and start again")]
    Ended,
}

/// What became of an event.
pub type Answer = Result<Accepted, Refusal>;

/// An event that was taken and is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// It was known already.
    pub known: bool,
}

/// Entries that are durable, with what is pushed because of them.
#[derive(Debug)]
pub struct Durable {
    /// The entries.
    pub logged: Vec<Logged>,
    /// New leases with their tasks, by node.
    pub leases: BTreeMap<NodeId, Vec<LeasedTask>>,
}

type Look = Box<dyn FnOnce(&State, &Figures) + Send>;

enum Command {
    Events(Vec<Event>, oneshot::Sender<Vec<Answer>>),
    Look(Look),
}

/// What the core needs.
pub struct CoreConfig {
    /// What the network starts from.
    pub setup: Setup,
    /// Where everything is kept.
    pub ledger: Arc<dyn Ledger>,
    /// Where public randomness comes from.
    pub beacons: BeaconClient,
    /// Where nodes fetch prompts: this coordinator's blobs, if it has any.
    pub holder: Option<Holder>,
    /// Ends the core.
    pub stop: CancellationToken,
}

/// Asks the core; clones ask the same one.
#[derive(Clone)]
pub struct Core {
    commands: mpsc::Sender<Command>,
    durable: broadcast::Sender<Arc<Durable>>,
}

impl Core {
    /// Replays the ledger's log, or begins one, and starts the task.
    ///
    /// # Errors
    /// The ledger's, or a log that the rules refuse.
    pub async fn start(
        config: CoreConfig,
    ) -> Result<(Self, JoinHandle<Result<(), CoreError>>), CoreError> {
        let (commands, queue) = mpsc::channel(limits::QUEUE_COMMANDS_MAX);
        let (durable, _) = broadcast::channel(limits::DURABLE_QUEUE);
        let task = restore::restore(config, durable.clone()).await?;
        let running = tokio::spawn(task.run(queue));
        Ok((Self { commands, durable }, running))
    }

    /// Lets the rules handle one event; answers once what came of it is durable.
    ///
    /// # Errors
    /// The rules' refusal; `later` when too much waits already.
    pub async fn submit(&self, event: Event) -> Answer {
        self.submit_all(vec![event]).await.pop().unwrap_or_else(|| Err(ended()))
    }

    /// The same for several, in order: one answer each.
    pub async fn submit_all(&self, events: Vec<Event>) -> Vec<Answer> {
        let count = events.len();
        let (reply, answer) = oneshot::channel();
        match self.commands.try_send(Command::Events(events, reply)) {
            Ok(()) => {
                let answers = answer.await.ok();
                answers.unwrap_or_else(|| (0..count).map(|_| Err(ended())).collect())
            }
            Err(mpsc::error::TrySendError::Full(_)) => (0..count).map(|_| Err(busy())).collect(),
            Err(mpsc::error::TrySendError::Closed(_)) => (0..count).map(|_| Err(ended())).collect(),
        }
    }

    /// Looks at the state as it is durable.
    ///
    /// # Errors
    /// When the core has ended.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, &Figures) -> T + Send + 'static,
    ) -> Result<T, CoreError> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |state, figures| {
            // Who asked may have gone.
            let _ = reply.send(look(state, figures));
        });
        self.commands.send(Command::Look(look)).await.map_err(|_| CoreError::Ended)?;
        answer.await.map_err(|_| CoreError::Ended)
    }

    /// What becomes durable from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Durable>> {
        self.durable.subscribe()
    }
}

fn busy() -> Refusal {
    Refusal {
        code: "busy",
        message: "take this in: too much waits already; send it again later".to_owned(),
        retry_after_ms: Some(limits::LATER_MS),
    }
}

fn ended() -> Refusal {
    Refusal {
        code: "stopping",
        message: "take this in: the coordinator is stopping; send it again later".to_owned(),
        retry_after_ms: Some(limits::LATER_MS.saturating_mul(4)),
    }
}

//! What all networks of a node share: its key, its workers and their limits, its blobs, its end.
//!
//! Whatever a network may use up is counted here, so that a node in two networks loads its machine
//! as one in a single network does. What a network promises and earns is in its
//! [`super::Enrolment`] alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use openledger_swarm::Blobs;
use openledger_wire::task::TaskKind;
use openledger_wire::{NodeKey, UnixMs};
use tokio::sync::{RwLock, Semaphore};
use tokio_util::sync::CancellationToken;

use super::lock;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::identity::Public;
use crate::limits;
use crate::routing::{CallCounts, Guests, Router};
use crate::serving::Models;
use crate::tasks::Refiners;

/// Work that may go on at the same time, by kind.
pub(crate) struct Slots {
    fetch: Semaphore,
    refine: Semaphore,
    infer: Semaphore,
}

impl Slots {
    /// As many as the owner allows.
    pub(crate) fn new(config: &Config) -> Self {
        let refine = Semaphore::new(config.parallel());
        let infer = Semaphore::new(limits::INFER_TASKS_MAX);
        Self { fetch: Semaphore::new(limits::FETCHES_MAX), refine, infer }
    }

    pub(crate) fn of(&self, kind: TaskKind) -> &Semaphore {
        match kind {
            TaskKind::Fetch => &self.fetch,
            TaskKind::Infer => &self.infer,
            _ => &self.refine,
        }
    }
}

/// What all networks of a node share.
pub(crate) struct Machine {
    pub(crate) public: Public,
    pub(crate) key: NodeKey,
    pub(crate) since: UnixMs,
    /// What the owner should know whatever the network.
    pub(crate) warnings: Vec<String>,
    /// Task kinds that the owner wants done whatever is here; see [`Machine::kinds`].
    pub(crate) wanted: BTreeSet<TaskKind>,
    /// The node's folder.
    pub(crate) data: DataDir,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) blob_folder: PathBuf,
    /// Why no work can be taken at the moment, when the disk is full.
    pub(crate) no_room: Mutex<Option<String>>,
    pub(crate) disk_bytes: AtomicU64,
    /// Blobs may take this much disk.
    pub(crate) disk_bytes_max: u64,
    pub(crate) refiners: Arc<Refiners>,
    /// Model files and the engine.
    pub(crate) models: Arc<Models>,
    /// Answers calls of peers.
    pub(crate) guests: Arc<Guests>,
    /// Finds servers for the owner's calls, once all networks are joined.
    pub(crate) router: OnceLock<Router>,
    pub(crate) slots: Slots,
    /// Leases of one network that may wait for a worker.
    pub(crate) waiting_max: usize,
    /// An input that kills workers runs alone, whichever network it came from.
    pub(crate) alone: RwLock<()>,
    /// Ends the whole node.
    pub(crate) stop: CancellationToken,
    pub(crate) fatal: Mutex<Option<String>>,
}

impl Machine {
    /// The task kinds offered at the moment, as codes, ascending: inference too while a base model
    /// is here, unless the owner turned it off.
    pub(crate) fn kinds(&self) -> Vec<u8> {
        let mut kinds: BTreeSet<u8> = self.wanted.iter().map(|kind| kind.code()).collect();
        if self.models.config.tasks && self.models.has_base() {
            kinds.insert(TaskKind::Infer.code());
        }
        kinds.into_iter().collect()
    }

    /// The same by name.
    pub(crate) fn kind_names(&self) -> Vec<&'static str> {
        self.kinds().into_iter().map(|code| TaskKind::from_code(code).name()).collect()
    }

    /// Ends the node, because something fails that it cannot go on without.
    pub(crate) fn fail(&self, reason: String) {
        tracing::error!("failed to {reason}");
        lock(&self.fatal).get_or_insert(reason);
        self.stop.cancel();
    }

    /// Calls since the start.
    pub(crate) fn calls(&self) -> CallCounts {
        self.guests.counted(self.router.get().map(Router::counts).unwrap_or_default())
    }

    /// Looks how much disk the blobs take.
    pub(crate) async fn measure_disk(&self) {
        let folder = self.blob_folder.clone();
        let bytes = tokio::task::spawn_blocking(move || folder_bytes(&folder)).await;
        self.disk_bytes.store(bytes.unwrap_or_default(), Ordering::Relaxed);
    }
}

/// Bytes of the files below a folder; what cannot be read counts nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(one).sum()
}

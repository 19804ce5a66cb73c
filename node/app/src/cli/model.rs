//! `openledger model …`: model files of this machine, and getting more.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::Session;
use super::args::ModelCommand;
use super::out::table;
use crate::control::{Client, ClientError, Fetching, ModelsView};
use crate::serving::hub::{ENDPOINT, ENDPOINT_VARIABLE, Hub, HubFile};
use crate::serving::transfer::megabytes;
use crate::serving::{AddOptions, Entry, EntryKind, Library, Progress, add};

/// How often the node is asked how far a fetch is.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// `openledger model …`.
pub(super) async fn model(session: &Session, command: ModelCommand) -> anyhow::Result<()> {
    let library = Library::open(session.data.join("models"));
    match command {
        ModelCommand::Add { file, name, base, in_place } => {
            let entry = add(&library, &file, &AddOptions { name, base, in_place })?;
            session.out.show(&entry, |entry| format!("{} is here: {}", entry.name, entry.blob))
        }
        ModelCommand::List => list(session, &library).await,
        ModelCommand::Remove { name } => {
            let entry = library.remove(&name)?;
            session.out.show(&entry, |entry| format!("{} is removed", entry.name))
        }
        ModelCommand::Fetch { name } => fetch(session, &name).await,
        ModelCommand::Download { source, sha256, name, base } => {
            let options = AddOptions { name, base, in_place: false };
            download(session, &library, &source, sha256.as_deref(), options).await
        }
    }
}

/// What is here, and what peers offer beside it if a node runs.
async fn list(session: &Session, library: &Library) -> anyhow::Result<()> {
    let view = match running(session).await? {
        Some(view) => view,
        None => ModelsView { models: library.entries(), ..ModelsView::default() },
    };
    session.out.show(&view, |view| {
        if view.models.is_empty() && view.offered.is_empty() {
            return "no models yet; `openledger model add FILE`, `openledger model download hf:OWNER/REPO/FILE`".to_owned();
        }
        let mut rows: Vec<Vec<String>> = view.models.iter().map(row).collect();
        rows.extend(view.offered.iter().map(|offered| {
            let (offer, count) = (&offered.offer, offered.nodes.len());
            let peers = if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") };
            let kind = match offer.kind {
                openledger_wire::gossip::OfferKind::Base => "base",
                openledger_wire::gossip::OfferKind::Adapter { .. } => "adapter",
            };
            let (name, size) = (offer.name.to_string(), megabytes(offer.bytes));
            vec![name, kind.to_owned(), size, offer.blob.short(), format!("at {peers}")]
        }));
        table(&rows)
    })
}

fn row(entry: &Entry) -> Vec<String> {
    let kind = match entry.kind {
        EntryKind::Base => "base",
        EntryKind::Adapter => "adapter",
    };
    let state = entry.problem.clone().unwrap_or_else(|| "here".to_owned());
    vec![entry.name.clone(), kind.to_owned(), megabytes(entry.bytes), entry.blob.short(), state]
}

async fn running(session: &Session) -> anyhow::Result<Option<ModelsView>> {
    let asked = async { Client::of(&session.data)?.get::<ModelsView>("models").await };
    match asked.await {
        Ok(view) => Ok(Some(view)),
        Err(ClientError::NotRunning(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Has the running node get a model from its peers, and shows how far it is.
async fn fetch(session: &Session, name: &str) -> anyhow::Result<()> {
    let client = Client::of(&session.data)?;
    let path = format!("models/fetch?name={}", plain(name)?);
    let begun: Fetching = client.post_of(&path, None).await?;
    let mut shown = Shown::new(session);
    loop {
        let view: ModelsView = client.get("models").await?;
        if let Some(entry) = view.models.iter().find(|entry| entry.blob == begun.blob) {
            shown.end();
            return session
                .out
                .show(entry, |entry| format!("{} is here, verified: {}", entry.name, entry.blob));
        }
        if let Some(problem) = view.failed.get(&begun.blob.to_string()) {
            shown.end();
            bail!("{problem}");
        }
        let coming = view.fetching.iter().find(|coming| coming.blob == Some(begun.blob));
        if let Some(progress) = coming {
            shown.show(progress);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A name as it may stand in an address: no name of a model needs more.
fn plain(name: &str) -> anyhow::Result<&str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    if name.is_empty() || !name.chars().all(fits) {
        bail!("find model {name:?}: name it by its id; `openledger model list` shows it");
    }
    Ok(name)
}

async fn download(
    session: &Session,
    library: &Library,
    source: &str,
    sha256: Option<&str>,
    options: AddOptions,
) -> anyhow::Result<()> {
    let file = HubFile::parse(source)?;
    let endpoint = std::env::var(ENDPOINT_VARIABLE).unwrap_or_else(|_| ENDPOINT.to_owned());
    let folder = session.data.make("models/downloads")?;
    let bytes_max = session.config()?.models.fetch_mib_max << 20;
    let shown = std::sync::Mutex::new(Shown::new(session));
    let progress = |progress: &Progress| {
        if let Ok(mut shown) = shown.lock() {
            shown.show(progress);
        }
    };
    let hub = Hub { endpoint: &endpoint, folder: &folder, bytes_max, progress: &progress };
    let got = hub.download(&file, sha256).await?;
    if file.name().ends_with(".safetensors") {
        // The adapter's configuration lies beside it there, too.
        beside(&hub, &file, &got.path).await;
    }
    if let Ok(mut shown) = shown.lock() {
        shown.end();
    }
    let name = options.name.clone().or_else(|| {
        let stem = Path::new(file.name()).file_stem()?.to_string_lossy().into_owned();
        let is_common = stem == "adapter_model";
        let own = if is_common { file.repository.rsplit('/').next()?.to_owned() } else { stem };
        Some(own)
    });
    let entry = add(library, &got.path, &AddOptions { name, ..options })?;
    if let Some(own) = got.path.parent() {
        std::fs::remove_dir_all(own).context("remove the finished download")?;
    }
    let value =
        json!({ "model": entry, "sha256": got.sha256, "sha256_compared": got.was_compared });
    session.out.show(&value, |_| {
        let compared =
            if got.was_compared { "as named" } else { "compare it with the publisher's" };
        format!(
            "{} is here: {} ({}, SHA-256 {}, {compared})",
            entry.name,
            entry.blob,
            megabytes(got.bytes),
            got.sha256
        )
    })
}

/// PEFT's configuration of an adapter; one that packs it into its file has none.
async fn beside(hub: &Hub<'_>, file: &HubFile, tensors: &Path) {
    let config = file.beside("adapter_config.json");
    if let Ok(got) = hub.download(&config, None).await {
        let _ = std::fs::rename(&got.path, tensors.with_file_name("adapter_config.json"));
        if let Some(own) = got.path.parent() {
            let _ = std::fs::remove_dir(own);
        }
    }
}

/// One line that is written over, on a terminal; notes now and then elsewhere.
struct Shown<'a> {
    session: &'a Session,
    is_terminal: bool,
    is_open: bool,
    last: Option<std::time::Instant>,
}

impl<'a> Shown<'a> {
    fn new(session: &'a Session) -> Self {
        Self { session, is_terminal: std::io::stderr().is_terminal(), is_open: false, last: None }
    }

    fn show(&mut self, progress: &Progress) {
        if self.is_terminal {
            // There is nowhere to report that standard error cannot be written to.
            let _ = write!(std::io::stderr(), "\r\x1b[K{progress}");
            self.is_open = true;
        } else if self.last.is_none_or(|last| last.elapsed() > crate::limits::PROGRESS_EVERY) {
            self.last = Some(std::time::Instant::now());
            self.session.out.note(&progress.to_string());
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = writeln!(std::io::stderr());
        }
    }
}

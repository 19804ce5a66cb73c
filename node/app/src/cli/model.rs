//! `openledger model …`: model files of this machine, and getting more.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openledger_wire::BlobId;
use serde_json::json;

use super::Session;
use super::args::ModelCommand;
use super::out::table;
use crate::control::{Client, ClientError, Fetching, ModelsView};
use crate::serving::hub::{ENDPOINT, ENDPOINT_VARIABLE, Hub, HubFile, HubRepo};
use crate::serving::transfer::megabytes;
use crate::serving::wishes::MergeWish;
use crate::serving::{
    AddOptions, Combined, Entry, EntryKind, Library, Progress, add, combinations, combine,
    forget_combination,
};

/// How often the node is asked how far a fetch is.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// `openledger model …`.
pub(super) async fn model(session: &Session, command: ModelCommand) -> anyhow::Result<()> {
    let library = Library::open(session.data.join("models"));
    match command {
        ModelCommand::Add { file, name, base, in_place } => {
            let entry = add(&library, &file, &AddOptions { name, base, in_place, source: None })?;
            session.out.show(&entry, |entry| format!("{} is here: {}", entry.name, entry.blob))
        }
        ModelCommand::Combine { name, adapters, base, strategy, density, majority_sign } => {
            let density_permille = (f64::from(density) * 1e3).round() as u16;
            let majority_sign_method = majority_sign;
            let merge = MergeWish { strategy, density_permille, majority_sign_method };
            let saved = combine(&library, &name, base.as_deref(), &adapters, merge)?;
            session.out.show(&saved, |saved| {
                let parts = parts(saved, &library.entries());
                format!("{} stands for {parts}; ask for it as a model", saved.name)
            })
        }
        ModelCommand::List => list(session, &library).await,
        ModelCommand::Remove { name } => {
            if forget_combination(&library, &name)? {
                let value = json!({ "removed": name });
                return session.out.show(&value, |_| format!("{name} is removed"));
            }
            let entry = library.remove(&name)?;
            session.out.show(&entry, |entry| format!("{} is removed", entry.name))
        }
        ModelCommand::Fetch { name } => fetch(session, &name).await,
        ModelCommand::Download { source, sha256, name, base } => {
            let options = AddOptions { name, base, ..AddOptions::default() };
            download(session, &library, &source, sha256.as_deref(), options).await
        }
    }
}

/// What is here, and what peers offer beside it if a node runs.
async fn list(session: &Session, library: &Library) -> anyhow::Result<()> {
    let view = match running(session).await? {
        Some(view) => view,
        None => ModelsView {
            models: library.entries(),
            combinations: combinations(library),
            ..ModelsView::default()
        },
    };
    session.out.show(&view, |view| {
        if view.models.is_empty() && view.offered.is_empty() && view.upstreams.is_empty() {
            return "no models yet; `openledger model add FILE`, `openledger model download hf:OWNER/REPO/FILE`".to_owned();
        }
        let mut rows: Vec<Vec<String>> =
            view.models.iter().map(|entry| row(entry, &view.models)).collect();
        rows.extend(view.combinations.iter().map(|one| {
            let is = format!("here: {}", parts(one, &view.models));
            vec![one.name.clone(), "combination".to_owned(), String::new(), String::new(), is]
        }));
        for server in &view.upstreams {
            let at = format!("at {}, fees only, no tasks", server.name);
            let base = |name: &String| {
                vec![name.clone(), "base".to_owned(), String::new(), "upstream".to_owned(), at.clone()]
            };
            rows.extend(server.models.iter().map(base));
            if server.adapters > 0 {
                let count = format!("({} adapters)", server.adapters);
                rows.push(vec![count, "adapters".to_owned(), String::new(), "upstream".to_owned(), at.clone()]);
            }
        }
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

/// What a combination is made of, in words.
fn parts(combined: &Combined, known: &[Entry]) -> String {
    let named = |blob: &BlobId| known.iter().find(|entry| entry.blob == *blob);
    let one = |(blob, permille): &(BlobId, u32)| {
        let name = named(blob)
            .map_or_else(|| format!("{} (missing)", blob.short()), |entry| entry.name.clone());
        format!("{name}:{}", f64::from(*permille) / 1e3)
    };
    let all: Vec<String> = combined.adapters.iter().map(one).collect();
    let base =
        named(&combined.base).map_or_else(|| combined.base.short(), |base| base.name.clone());
    let merge = &combined.merge;
    let how = if merge.makes_product() {
        format!(" by {} with density {}", merge.strategy, f64::from(merge.density_permille) / 1e3)
    } else {
        String::new()
    };
    format!("{} on {base}{how}", all.join(" + "))
}

fn row(entry: &Entry, all: &[Entry]) -> Vec<String> {
    let kind = match entry.kind {
        EntryKind::Base if entry.path.is_dir() => "base (folder)",
        EntryKind::Base => "base",
        EntryKind::Adapter => "adapter",
    };
    let mut state = entry.problem.clone().unwrap_or_else(|| "here".to_owned());
    let base = entry.base.and_then(|base| all.iter().find(|other| other.blob == base));
    if let Some(base) = base {
        state += &format!(", for {}", base.name);
    }
    if let Some(source) = &entry.source {
        state += &format!(", from {source}");
    }
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
    if let Some(repo) = HubRepo::parse(source) {
        let got = download_repo(&hub, library, &repo, sha256, options).await;
        if let Ok(mut shown) = shown.lock() {
            shown.end();
        }
        let (entry, sum) = got?;
        let value = json!({ "model": entry, "sha256": sum });
        return session.out.show(&value, |_| {
            let from = entry.source.as_deref().unwrap_or_default();
            format!("{} is here: {} (from {from}, SHA-256 {sum})", entry.name, entry.blob)
        });
    }
    let file = HubFile::parse(source)?;
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
    let source = Some(format!("hf:{}/{}@{}", file.repository, file.file, file.revision));
    let entry = add(library, &got.path, &AddOptions { name, source, ..options })?;
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

/// Downloads the adapter or the model of a repository, pinned to a commit; gives the SHA-256 of its
/// weights.
async fn download_repo(
    hub: &Hub<'_>,
    library: &Library,
    repo: &HubRepo,
    sha256: Option<&str>,
    options: AddOptions,
) -> anyhow::Result<(Entry, String)> {
    let files = hub.files(repo).await?;
    let got = hub.download_all(&files, sha256).await?;
    // In one folder once all are there.
    let together = hub.folder.join(format!("{}-{}", repo.name(), files.commit));
    let _ = std::fs::remove_dir_all(&together);
    std::fs::create_dir(&together).context("make a folder for the download")?;
    for (file, one) in files.files.iter().zip(&got) {
        std::fs::rename(&one.path, together.join(file.name())).context("place the download")?;
        if let Some(own) = one.path.parent() {
            let _ = std::fs::remove_dir(own);
        }
    }
    let name = options.name.clone().or_else(|| Some(repo.name().to_owned()));
    let source = Some(format!("hf:{}@{}", repo.repository, files.commit));
    let added = add(library, &together, &AddOptions { name, source, ..options });
    std::fs::remove_dir_all(&together).context("remove the finished download")?;
    let sum = got.last().map(|one| one.sha256.clone()).unwrap_or_default();
    Ok((added?, sum))
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

//! Model files from a hub on the web: Hugging Face, or what `HF_ENDPOINT` names.
//!
//! A download that was cut goes on where it stopped, in this run or the next. What arrived is
//! compared with the SHA-256 that the caller or the hub names before anything looks into it.

mod repo;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use openledger_wire::BlobId;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::transfer::{Progress, Transfer};
use crate::limits;

pub use repo::{HubFiles, HubRepo};

/// Where the hub is, if nothing else is said.
pub const ENDPOINT: &str = "https://huggingface.co";
/// The variable that names another, as the hub's own programs have it.
pub const ENDPOINT_VARIABLE: &str = "HF_ENDPOINT";

/// Why a file was not downloaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// The source is not written as one.
    #[error(
        "read {text:?}: write hf:OWNER/REPO/FILE or hf:OWNER/REPO, with @REVISION at its end if you want one"
    )]
    Source {
        /// The text.
        text: String,
    },
    /// The address of the hub is none.
    #[error(
        "use {ENDPOINT_VARIABLE} = {endpoint:?}: it is no web address; unset it for {ENDPOINT}"
    )]
    Endpoint {
        /// The address.
        endpoint: String,
    },
    /// The hub did not answer, or not to the end.
    #[error(
        "download {url}: {reason}; what came is kept, so start it again and it goes on from there"
    )]
    Web {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The hub refuses.
    #[error("download {url}: the hub answers {status}; {remedy}")]
    Refused {
        /// What was asked for.
        url: String,
        /// Its answer.
        status: u16,
        /// What to do.
        remedy: &'static str,
    },
    /// It is larger than this program takes.
    #[error(
        "download {url}: it has {bytes} bytes, at most {max} are taken; raise models.fetch_mib_max"
    )]
    TooLarge {
        /// What was asked for.
        url: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A repository of which nothing can be used.
    #[error("take {repository} over: {reason}")]
    Nothing {
        /// The repository.
        repository: String,
        /// What it lacks, or what to name.
        reason: String,
    },
    /// What arrived is not what was named.
    #[error(
        "check {url}: its SHA-256 is {found}, {wanted} was wanted; it was removed, download it again and compare the sum with the publisher's"
    )]
    Sum {
        /// What was asked for.
        url: String,
        /// Of what arrived.
        found: String,
        /// As named.
        wanted: String,
    },
    /// The disk.
    #[error("write {}: {source}; check the free space", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// A file at a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Owner and name of the repository.
    pub repository: String,
    /// The file in it.
    pub file: String,
    /// Branch, tag or commit.
    pub revision: String,
}

/// A file that was downloaded and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Where it lies.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// Whether that sum was compared with one that was known before.
    pub was_compared: bool,
}

impl HubFile {
    /// Reads `hf:OWNER/REPO/FILE[@REVISION]`.
    ///
    /// # Errors
    /// [`HubError::Source`].
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let wrong = || HubError::Source { text: text.chars().take(200).collect() };
        let rest = text.strip_prefix("hf:").ok_or_else(wrong)?;
        let (rest, revision) = rest.rsplit_once('@').unwrap_or((rest, "main"));
        let mut parts = rest.splitn(3, '/');
        let (Some(owner), Some(name), Some(file)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let all_plain = [owner, name].into_iter().chain(file.split('/')).all(is_plain);
        if !all_plain || !revision.split('/').all(is_plain) {
            return Err(wrong());
        }
        let (repository, file) = (format!("{owner}/{name}"), file.to_owned());
        Ok(Self { repository, file, revision: revision.to_owned() })
    }

    /// The file's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file)
    }

    /// The same for another file in the same folder of the repository.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        let file = match self.file.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{name}"),
            None => name.to_owned(),
        };
        Self { file, ..self.clone() }
    }

    fn url(&self, endpoint: &str) -> Result<Url, HubError> {
        let wrong = || HubError::Endpoint { endpoint: endpoint.to_owned() };
        let text = format!(
            "{}/{}/resolve/{}/{}",
            endpoint.trim_end_matches('/'),
            self.repository,
            self.revision,
            self.file
        );
        let url = Url::parse(&text).map_err(|_| wrong())?;
        if matches!(url.scheme(), "https" | "http") { Ok(url) } else { Err(wrong()) }
    }
}

/// Downloads of files from one hub into one folder.
pub struct Hub<'a> {
    /// Its address.
    pub endpoint: &'a str,
    /// Where files go, each in a folder of its own.
    pub folder: &'a Path,
    /// A file may have this many bytes.
    pub bytes_max: u64,
    /// Told from time to time how far it is.
    pub progress: &'a (dyn Fn(&Progress) + Send + Sync),
}

impl Hub<'_> {
    /// Downloads a file, or what is missing of it, and checks it.
    ///
    /// # Errors
    /// [`HubError`].
    pub async fn download(
        &self,
        file: &HubFile,
        sha256: Option<&str>,
    ) -> Result<Downloaded, HubError> {
        let url = file.url(self.endpoint)?;
        // Each revision of a file has a place of its own, so that parts of two never mix.
        let id = BlobId::of(url.as_str().as_bytes()).short();
        let folder = self.folder.join(id);
        fs::create_dir_all(&folder).await.map_err(|source| disk(&folder, source))?;
        let (path, part) = (folder.join(file.name()), folder.join("part"));
        let known = self.ask(&url).await;
        let wanted = sha256.map(str::to_ascii_lowercase).or(known.sha256);
        if !path.is_file() {
            self.fetch_all(&url, file, &part, known.bytes).await?;
            fs::rename(&part, &path).await.map_err(|source| disk(&path, source))?;
        }
        let (found, bytes) = sum(&path).await?;
        match wanted {
            Some(wanted) if wanted != found => {
                let _ = fs::remove_dir_all(&folder).await;
                Err(HubError::Sum { url: url.to_string(), found, wanted })
            }
            wanted => {
                let was_compared = wanted.is_some();
                Ok(Downloaded { path, bytes, sha256: found, was_compared })
            }
        }
    }

    /// What the hub says of a file before it is sent on to where the bytes are. Best effort.
    async fn ask(&self, url: &Url) -> Known {
        let Ok(client) = client(Policy::none()) else { return Known::default() };
        let head = client.head(url.clone()).header(ACCEPT_ENCODING, "identity").send();
        match head.await {
            Ok(answer) => Known::of(answer.headers()),
            Err(_) => Known::default(),
        }
    }

    /// Tries until all is here; each try goes on from what the one before left.
    async fn fetch_all(
        &self,
        url: &Url,
        file: &HubFile,
        part: &Path,
        total: Option<u64>,
    ) -> Result<(), HubError> {
        let client = client(Policy::limited(5)).map_err(|error| web(url, &error))?;
        let transfer = Transfer::new(file.name(), None, total.unwrap_or(0));
        let mut failures = 0;
        loop {
            let before = length(part).await;
            match self.fetch(&client, url, part, &transfer).await {
                Ok(()) => return Ok(()),
                Err(error @ HubError::Web { .. }) => {
                    // A line that breaks often but brings something gets there.
                    failures = if length(part).await > before { 1 } else { failures + 1 };
                    if failures >= limits::HUB_TRIES_MAX {
                        return Err(error);
                    }
                    tracing::info!("failed to {error}; going on");
                    tokio::time::sleep(limits::HUB_WAIT.saturating_mul(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One request for what is missing.
    async fn fetch(
        &self,
        client: &Client,
        url: &Url,
        part: &Path,
        transfer: &Transfer,
    ) -> Result<(), HubError> {
        let before = length(part).await;
        let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if before > 0 {
            request = request.header(RANGE, format!("bytes={before}-"));
        }
        let answer = request.send().await.map_err(|error| web(url, &error))?;
        let (from, total) = match answer.status() {
            StatusCode::OK => (0, answer.content_length()),
            StatusCode::PARTIAL_CONTENT => match range(answer.headers()) {
                Some((from, total)) if from == before => (from, Some(total)),
                _ => return Err(self.anew(url, part).await),
            },
            // Nothing is missing, or the file has become shorter.
            StatusCode::RANGE_NOT_SATISFIABLE => match whole(answer.headers()) {
                Some(total) if total == before => return Ok(()),
                _ => return Err(self.anew(url, part).await),
            },
            status => return Err(refused(url, status)),
        };
        let total = total.unwrap_or(0);
        if total > self.bytes_max {
            return Err(HubError::TooLarge {
                url: url.to_string(),
                bytes: total,
                max: self.bytes_max,
            });
        }
        transfer.resume(from, total);
        let here = self.write(answer, url, part, from, transfer).await?;
        if total > 0 && here < total {
            return Err(web(url, &format!("it ended after {here} of {total} bytes")));
        }
        (self.progress)(&transfer.progress());
        Ok(())
    }

    async fn write(
        &self,
        answer: Response,
        url: &Url,
        part: &Path,
        from: u64,
        transfer: &Transfer,
    ) -> Result<u64, HubError> {
        let failed = |source| disk(part, source);
        let mut options = OpenOptions::new();
        let options =
            if from == 0 { options.truncate(true).write(true) } else { options.append(true) };
        let mut file = options.create(true).open(part).await.map_err(failed)?;
        let mut here = from;
        let mut pieces = answer.bytes_stream();
        let ended = loop {
            let Ok(piece) = tokio::time::timeout(limits::HUB_STALL, pieces.next()).await else {
                break Err(web(url, &"nothing came any more"));
            };
            match piece {
                None => break Ok(here),
                Some(Err(error)) => break Err(web(url, &error)),
                Some(Ok(bytes)) => {
                    here = here.saturating_add(bytes.len() as u64);
                    if here > self.bytes_max {
                        let (url, max) = (url.to_string(), self.bytes_max);
                        break Err(HubError::TooLarge { url, bytes: here, max });
                    }
                    file.write_all(&bytes).await.map_err(failed)?;
                    if transfer.reached(here) {
                        (self.progress)(&transfer.progress());
                    }
                }
            }
        };
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        ended
    }

    /// Drops what does not fit what the hub has now.
    async fn anew(&self, url: &Url, part: &Path) -> HubError {
        let _ = fs::remove_file(part).await;
        web(url, &"the hub has another file there now")
    }
}

/// Whether a part of an address has only what parts of names have.
fn is_plain(part: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
}

/// What the hub says of a file.
#[derive(Debug, Default)]
struct Known {
    bytes: Option<u64>,
    sha256: Option<String>,
}

impl Known {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let sum = text("x-linked-etag").map(|etag| etag.trim_matches('"').to_ascii_lowercase());
        let is_sum =
            |sum: &String| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes = text("x-linked-size").and_then(|size| size.parse().ok());
        Self { bytes, sha256: sum.filter(is_sum) }
    }
}

fn client(redirects: Policy) -> reqwest::Result<Client> {
    Client::builder()
        .redirect(redirects)
        .connect_timeout(Duration::from_secs(20))
        .user_agent(concat!("openledger/", env!("CARGO_PKG_VERSION")))
        .build()
}

fn web(url: &Url, reason: &dyn std::fmt::Display) -> HubError {
    HubError::Web { url: url.to_string(), reason: reason.to_string() }
}

fn disk(path: &Path, source: io::Error) -> HubError {
    HubError::Disk { path: path.to_owned(), source }
}

fn refused(url: &Url, status: StatusCode) -> HubError {
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return web(url, &format!("the hub answers {status}"));
    }
    let remedy = match status {
        StatusCode::NOT_FOUND => "check owner, repository, file and revision",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the repository is private or wants its terms accepted; download the file in a browser and use `openledger model add FILE`"
        }
        _ => "try again later",
    };
    HubError::Refused { url: url.to_string(), status: status.as_u16(), remedy }
}

/// `bytes FROM-TO/TOTAL`.
fn range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (span, total) = text.split_once('/')?;
    let (from, _) = span.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()?))
}

/// `bytes */TOTAL`.
fn whole(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?.parse().ok()
}

async fn length(path: &Path) -> u64 {
    fs::metadata(path).await.map_or(0, |data| data.len())
}

/// SHA-256 in hex, and the length.
async fn sum(path: &Path) -> Result<(String, u64), HubError> {
    let failed = |source| disk(path, source);
    let mut file = File::open(path).await.map_err(failed)?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0u64);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).await.map_err(failed)?;
        if read == 0 {
            return Ok((hex::encode(hasher.finalize()), bytes));
        }
        bytes = bytes.saturating_add(read as u64);
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_wrong_ones_refused() {
        let file = HubFile::parse("hf:Owner/repo-1/sub/model.Q4.gguf@v1.0").unwrap();
        assert_eq!(file.repository, "Owner/repo-1");
        assert_eq!((file.name(), file.revision.as_str()), ("model.Q4.gguf", "v1.0"));
        let url = file.url("https://hub.test/").unwrap();
        assert_eq!(url.as_str(), "https://hub.test/Owner/repo-1/resolve/v1.0/sub/model.Q4.gguf");
        assert_eq!(file.beside("x.json").file, "sub/x.json");
        assert_eq!(HubFile::parse("hf:o/r/f").unwrap().revision, "main");
        for wrong in ["o/r/f", "hf:o/r", "hf:o/../f", "hf:o/r/", "hf:o/r/f@", "hf:o/r/a b"] {
            let error = HubFile::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("OWNER/REPO/FILE"), "{wrong}: {error}");
        }
        let error = file.url("ftp://x").unwrap_err().to_string();
        assert!(error.contains(ENDPOINT_VARIABLE), "{error}");
    }
}

//! Whole repositories of a hub: an adapter of two files, or a model of several.
//!
//! A branch or tag is pinned to its commit before anything is downloaded, so that files of two
//! versions never mix, and what was taken can be named afterwards.

use futures::StreamExt as _;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::{Downloaded, Hub, HubError, HubFile, client, is_plain, refused, web};
use crate::limits;

/// PEFT's names for the two files of an adapter, and what older versions wrote.
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
const PICKLE: &str = "adapter_model.bin";
/// What a model of Hugging Face's form has beside its weights, as far as it is read.
const BESIDE: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// A repository at a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRepo {
    /// Owner and name.
    pub repository: String,
    /// Branch, tag or commit.
    pub revision: String,
}

/// A repository's files at one commit, as far as they make an adapter or a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFiles {
    /// The commit.
    pub commit: String,
    /// What to download, the weights last.
    pub files: Vec<HubFile>,
}

#[derive(Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl HubRepo {
    /// Reads `hf:OWNER/REPO[@REVISION]`; nothing for what names a file as well.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("hf:")?;
        let (repository, revision) = rest.rsplit_once('@').unwrap_or((rest, "main"));
        let (owner, name) = repository.split_once('/')?;
        let all_plain = [owner, name].into_iter().chain(revision.split('/')).all(is_plain);
        all_plain.then(|| Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }

    /// The repository's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    fn url(&self, endpoint: &str) -> Result<Url, HubError> {
        let wrong = || HubError::Endpoint { endpoint: endpoint.to_owned() };
        let (at, revision) = (endpoint.trim_end_matches('/'), self.revision.replace('/', "%2F"));
        let text = format!("{at}/api/models/{}/revision/{revision}", self.repository);
        let url = Url::parse(&text).map_err(|_| wrong())?;
        if matches!(url.scheme(), "https" | "http") { Ok(url) } else { Err(wrong()) }
    }
}

impl Hub<'_> {
    /// Which files of a repository make an adapter, or else a model, at the commit that its
    /// revision means now.
    ///
    /// # Errors
    /// [`HubError`], also for a repository that has neither.
    pub async fn files(&self, repo: &HubRepo) -> Result<HubFiles, HubError> {
        let url = repo.url(self.endpoint)?;
        let listing = listing(&url).await?;
        let is_commit =
            listing.sha.len() >= 40 && listing.sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_commit {
            return Err(web(&url, &"the hub names no commit"));
        }
        let names: Vec<String> = listing.siblings.into_iter().map(|one| one.rfilename).collect();
        let names = wanted(&names)
            .map_err(|reason| HubError::Nothing { repository: repo.repository.clone(), reason })?;
        let file = |file: String| HubFile {
            repository: repo.repository.clone(),
            file,
            revision: listing.sha.clone(),
        };
        Ok(HubFiles { files: names.into_iter().map(file).collect(), commit: listing.sha.clone() })
    }

    /// Downloads files of one commit; `sha256` is of the last of them.
    ///
    /// # Errors
    /// [`HubError`]; what came is kept for the next try.
    pub async fn download_all(
        &self,
        files: &HubFiles,
        sha256: Option<&str>,
    ) -> Result<Vec<Downloaded>, HubError> {
        let mut got = Vec::with_capacity(files.files.len());
        for (at, file) in files.files.iter().enumerate() {
            let is_last = at + 1 == files.files.len();
            got.push(self.download(file, sha256.filter(|_| is_last)).await?);
        }
        Ok(got)
    }
}

/// Those of a repository's files that make an adapter, or else a model; the weights last.
fn wanted(names: &[String]) -> Result<Vec<String>, String> {
    let has = |name: &str| names.iter().any(|one| one == name);
    if ADAPTER.iter().all(|name| has(name)) {
        return Ok(ADAPTER.map(str::to_owned).to_vec());
    }
    if has(PICKLE) {
        return Err(format!(
            "{PICKLE} is a pickle, which can run anything; ask its owner for safetensors"
        ));
    }
    let is_weights = |name: &&String| {
        is_plain(name) && name.starts_with("model") && name.ends_with(".safetensors")
    };
    let weights: Vec<String> = names.iter().filter(is_weights).cloned().collect();
    if has("config.json") && has("tokenizer.json") && !weights.is_empty() {
        if weights.len() > limits::HUB_FILES_MAX {
            return Err(format!("it has {} files with weights", weights.len()));
        }
        let beside = BESIDE.iter().filter(|name| has(name)).map(|&name| name.to_owned());
        return Ok(beside.chain(weights).collect());
    }
    let ggufs: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| name.ends_with(".gguf")).take(8).collect();
    Err(if ggufs.is_empty() {
        "it has neither an adapter in safetensors nor a model with its tokenizer".to_owned()
    } else {
        format!("name one of its files: hf:OWNER/REPO/FILE with {}", ggufs.join(", "))
    })
}

/// What the hub says of a repository, read up to a bound.
async fn listing(url: &Url) -> Result<Listing, HubError> {
    let client = client(Policy::limited(5)).map_err(|error| web(url, &error))?;
    let asked = client.get(url.clone()).timeout(limits::HUB_STALL).send().await;
    let answer = asked.map_err(|error| web(url, &error))?;
    if answer.status() != StatusCode::OK {
        return Err(refused(url, answer.status()));
    }
    let (mut bytes, mut pieces) = (Vec::new(), answer.bytes_stream());
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| web(url, &error))?);
        if bytes.len() > limits::HUB_LISTING_BYTES_MAX {
            return Err(web(url, &"its list of files is too long"));
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| web(url, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_files() {
        let repo = HubRepo::parse("hf:Owner/some-lora@v1").unwrap();
        assert_eq!((repo.name(), repo.revision.as_str()), ("some-lora", "v1"));
        let url = repo.url("https://hub.test/").unwrap();
        assert_eq!(url.as_str(), "https://hub.test/api/models/Owner/some-lora/revision/v1");
        for other in ["hf:o/r/file.gguf", "hf:o", "o/r", "hf:o/..", "hf:o/r@"] {
            assert_eq!(HubRepo::parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_repository_has_decides() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let adapter = names(&["README.md", ADAPTER[1], "config.json", ADAPTER[0]]);
        assert_eq!(wanted(&adapter).unwrap(), ADAPTER);
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let model = names(&["tokenizer.json", shards[0], "config.json", "x.bin", shards[1]]);
        let all = wanted(&model).unwrap();
        assert_eq!(all, ["config.json", "tokenizer.json", shards[0], shards[1]]);
        assert!(wanted(&names(&["a.gguf", "b.gguf"])).unwrap_err().contains("a.gguf, b.gguf"));
        assert!(wanted(&names(&[PICKLE])).unwrap_err().contains("pickle"));
        let outside = names(&["config.json", "tokenizer.json", "model/../../x.safetensors"]);
        assert!(wanted(&outside).is_err());
    }
}

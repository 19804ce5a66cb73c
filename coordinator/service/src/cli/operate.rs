//! `campaign add` and `status`: through the API of a running coordinator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use openledger_web::Token;
use serde_json::Value;

use super::{AddArgs, Where, print};
use crate::config::{Config, read_bounded};
use crate::http::CampaignRequest;
use crate::limits;

/// A coordinator's API.
struct Remote {
    base: String,
    token: Option<PathBuf>,
    http: reqwest::Client,
}

impl Remote {
    fn of(at: &Where) -> anyhow::Result<Self> {
        let config = at.config.as_deref().map(Config::load).transpose()?;
        let configured = config.as_ref().map(|config| format!("http://{}", config.http.address));
        let Some(base) = at.api.clone().or(configured) else {
            bail!("find the coordinator: give --config FILE or --api URL");
        };
        let token = at.token_file.clone().or(config.map(|config| config.http.operator_token));
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build();
        let http = http.context("set up the HTTP client")?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token, http })
    }

    fn bearer(&self) -> anyhow::Result<String> {
        let path = self.token.as_deref();
        let path = path.context("find the operator token: give --token-file or --config")?;
        let token = Token::new(read_bounded(path, 4_096)?.trim())?;
        Ok(token.reveal().to_owned())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let unreachable = || format!("reach the coordinator at {}; check that it runs", self.base);
        let response = request.send().await.with_context(unreachable)?;
        let status = response.status();
        let body: Value = response.json().await.with_context(unreachable)?;
        if status.is_success() {
            return Ok(body);
        }
        let word = |name: &str| body["error"][name].as_str().unwrap_or("unknown").to_owned();
        bail!("get a yes from the coordinator: {} ({})", word("message"), word("code"))
    }
}

pub(super) async fn status(at: Where) -> anyhow::Result<()> {
    let remote = Remote::of(&at)?;
    let url = format!("{}/api/v1/status", remote.base);
    let answer = remote.answer(remote.http.get(url)).await?;
    print(&answer, at.json)
}

pub(super) async fn add_campaign(args: AddArgs) -> anyhow::Result<()> {
    let remote = Remote::of(&args.at)?;
    let json = args.at.json;
    let request = match &args.file {
        Some(file) => read_campaign(file)?,
        None => campaign_of(args)?,
    };
    let url = format!("{}/api/v1/campaigns", remote.base);
    let post = remote.http.post(url).bearer_auth(remote.bearer()?).json(&request);
    print(&remote.answer(post).await?, json)
}

fn read_campaign(file: &Path) -> anyhow::Result<CampaignRequest> {
    let text = read_bounded(file, limits::CAMPAIGN_BYTES_MAX as u64)?;
    let failed = || format!("read the campaign {}", file.display());
    if file.extension().is_some_and(|end| end == "json") {
        serde_json::from_str(&text).with_context(failed)
    } else {
        toml::from_str(&text).with_context(failed)
    }
}

fn campaign_of(args: AddArgs) -> anyhow::Result<CampaignRequest> {
    let urls = args.urls.context("find the URLs: give --urls FILE")?;
    let text = read_bounded(&urls, limits::URLS_FILE_BYTES_MAX)?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(CampaignRequest {
        name: args.name.context("name the campaign: give --name")?,
        contact: args.contact.context("name a contact: give --contact")?,
        terms: args.terms,
        budget: args.budget.context("set a budget: give --budget")?,
        replicas: args.replicas,
        urls: lines.map(str::to_owned).collect(),
    })
}

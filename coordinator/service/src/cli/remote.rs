//! The API of a running coordinator, as commands ask it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openledger_web::Token;
use serde_json::Value;

use super::Where;
use crate::config::{Config, read_bounded};
use crate::limits;

/// A coordinator's API.
pub(super) struct Remote {
    base: String,
    token: Option<PathBuf>,
    http: reqwest::Client,
}

impl Remote {
    /// The one that the options name.
    pub(super) fn of(at: &Where) -> anyhow::Result<Self> {
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

    /// The address of a path of the API.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    /// Reads an address of the API.
    pub(super) async fn get(&self, url: &str) -> anyhow::Result<Value> {
        self.answer(self.http.get(url)).await
    }

    /// Sends to an address of the API, with the operator's token.
    pub(super) async fn post<T: serde::Serialize>(
        &self,
        url: &str,
        body: &T,
    ) -> anyhow::Result<Value> {
        self.answer(self.http.post(url).bearer_auth(self.bearer()?).json(body)).await
    }

    fn bearer(&self) -> anyhow::Result<String> {
        let path = self.token.as_deref();
        let path = path.context("find the operator token: give --token-file or --config")?;
        let token = Token::new(read_bounded(path, 4_096)?.trim())?;
        Ok(token.reveal().to_owned())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let unreachable = || format!("reach the coordinator at {}; check that it runs", self.base);
        let mut response = request.send().await.with_context(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.with_context(unreachable)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > limits::ANSWER_BYTES_MAX {
                bail!("read {}: more than {} bytes", response.url(), limits::ANSWER_BYTES_MAX);
            }
        }
        let body: Value = serde_json::from_slice(&bytes).with_context(unreachable)?;
        if status.is_success() {
            return Ok(body);
        }
        let word = |name: &str| body["error"][name].as_str().unwrap_or("unknown").to_owned();
        bail!("get a yes from the coordinator: {} ({})", word("message"), word("code"))
    }
}

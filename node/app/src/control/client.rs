//! The command line's side of the control API.

use openledger_wire::limits as wire_limits;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::server::ControlFile;
use crate::data_dir::{DataDir, DataDirError, read_bounded};
use crate::limits;

/// Why a running node could not be asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// None runs.
    #[error("reach the node: none runs with data folder {0}; start it with `openledger up`")]
    NotRunning(String),
    /// A file.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// The file is not what the node writes.
    #[error("read control.json: {0}; restart the node")]
    Malformed(#[from] serde_json::Error),
    /// It answered with an error.
    #[error("ask the node: {0}")]
    Refused(String),
    /// The answer is not understood.
    #[error("understand the node's answer: {0}; node and command line must be of one version")]
    Odd(String),
}

/// Asks the node of a data folder.
pub struct Client {
    http: reqwest::Client,
    control: ControlFile,
    folder: String,
}

impl Client {
    /// A client of the node that runs with this folder.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] where there is no `control.json`.
    pub fn of(data: &DataDir) -> Result<Self, ClientError> {
        let folder = data.path().display().to_string();
        let Some(bytes) = read_bounded(&data.control(), wire_limits::PROFILE_MAX as u64)? else {
            return Err(ClientError::NotRunning(folder));
        };
        let control = serde_json::from_slice(&bytes)?;
        let http = reqwest::Client::builder()
            .timeout(limits::CONTROL_TIME_MAX)
            .no_proxy()
            .build()
            .map_err(|error| ClientError::Odd(error.to_string()))?;
        Ok(Self { http, control, folder })
    }

    /// What `control.json` says.
    #[must_use]
    pub fn control(&self) -> &ControlFile {
        &self.control
    }

    /// Reads.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get_of(path, None).await
    }

    /// Reads what is about one network, or about all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_of<T: DeserializeOwned>(
        &self,
        path: &str,
        network: Option<&str>,
    ) -> Result<T, ClientError> {
        self.ask(Method::GET, path, network).await
    }

    /// Changes something in one network, or in all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_of<T: DeserializeOwned>(
        &self,
        path: &str,
        network: Option<&str>,
    ) -> Result<T, ClientError> {
        self.ask(Method::POST, path, network).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        network: Option<&str>,
    ) -> Result<T, ClientError> {
        let url = format!("{}/v1/{path}", self.control.url);
        let mut url = Url::parse(&url).map_err(|error| ClientError::Odd(error.to_string()))?;
        if let Some(network) = network {
            url.query_pairs_mut().append_pair("network", network);
        }
        let request = self.http.request(method, url).bearer_auth(&self.control.token);
        let response = request.send().await.map_err(|error| {
            // A file that was left by a killed node leads nowhere.
            if error.is_connect() {
                ClientError::NotRunning(self.folder.clone())
            } else {
                ClientError::Odd(error.without_url().to_string())
            }
        })?;
        let status = response.status();
        let odd = |error: reqwest::Error| ClientError::Odd(error.without_url().to_string());
        if response.content_length().is_some_and(|len| len > limits::CONTROL_BYTES_MAX as u64) {
            return Err(ClientError::Odd("it is too long".to_owned()));
        }
        let bytes = response.bytes().await.map_err(odd)?;
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&bytes).chars().take(400).collect();
            return Err(ClientError::Refused(text));
        }
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Odd(error.to_string()))
    }
}

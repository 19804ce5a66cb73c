//! The server's start and end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openledger_web::{ServeError, Token, TokenError, WebConfig, WebServer, require_token};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::routes;
use crate::data_dir::{DataDir, DataDirError, write_private};
use crate::node::Node;

/// Why the control API did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// It could not listen.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// The file's content does not encode.
    #[error("write control.json: {0}")]
    Encode(#[from] serde_json::Error),
}

/// What `control.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    /// Base URL.
    pub url: String,
    /// Bearer token.
    pub token: String,
    /// The node's process.
    pub pid: u32,
    /// The networks that it is in.
    pub networks: Vec<String>,
    /// Base URL of the API for applications, which takes the same token; none if it is off.
    #[serde(default)]
    pub api: Option<String>,
}

/// A running control API.
pub struct Control {
    server: WebServer,
    file: PathBuf,
    url: String,
    api: Option<String>,
}

impl Control {
    /// Serves on 127.0.0.1 behind `token` and writes `control.json`.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn start(
        node: &Arc<Node>,
        data: &DataDir,
        port: u16,
        token: Token,
        api: Option<String>,
    ) -> Result<Self, ControlError> {
        let routes = require_token(routes::routes(Arc::clone(node), data.log()), token.clone());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = WebServer::start(WebConfig::on(address), routes).await?;
        let content = ControlFile {
            url: server.url(),
            token: token.reveal().to_owned(),
            pid: std::process::id(),
            networks: node.networks(),
            api: api.clone(),
        };
        let file = data.control();
        write_private(&file, &serde_json::to_vec_pretty(&content)?)?;
        let url = server.url();
        Ok(Self { server, file, url, api })
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Base URL of the API for applications, if there is one.
    #[must_use]
    pub fn api(&self) -> Option<&str> {
        self.api.as_deref()
    }

    /// Where `control.json` lies.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Stops serving and removes `control.json`.
    pub async fn stop(self) {
        let _ = std::fs::remove_file(&self.file);
        self.server.shutdown().await;
    }
}

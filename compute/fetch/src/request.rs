//! What is asked for, and the request that goes over the wire for it.

use serde::{Deserialize, Serialize};

use crate::decode::ACCEPT_ENCODING;
use crate::page_url::PageUrl;

/// What a page is asked for as.
const ACCEPT: &str = "text/html,application/xhtml+xml,text/plain;q=0.9,*/*;q=0.5";

/// What to fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// The page's address.
    pub url: String,
    /// The campaign to name, if not the configured one.
    #[serde(default)]
    pub campaign: Option<String>,
    /// `ETag` of a copy at hand; a 304 then answers without a body.
    #[serde(default)]
    pub if_none_match: Option<String>,
    /// `Last-Modified` of a copy at hand.
    #[serde(default)]
    pub if_modified_since: Option<String>,
}

impl FetchRequest {
    /// An unconditional request.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

/// The fields of a request; `None` for robots.txt.
pub(crate) fn request_fields(
    agent: &str,
    page: Option<&FetchRequest>,
) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("user-agent", agent.to_owned()),
        (
            "accept",
            if page.is_some() { ACCEPT.to_owned() } else { "text/plain,*/*;q=0.5".to_owned() },
        ),
        ("accept-encoding", ACCEPT_ENCODING.to_owned()),
        ("connection", "close".to_owned()),
    ];
    if let Some(page) = page {
        fields.extend(page.if_none_match.clone().map(|tag| ("if-none-match", tag)));
        fields.extend(page.if_modified_since.clone().map(|date| ("if-modified-since", date)));
    }
    fields
}

/// The request head as it goes over the wire.
pub(crate) fn request_head(url: &PageUrl, fields: &[(&'static str, String)]) -> String {
    let host = if url.port_is_explicit() { url.host_port() } else { url.host().to_owned() };
    let mut head = format!("GET {} HTTP/1.1\r\n", url.path_and_query());
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("host: {host}\r\n\r\n"));
    head
}

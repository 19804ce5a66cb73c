//! What a fetch brought home.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::decode::ContentEncoding;
use crate::robots::RobotsVerdict;
use crate::signals::Signals;

/// One request of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The address asked for, in normal form.
    pub url: String,
    /// The status of its answer.
    pub status: u16,
    /// Where the connection went.
    pub address: SocketAddr,
}

/// Times of a fetch in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchTiming {
    /// Waiting for politeness, over all hops.
    pub queued_ms: u64,
    /// Last hop: from the start of the connection to the end of the response head.
    pub first_byte_ms: u64,
    /// Network time over all hops; robots.txt is not in it.
    pub network_ms: u64,
}

/// A page as fetched. Never cut: what exceeds a limit is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOutcome {
    /// The address as requested, untouched.
    pub requested_url: String,
    /// The address that answered, in normal form.
    pub final_url: String,
    /// All requests in order; the last is the one that answered.
    pub hops: Vec<Hop>,
    /// Status of the answer.
    pub status: u16,
    /// The reason phrase that belongs to the status.
    pub reason: String,
    /// The request as sent for the last hop, head only, for archiving.
    pub request_head: String,
    /// Response fields, names in lower case, bytes beyond ASCII as Latin-1;
    /// `set-cookie` is left out: it may identify the node, and nobody needs it.
    pub headers: Vec<(String, String)>,
    /// `Content-Type` as sent.
    pub content_type: Option<String>,
    /// The body, content coding undone.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
    /// The body's length as sent.
    pub wire_bytes: u64,
    /// The coding that was undone.
    pub encoding: ContentEncoding,
    /// Where the last connection went.
    pub address: SocketAddr,
    /// Why robots.txt allowed the page.
    pub robots: RobotsVerdict,
    /// What the response says about use by machines.
    pub signals: Signals,
    /// When the answer came, milliseconds since 1970 by this machine's clock.
    pub fetched_at_ms: u64,
    /// How long it took.
    pub timing: FetchTiming,
}

impl FetchOutcome {
    /// The first value of a response field; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

//! What can go wrong on the link, with what to do about it.

use std::net::SocketAddr;

use openledger_wire::{DecodeError, EncodeError, NodeId};
use thiserror::Error;

/// Why a link could not be opened or a request got no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The UDP socket could not be had.
    #[error("listen on {address}: {source}; choose another address or port, or stop what uses it")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// TLS could not be set up with this key.
    #[error("set up the link's keys: {reason}; restore the node key from its backup")]
    Keys {
        /// The library's words.
        reason: String,
    },
    /// The profile names no coordinator address.
    #[error(
        "reach the coordinator: no link address is known; check `coordinator.link` in the network profile"
    )]
    NoAddress,
    /// There is no connection at the moment.
    #[error("ask the coordinator: not connected; the link reconnects by itself, try again later")]
    NotConnected,
    /// The coordinator cannot be reached.
    #[error(
        "reach the coordinator at {address}: {reason}; check the network, the firewall (UDP), and that it runs"
    )]
    Unreachable {
        /// Where it should be.
        address: SocketAddr,
        /// The library's words.
        reason: String,
    },
    /// Somebody else answered.
    #[error(
        "trust the coordinator at {address}: its key is {found}, the network profile names {expected}; get the profile anew from a source you trust"
    )]
    WrongServerKey {
        /// Who answered where.
        address: SocketAddr,
        /// The key of the profile.
        expected: NodeId,
        /// The key that was shown.
        found: NodeId,
    },
    /// The coordinator does not accept this node.
    #[error("register with the coordinator: it refused ({code}): {message}")]
    HelloRefused {
        /// Stable code.
        code: String,
        /// The coordinator's words.
        message: String,
        /// Ask again after this many milliseconds; 0 if asking again is useless.
        retry_after_ms: u32,
    },
    /// Another process uses the same node key.
    #[error(
        "keep the link: another process connected with the same node key; run one copy of this node only"
    )]
    Replaced,
    /// The connection ended.
    #[error("keep the link: {reason}; the link reconnects by itself")]
    Closed {
        /// The library's words or the other side's.
        reason: String,
    },
    /// No answer in time.
    #[error(
        "wait for {what}: nothing after {ms} ms; the line or the coordinator is overloaded, try again later"
    )]
    TimedOut {
        /// What was awaited.
        what: &'static str,
        /// How long.
        ms: u64,
    },
    /// A message larger than the link carries.
    #[error("send {len} bytes: the link carries at most {max}; send fewer items at a time")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A value that has no encoding.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The other side sent something else than the protocol says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The answer does not fit the question.
    #[error(
        "understand the coordinator: it answered a {asked} with something else; update the older side"
    )]
    OddAnswer {
        /// What was asked.
        asked: &'static str,
    },
}

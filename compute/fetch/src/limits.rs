//! Every number that bounds a fetch, with its reason.
//!
//! All of them may be changed through [`FetchConfig`](crate::FetchConfig), for
//! tests and for owners of slow lines; none of them can be switched off.

use serde::{Deserialize, Serialize};

/// Bounds of one fetch. Sizes in bytes, times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchLimits {
    /// Resolving a name, and (separately) connecting with TLS. A live host
    /// answers in well under a second; 5 s forgives a poor home line.
    pub connect_ms_max: u64,
    /// From the connection to the end of the response head. Pages built on
    /// demand may take seconds; a head dripped byte by byte is cut here.
    pub first_byte_ms_max: u64,
    /// All network time of a fetch, over all its hops; waiting for politeness is
    /// not counted.
    pub total_ms_max: u64,
    /// Waiting for one's turn at a host. Past it the task goes back rather than
    /// holding a lease: two full crawl delays, and a margin.
    pub queue_ms_max: u64,
    /// Body as sent. Of 1,497 real pages the largest had 5.3 MB uncompressed.
    pub wire_bytes_max: u64,
    /// Body after decoding.
    pub decoded_bytes_max: u64,
    /// Decoded bytes per byte sent. HTML reaches 10 to 20; bombs 1,000 and more.
    pub ratio_max: u64,
    /// Decoded bytes to which `ratio_max` does not apply, because a short page of
    /// repeated markup may honestly compress very well.
    pub ratio_free_bytes: u64,
    /// Redirects followed for a page; browsers stop at 20, real chains at 3 or 4.
    pub redirects_max: u32,
    /// Redirects followed for robots.txt (RFC 9309 section 2.3.1.2: at least five).
    pub robots_redirects_max: u32,
    /// Parsed part of robots.txt (RFC 9309 section 2.5: at least 500 KiB).
    pub robots_bytes_max: u64,
    /// How long a robots.txt is believed (RFC 9309 section 2.4: at most 24 hours).
    pub robots_cache_ms_max: u64,
    /// How long an unreachable robots.txt keeps its host closed before it is
    /// asked again: short, so that a hiccup does not cost a day.
    pub robots_retry_ms: u64,
    /// Origins whose robots.txt is remembered: about 40 MB when all are large.
    pub robots_cache_entries_max: usize,
    /// Names and values of a response head together.
    pub header_bytes_max: usize,
    /// Fields of a response head.
    pub header_count_max: usize,
    /// Length of an address. Longer ones are attacks or session dumps.
    pub url_bytes_max: usize,
    /// Slowest body that is waited for, bytes per second.
    pub throughput_min: u64,
    /// Time a body may take before `throughput_min` applies.
    pub throughput_grace_ms: u64,
    /// Pause between two requests to one site, unless robots.txt asks for more.
    pub delay_ms_default: u64,
    /// Longest pause that robots.txt or Retry-After can ask for. A site that
    /// wants more is not worth a lease.
    pub delay_ms_max: u64,
    /// Sites whose last request is remembered; idle ones are forgotten first.
    pub sites_max: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            connect_ms_max: 5_000,
            first_byte_ms_max: 10_000,
            total_ms_max: 30_000,
            queue_ms_max: 150_000,
            wire_bytes_max: 10 << 20,
            decoded_bytes_max: 50 << 20,
            ratio_max: 100,
            ratio_free_bytes: 256 << 10,
            redirects_max: 8,
            robots_redirects_max: 5,
            robots_bytes_max: 500 << 10,
            robots_cache_ms_max: 24 * 3_600_000,
            robots_retry_ms: 300_000,
            robots_cache_entries_max: 1_024,
            header_bytes_max: 64 << 10,
            header_count_max: 256,
            url_bytes_max: 8 << 10,
            throughput_min: 1_024,
            throughput_grace_ms: 5_000,
            delay_ms_default: 1_000,
            delay_ms_max: 60_000,
            sites_max: 65_536,
        }
    }
}

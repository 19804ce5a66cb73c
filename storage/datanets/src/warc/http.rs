//! Pages as records: the HTTP messages inside blocks.
//!
//! A fetched body arrives without its transfer and content codings, so the
//! archived head must not claim them. As other crawlers do, the fields that would
//! lie are kept under an `X-Crawler-` name and the length is that of what follows.

use crate::warc::digest::PayloadDigests;
use crate::warc::record::{Record, RecordKind};

/// Fields that describe how the body travelled.
const TRAVEL_FIELDS: [&str; 3] = ["content-encoding", "transfer-encoding", "content-length"];

/// A page as fetched, ready to be archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageCapture {
    /// The address that answered.
    pub url: String,
    /// When it answered, milliseconds since 1970.
    pub fetched_at_ms: u64,
    /// The address connected to, without port.
    pub ip_address: String,
    /// The request head as sent.
    pub request_head: String,
    /// Status of the answer.
    pub status: u16,
    /// Its reason phrase.
    pub reason: String,
    /// Response fields in order.
    pub headers: Vec<(String, String)>,
    /// The body, codings undone.
    pub body: Vec<u8>,
    /// What else is known, as lines of a metadata record: task, redirects,
    /// robots verdict, reservations. Names and values without line breaks.
    pub metadata: Vec<(String, String)>,
}

impl PageCapture {
    /// Response, request and metadata records, in that order, tied together.
    pub fn records(&self) -> [Record; 3] {
        let target = Some(self.url.clone());
        let date_ms = self.fetched_at_ms;
        let block = response_block(self.status, &self.reason, &self.headers, &self.body);
        let digests = PayloadDigests::of(&self.body);
        let http = "application/http; msgtype=response";
        let response = Record::new(RecordKind::Response, date_ms, target.clone(), http, block)
            .with("WARC-IP-Address", self.ip_address.clone())
            .with("WARC-Payload-Digest", digests.sha1)
            .with("OpenLedger-Payload-Blake3", digests.blake3);
        let http = "application/http; msgtype=request";
        let block = self.request_head.clone().into_bytes();
        let request = Record::new(RecordKind::Request, date_ms, target.clone(), http, block)
            .with("WARC-Concurrent-To", response.id.as_str())
            .with("WARC-IP-Address", self.ip_address.clone());
        let fields = "application/warc-fields";
        let block = warc_fields(&self.metadata);
        let metadata = Record::new(RecordKind::Metadata, date_ms, target, fields, block)
            .with("WARC-Refers-To", response.id.as_str());
        [response, request, metadata]
    }
}

/// An HTTP/1.1 response as the block of a record.
pub fn response_block(
    status: u16,
    reason: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", one_line(reason));
    for (name, value) in headers {
        let travel = TRAVEL_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field));
        let prefix = if travel { "X-Crawler-" } else { "" };
        head.push_str(&format!("{prefix}{}: {}\r\n", one_line(name), one_line(value)));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

/// The part of an HTTP block after its head; `None` if the head does not end.
pub fn payload_of(block: &[u8]) -> Option<&[u8]> {
    let end = block.windows(4).position(|window| window == b"\r\n\r\n")?;
    block.get(end + 4..)
}

/// Lines of `application/warc-fields`.
pub(crate) fn warc_fields(fields: &[(String, String)]) -> Vec<u8> {
    let line = |(name, value): &(String, String)| {
        format!("{}: {}\r\n", one_line(name).replace(':', "-"), one_line(value))
    };
    fields.iter().map(line).collect::<String>().into_bytes()
}

/// Text without anything that could end a line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_does_not_claim_codings_that_were_undone() {
        let headers = [("Content-Encoding", "gzip"), ("content-length", "9"), ("etag", "\"v\"")];
        let headers = headers.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let block = response_block(200, "OK", &headers, b"body");
        let text = String::from_utf8(block.clone()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nX-Crawler-Content-Encoding: gzip\r\n"));
        assert!(text.contains("etag: \"v\"\r\ncontent-length: 4\r\n\r\nbody"), "{text}");
        assert_eq!(payload_of(&block), Some(&b"body"[..]));
        assert_eq!(payload_of(b"no end"), None);
    }

    #[test]
    fn a_strangers_header_cannot_end_the_head() {
        let headers = [("x".to_owned(), "a\r\n\r\n<script>".to_owned())];
        let block = response_block(200, "O\nK", &headers, b"body");
        assert_eq!(payload_of(&block), Some(&b"body"[..]));
    }
}

//! The WARC record that a node keeps of a page it fetched.
//!
//! Response and metadata, uncompressed, as one blob. The request as sent stays in the worker.

use openledger_datanets::warc::{PageCapture, WarcError};
use openledger_wire::UnixMs;
use openledger_wire::worker::FetchedPage;

/// The record of a page, in WARC 1.1.
///
/// # Errors
/// [`WarcError`] for fields that no record can hold.
pub fn warc_record(asked: &str, page: &FetchedPage, at: UnixMs) -> Result<Vec<u8>, WarcError> {
    let ip_address = page.address.parse::<std::net::SocketAddr>();
    let capture = PageCapture {
        url: page.final_url.to_string(),
        fetched_at_ms: at.0,
        ip_address: ip_address.map_or_else(|_| page.address.to_string(), |at| at.ip().to_string()),
        request_head: String::new(),
        status: page.status,
        reason: String::new(),
        headers: page.headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        body: page.body.to_vec(),
        metadata: vec![
            ("asked".to_owned(), asked.to_owned()),
            ("signals".to_owned(), page.signals.to_string()),
        ],
    };
    let [response, _request, metadata] = capture.records();
    let mut bytes = response.encode()?;
    bytes.extend(metadata.encode()?);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_datanets::warc::{RecordKind, WarcReader, payload_of};
    use openledger_wire::{Blob, List, Text};

    #[test]
    fn the_record_gives_the_page_back() {
        let page = FetchedPage {
            final_url: Text::clipped("http://docs.test/a"),
            status: 200,
            content_type: Text::clipped("text/html"),
            headers: List::new(vec![(Text::clipped("content-type"), Text::clipped("text/html"))])
                .unwrap(),
            signals: 0,
            address: Text::clipped("127.0.0.1:80"),
            body: Blob::new(b"<p>hello".to_vec()).unwrap(),
            fingerprint: Blob::default(),
        };
        let bytes = warc_record("http://docs.test/", &page, UnixMs(1_000)).unwrap();
        let mut reader = WarcReader::new(bytes.as_slice());
        let response = reader.next_record().unwrap().unwrap().record;
        assert_eq!(response.kind, RecordKind::Response);
        assert_eq!(payload_of(&response.block), Some(&page.body[..]));
        let metadata = reader.next_record().unwrap().unwrap().record;
        assert_eq!(metadata.kind, RecordKind::Metadata);
        assert!(reader.next_record().unwrap().is_none());
    }
}

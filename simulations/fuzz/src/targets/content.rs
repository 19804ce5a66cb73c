//! What comes from the web: pages, robots files, codings, addresses, header fields, archives.

use openledger_datanets::warc::{ReadLimits, WarcReader, parse_date_ms, payload_of};
use openledger_fetch::decode::{BodyDecoder, DecodeLimits};
use openledger_fetch::robots::RobotsState;
use openledger_fetch::{ContentEncoding, PageUrl, Signals};
use openledger_refine::{
    Agreement, Document, Fingerprint, Outcome, PROFILE_V1, Page, agree, refine,
};

use crate::limits::{DECODED_BYTES_MAX, RECORDS_MAX};

const PRODUCT: &str = "OpenLedgerBot";
const URL_BYTES_MAX: usize = 2_048;

/// The first line of an input is what stands beside the bytes: a media type, a coding.
fn first_line(bytes: &[u8]) -> (String, &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(at);
    (String::from_utf8_lossy(line).into_owned(), rest.get(1..).unwrap_or_default())
}

pub(super) fn page(bytes: &[u8]) {
    let (content_type, body) = first_line(bytes);
    let page = Page {
        url: "https://docs.example/manual/page.html".to_owned(),
        status: 200,
        content_type: (!content_type.is_empty()).then_some(content_type),
        body: body.to_vec(),
    };
    let outcome = refine(&page, &PROFILE_V1);
    let Ok(Outcome::Document(document)) = outcome else { return };
    let encoded = document.to_bytes().ok();
    let again = encoded.and_then(|bytes| Document::from_bytes(&bytes).ok());
    assert_eq!(again.as_ref(), Some(document.as_ref()), "a document does not read back");
    let twice = refine(&page, &PROFILE_V1);
    assert!(
        matches!(twice, Ok(Outcome::Document(second)) if second == document),
        "two documents of one page"
    );
}

pub(super) fn document(bytes: &[u8]) {
    if let Ok(document) = Document::from_bytes(bytes) {
        assert!(document.to_bytes().is_ok_and(|again| again == bytes), "a second encoding");
    }
}

pub(super) fn fingerprint(bytes: &[u8]) {
    if let Ok(fingerprint) = Fingerprint::from_bytes(bytes) {
        assert!(fingerprint.to_bytes().is_ok_and(|again| again == bytes), "a second encoding");
        assert_eq!(agree(&fingerprint, &fingerprint), Agreement::Agree, "differs from itself");
    }
}

pub(super) fn robots(bytes: &[u8]) {
    let state = RobotsState::from_answer(PRODUCT, 200, bytes);
    for url in
        ["https://docs.example/", "https://docs.example/a/b.html?q=1", "https://docs.example/%2F"]
    {
        let _ = state.verdict(url);
    }
    let _ = state.crawl_delay_ms();
    let _ = state.sitemaps();
}

pub(super) fn content_coding(bytes: &[u8]) {
    let (coding, body) = first_line(bytes);
    let Some(encoding) = ContentEncoding::from_header(&coding) else { return };
    let limits = DecodeLimits {
        wire_bytes_max: DECODED_BYTES_MAX,
        decoded_bytes_max: DECODED_BYTES_MAX,
        ratio_max: 100,
        ratio_free_bytes: 64 * 1024,
    };
    // In one piece and byte by byte must be the same.
    let whole = decoded(encoding, limits, body, body.len().max(1));
    let pieces = decoded(encoding, limits, body, 7);
    if let (Some(whole), Some(pieces)) = (&whole, &pieces) {
        assert_eq!(whole, pieces, "the pieces matter");
    }
    let length = whole.map_or(0, |body| body.len() as u64);
    assert!(length <= DECODED_BYTES_MAX, "{length} bytes came out");
}

fn decoded(
    encoding: ContentEncoding,
    limits: DecodeLimits,
    body: &[u8],
    piece: usize,
) -> Option<Vec<u8>> {
    let mut decoder = BodyDecoder::new(encoding, limits).ok()?;
    for received in body.chunks(piece) {
        decoder.push(received).ok()?;
    }
    decoder.finish().ok().map(|decoded| decoded.body)
}

/// An address, and behind a line break where it redirects to.
pub(super) fn page_url(bytes: &[u8]) {
    let (text, location) = first_line(bytes);
    let Ok(url) = PageUrl::parse(&text, URL_BYTES_MAX) else { return };
    let normal = url.as_str();
    let again = PageUrl::parse(normal, URL_BYTES_MAX);
    assert!(again.is_ok_and(|again| again.as_str() == normal), "{normal} is not normal");
    assert!(url.robots_txt().as_str().ends_with("/robots.txt"));
    let _ = (url.registrable_domain(), url.origin(), url.path_and_query(), url.check_port());
    if let Ok(location) = std::str::from_utf8(location) {
        let _ = url.join(location, URL_BYTES_MAX);
    }
}

/// Lines of `name: value`.
pub(super) fn signals(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let signals = Signals::from_headers(PRODUCT, fields);
    let _ = signals.reserved();
}

pub(super) fn warc(bytes: &[u8]) {
    let limits = ReadLimits {
        block_bytes_max: DECODED_BYTES_MAX,
        ratio_free_bytes: 64 * 1024,
        ..ReadLimits::default()
    };
    for stored in WarcReader::with_limits(bytes, limits).take(RECORDS_MAX) {
        let Ok(stored) = stored else { return };
        assert!(stored.offset + stored.length <= bytes.len() as u64, "a record past the end");
        assert!(stored.record.block.len() as u64 <= DECODED_BYTES_MAX, "a block over its limit");
        let _ = payload_of(&stored.record.block);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_date_ms(text);
    }
}

//! The writer against the reader, and the reader against everybody.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use openledger_datanets::warc::{
    PageCapture, ReadLimits, Record, RecordKind, Stored, WarcError, WarcOptions, WarcReader,
    WarcWriter, payload_of,
};
use proptest::prelude::*;

fn page(number: u64, body: Vec<u8>) -> PageCapture {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    PageCapture {
        url: format!("https://example.org/page?n={number}"),
        fetched_at_ms: 1_795_345_445_678 + number,
        ip_address: "93.184.215.14".into(),
        request_head: format!("GET /page?n={number} HTTP/1.1\r\nhost: example.org\r\n\r\n"),
        status: 200,
        reason: "OK".into(),
        headers: vec![pair("content-type", "text/html"), pair("content-encoding", "br")],
        body,
        metadata: vec![pair("task", "0123abcd"), pair("robots", "allowed-by-rules")],
    }
}

fn read_all(bytes: &[u8]) -> (Vec<Stored>, Option<WarcError>) {
    let mut records = Vec::new();
    for next in WarcReader::new(bytes) {
        match next {
            Ok(stored) => records.push(stored),
            Err(error) => return (records, Some(error)),
        }
    }
    (records, None)
}

/// One file with three pages: its bytes.
fn sample() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = WarcWriter::new(folder.path(), WarcOptions::new("crawl", 1_000)).unwrap();
    for number in 0..3 {
        writer.write_page(&page(number, format!("<p>page {number}</p>").into_bytes())).unwrap();
    }
    fs::read(&writer.finish().unwrap()[0]).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_was_written_is_read_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = WarcOptions::new("crawl", 1_000);
    options.info = vec![("operator".into(), "node 12D3\u{f6}".into())];
    let mut writer = WarcWriter::new(folder.path(), options).unwrap();
    let bodies =
        [b"<p>hello</p>".to_vec(), Vec::new(), vec![0, 13, 10, 13, 10, 255], vec![b'x'; 3 << 20]];
    let pages: Vec<_> = bodies.into_iter().enumerate().map(|(i, b)| page(i as u64, b)).collect();
    let archived: Vec<_> = pages.iter().map(|page| writer.write_page(page).unwrap()).collect();
    let files = writer.finish().unwrap();
    let bytes = fs::read(&files[0]).unwrap();
    let (records, error) = read_all(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(records.len(), 1 + 3 * pages.len());
    assert_eq!(records[0].record.kind, RecordKind::Warcinfo);
    assert_eq!(records[0].record.field("warc-filename"), Some("crawl-00000.warc.gz"));
    for (i, page) in pages.iter().enumerate() {
        let found = &records[1 + 3 * i..4 + 3 * i];
        let records: Vec<_> = found.iter().map(|stored| stored.record.clone()).collect();
        assert_eq!(records, page.records());
        assert_eq!(payload_of(&found[0].record.block), Some(page.body.as_slice()));
        assert_eq!(
            found[0].record.field("WARC-Payload-Digest"),
            Some(archived[i].digests.sha1.as_str())
        );
        // A reference opens its record alone.
        let at = &archived[i].response;
        assert_eq!((at.offset, at.length), (found[0].offset, found[0].length));
        let alone = &bytes[at.offset as usize..(at.offset + at.length) as usize];
        assert_eq!(read_all(alone).0[0].record, found[0].record);
    }
}

#[test]
fn the_same_pages_give_the_same_bytes() {
    assert_eq!(sample(), sample());
}

#[test]
fn files_rotate_by_size_and_never_replace_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = WarcOptions::new("crawl", 1_000);
    options.file_bytes_max = 4_000;
    let mut writer = WarcWriter::new(folder.path(), options.clone()).unwrap();
    for number in 0..20 {
        writer.write_page(&page(number, b"text".to_vec())).unwrap();
    }
    let files = writer.finish().unwrap();
    assert!(files.len() > 3);
    let mut responses = 0;
    for file in &files {
        assert!(fs::metadata(file).unwrap().len() <= 4_000);
        let (records, error) = read_all(&fs::read(file).unwrap());
        assert!(error.is_none());
        assert_eq!(records[0].record.kind, RecordKind::Warcinfo, "each file says what it is");
        responses += records.iter().filter(|s| s.record.kind == RecordKind::Response).count();
    }
    assert_eq!(responses, 20);
    let mut again = WarcWriter::new(folder.path(), options).unwrap();
    assert!(matches!(again.write_page(&page(0, vec![])), Err(WarcError::Io(_))));
    assert!(WarcWriter::new(folder.path(), WarcOptions::new("../x", 0)).is_err());
}

#[test]
fn a_cut_file_gives_the_earlier_records_and_names_the_cut() {
    let bytes = sample();
    let (whole, _) = read_all(&bytes);
    for cut in 1..bytes.len() {
        let (records, error) = read_all(&bytes[..cut]);
        assert_eq!(records, whole[..records.len()]);
        let boundary = whole.iter().any(|stored| stored.offset + stored.length == cut as u64);
        match error {
            None => assert!(boundary, "cut at {cut}"),
            Some(WarcError::Truncated { offset }) => {
                let last = records.last().map_or(0, |stored| stored.offset + stored.length);
                assert_eq!(offset, last);
            }
            Some(other) => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn the_reader_ends_after_an_error() {
    let bytes = sample();
    let mut reader = WarcReader::new(&bytes[..bytes.len() - 3]);
    while let Ok(Some(_)) = reader.next_record() {}
    assert!(matches!(reader.next_record(), Ok(None)));
}

#[test]
fn hostile_lengths_and_bombs_are_refused() {
    let head = |length: &str| {
        format!(
            "WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:x:1>\r\n\
             WARC-Date: 2026-11-22T11:00:00Z\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let error = |bytes: &[u8]| read_all(bytes).1.unwrap();
    assert!(matches!(
        error(head("99999999999").as_bytes()),
        WarcError::TooLarge { what: "a block", .. }
    ));
    assert!(matches!(error(head("60000000").as_bytes()), WarcError::Truncated { offset: 0 }));
    for length in ["-1", "+5", "5 5", "", "99999999999999999999999"] {
        assert!(matches!(error(head(length).as_bytes()), WarcError::Malformed { .. }), "{length}");
    }
    let endless = [b"WARC/1.1\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    assert!(matches!(error(&endless), WarcError::TooLarge { what: "a header", .. }));
    let many = format!("WARC/1.1\r\n{}\r\n", "a: b\r\n".repeat(2_000));
    assert!(matches!(error(many.as_bytes()), WarcError::Malformed { .. }));
    let bomb = [head("50000000").into_bytes(), vec![0; 50_000_000], b"\r\n\r\n".to_vec()].concat();
    assert!(matches!(error(&gzip(&bomb)), WarcError::Ratio { offset: 0, .. }));
    let trailing = [head("0").as_bytes(), b"\r\n\r\n", &vec![0; 3 << 20]].concat();
    assert!(matches!(error(&gzip(&trailing)), WarcError::Malformed { .. }));
    assert!(matches!(error(b"PK\x03\x04 zip"), WarcError::Malformed { .. }));
}

#[test]
fn damage_is_noticed_by_the_digests() {
    let record = page(1, b"the text".to_vec()).records()[0].clone();
    let plain = String::from_utf8(record.encode().unwrap()).unwrap();
    assert_eq!(read_all(plain.as_bytes()).0[0].record, record, "plain files are read too");
    let changed = plain.replace("the text", "the tEXt");
    let error = read_all(changed.as_bytes()).1.unwrap();
    assert!(
        matches!(error, WarcError::DigestMismatch { field: "WARC-Block-Digest", .. }),
        "{error}"
    );
    let forged = plain.replace("OpenLedger-Payload-Blake3: ", "OpenLedger-Payload-Blake3: 0");
    let error = read_all(forged.as_bytes()).1.unwrap();
    assert!(error.to_string().contains("Blake3"), "{error}");
}

#[test]
fn other_kinds_and_the_older_version_are_read() {
    let text = "WARC/1.0\r\nwarc-type: revisit\r\nWARC-Record-ID: <urn:uuid:1>\r\n\
                WARC-Date: 2014-01-06T03:03:33Z\r\nX-Odd:value\r\nContent-Length: 2\r\n\r\nhi\r\n\r\n";
    let (records, error) = read_all(text.as_bytes());
    assert!(error.is_none());
    assert_eq!(records[0].record.kind, RecordKind::Other("revisit".into()));
    assert_eq!(
        (records[0].record.field("x-odd"), records[0].length),
        (Some("value"), text.len() as u64)
    );
}

fn small_limits() -> ReadLimits {
    ReadLimits { header_bytes_max: 2_000, block_bytes_max: 10_000, ..ReadLimits::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_record_comes_back(block in prop::collection::vec(any::<u8>(), 0..3_000),
                             date in 0..253_402_300_800_000_u64,
                             note in "[!-~][ -~]{0,40}[!-~]") {
        let record = Record::new(RecordKind::Metadata, date, Some("http://a.org/".into()), "text/plain", block)
            .with("X-Note", note);
        let bytes = record.encode().unwrap();
        prop_assert_eq!(&read_all(&bytes).0[0].record, &record);
        prop_assert_eq!(&read_all(&gzip(&bytes)).0[0].record, &record);
    }

    #[test]
    fn arbitrary_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..4_000)) {
        for bytes in [bytes.clone(), gzip(&bytes), [b"WARC/1.1\r\n".to_vec(), bytes].concat()] {
            let records = WarcReader::with_limits(&bytes[..], small_limits()).take(10_000).count();
            prop_assert!(records < 10_000);
        }
    }

    #[test]
    fn damaged_files_end_in_an_answer(place in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut bytes = sample();
        let (whole, _) = read_all(&bytes);
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        let (records, _) = read_all(&bytes);
        // Whatever lies before the damage is untouched.
        let intact = whole.iter().filter(|s| s.offset + s.length <= place as u64).count();
        prop_assert_eq!(&records[..intact], &whole[..intact]);
    }
}

//! Reading, with everything bounded: a file may come from a stranger.
//!
//! Records are gzip members (or plain text) one after the other. Nothing is
//! reserved on the word of a length field, digests are verified, and after the
//! first error the reader ends: what it gave before is whole.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use crate::warc::digest::{PayloadDigests, sha1_base32};
use crate::warc::error::WarcError;
use crate::warc::http::payload_of;
use crate::warc::limits::{FIELDS_MAX, ReadLimits};
use crate::warc::record::{Record, RecordId, RecordKind};
use crate::warc::time::parse_date_ms;

/// A record and where it lay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// How many bytes of the file it takes.
    pub length: u64,
    /// The record; fields that the type names are not repeated in `fields`, and
    /// digests and lengths, having been checked, are left out.
    pub record: Record,
}

/// Reads the records of one file in order.
pub struct WarcReader<R> {
    input: Counted<BufReader<R>>,
    limits: ReadLimits,
    ended: bool,
}

impl<R: Read> WarcReader<R> {
    /// A reader with default bounds.
    pub fn new(input: R) -> Self {
        Self::with_limits(input, ReadLimits::default())
    }

    /// A reader with its own bounds.
    pub fn with_limits(input: R, limits: ReadLimits) -> Self {
        let input = Counted { inner: BufReader::new(input), taken: 0 };
        Self { input, limits, ended: false }
    }

    /// The next record, `None` at the end of the file. After an error, `None`.
    pub fn next_record(&mut self) -> Result<Option<Stored>, WarcError> {
        if self.ended {
            return Ok(None);
        }
        let next = self.read_record();
        self.ended = !matches!(next, Ok(Some(_)));
        next
    }

    fn read_record(&mut self) -> Result<Option<Stored>, WarcError> {
        let offset = self.input.taken;
        let first = match self.input.fill_buf()? {
            [] => return Ok(None),
            [first, ..] => *first,
        };
        let limits = self.limits;
        let record = if first == 0x1f {
            let mut member = Watched {
                inner: GzDecoder::new(&mut self.input),
                start: offset,
                unpacked: 0,
                limits,
                over: false,
            };
            let record = read_one(&mut member, offset, limits).and_then(|record| {
                let mut rest = [0];
                match member.read(&mut rest) {
                    Ok(0) => Ok(record),
                    Ok(_) => Err(malformed(offset, "more than one record in its gzip member")),
                    Err(e) => Err(read_error(&e, offset)),
                }
            });
            let over = member.over;
            record.map_err(|e| {
                if over { WarcError::Ratio { offset, ratio_max: limits.ratio_max } } else { e }
            })?
        } else {
            read_one(&mut self.input, offset, limits)?
        };
        verify(&record, offset)?;
        let length = self.input.taken - offset;
        let record = without_checked_fields(record);
        Ok(Some(Stored { offset, length, record }))
    }
}

impl<R: Read> Iterator for WarcReader<R> {
    type Item = Result<Stored, WarcError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

/// Counts what is taken from a buffered input.
struct Counted<R> {
    inner: R,
    taken: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

/// A gzip member whose growth is watched.
struct Watched<'a, R: BufRead> {
    inner: GzDecoder<&'a mut Counted<R>>,
    start: u64,
    unpacked: u64,
    limits: ReadLimits,
    over: bool,
}

impl<R: BufRead> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.unpacked += read as u64;
        let packed = self.inner.get_ref().taken - self.start;
        let honest = packed.saturating_mul(self.limits.ratio_max);
        if self.unpacked > self.limits.ratio_free_bytes && self.unpacked > honest {
            self.over = true;
            return Err(io::Error::other("grows like a bomb"));
        }
        Ok(read)
    }
}

/// One record from its version line to the two line ends after its block.
fn read_one(input: &mut dyn Read, offset: u64, limits: ReadLimits) -> Result<Record, WarcError> {
    let head = read_head(input, offset, limits.header_bytes_max)?;
    let (mut record, length) = parse_head(&head, offset)?;
    if length > limits.block_bytes_max {
        let limit = limits.block_bytes_max;
        return Err(WarcError::TooLarge { offset, what: "a block", limit });
    }
    // `take` grows the buffer by what really comes, not by what is announced.
    let read =
        input.take(length).read_to_end(&mut record.block).map_err(|e| read_error(&e, offset))?;
    if read as u64 != length {
        return Err(WarcError::Truncated { offset });
    }
    let mut end = [0; 4];
    input.read_exact(&mut end).map_err(|e| read_error(&e, offset))?;
    if &end != b"\r\n\r\n" {
        return Err(malformed(offset, "its block is not followed by two line ends"));
    }
    Ok(record)
}

/// Bytes up to and with the empty line.
fn read_head(input: &mut dyn Read, offset: u64, limit: u64) -> Result<Vec<u8>, WarcError> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() as u64 >= limit {
            return Err(WarcError::TooLarge { offset, what: "a header", limit });
        }
        input.read_exact(&mut byte).map_err(|e| read_error(&e, offset))?;
        head.extend_from_slice(&byte);
        if head.len() == 5 && &head != b"WARC/" {
            return Err(malformed(offset, "it does not start with WARC/"));
        }
    }
    Ok(head)
}

fn parse_head(head: &[u8], offset: u64) -> Result<(Record, u64), WarcError> {
    let text =
        std::str::from_utf8(head).map_err(|_| malformed(offset, "its header is not UTF-8"))?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let version = lines.next().unwrap_or_default();
    if !matches!(version, "WARC/1.0" | "WARC/1.1") {
        return Err(malformed(offset, "its version is neither WARC/1.0 nor WARC/1.1"));
    }
    let (mut kind, mut id, mut date, mut length) = (None, None, None, None);
    let mut record = Record {
        kind: RecordKind::Warcinfo,
        id: RecordId::found(""),
        date_ms: 0,
        target: None,
        content_type: None,
        fields: Vec::new(),
        block: Vec::new(),
    };
    for (number, line) in lines.enumerate() {
        let field = line.split_once(':').filter(|_| number < FIELDS_MAX);
        let Some((name, value)) = field else {
            return Err(malformed(offset, "it has a line that is no field, or too many fields"));
        };
        let value = value.trim();
        let repeated = match name.to_ascii_lowercase().as_str() {
            "warc-type" => kind.replace(RecordKind::from_name(value)).is_some(),
            "warc-record-id" => id.replace(RecordId::found(value)).is_some(),
            "warc-date" => date.replace(parse_date_ms(value)).is_some(),
            "content-length" => length.replace(parse_length(value)).is_some(),
            "warc-target-uri" => record.target.replace(value.to_owned()).is_some(),
            "content-type" => record.content_type.replace(value.to_owned()).is_some(),
            _ => {
                record.fields.push((name.to_owned(), value.to_owned()));
                false
            }
        };
        if repeated {
            return Err(malformed(offset, "it gives a field twice"));
        }
    }
    match (kind, id, date, length) {
        (Some(kind), Some(id), Some(Some(date_ms)), Some(Some(length))) => {
            Ok((Record { kind, id, date_ms, ..record }, length))
        }
        _ => Err(malformed(offset, "it lacks a valid type, id, date or length")),
    }
}

fn parse_length(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Compares the digests that a record carries, where their form is known.
fn verify(record: &Record, offset: u64) -> Result<(), WarcError> {
    let differs = |field: &str, found: &dyn Fn() -> String| {
        record.field(field).is_some_and(|said| said.starts_with("sha1:") && said != found())
    };
    if differs("WARC-Block-Digest", &|| sha1_base32(&record.block)) {
        return Err(WarcError::DigestMismatch { offset, field: "WARC-Block-Digest" });
    }
    if record.kind != RecordKind::Response {
        return Ok(());
    }
    let payload = payload_of(&record.block).unwrap_or_default();
    if let Some(said) = record.field("OpenLedger-Payload-Blake3")
        && said != PayloadDigests::of(payload).blake3
    {
        return Err(WarcError::DigestMismatch { offset, field: "OpenLedger-Payload-Blake3" });
    }
    // Other tools digest a chunked payload before or after decoding it, so their
    // payload digest is only held against records that carry ours as well.
    let ours = record.field("OpenLedger-Payload-Blake3").is_some();
    if ours && differs("WARC-Payload-Digest", &|| sha1_base32(payload)) {
        return Err(WarcError::DigestMismatch { offset, field: "WARC-Payload-Digest" });
    }
    Ok(())
}

/// The block digest follows from the block; without it, a record read is equal to
/// the one written.
fn without_checked_fields(mut record: Record) -> Record {
    record.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("WARC-Block-Digest"));
    record
}

fn malformed(offset: u64, problem: &str) -> WarcError {
    WarcError::Malformed { offset, problem: problem.to_owned() }
}

/// An early end and damaged packing are faults of the file, the rest of the disk.
fn read_error(error: &io::Error, offset: u64) -> WarcError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => WarcError::Truncated { offset },
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            malformed(offset, "its gzip member is damaged")
        }
        kind => WarcError::Io(io::Error::new(kind, error.to_string())),
    }
}

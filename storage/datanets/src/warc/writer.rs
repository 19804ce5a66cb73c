//! Writing: one gzip member per record, a new file when one is full.
//!
//! The bytes depend on what is written only: no clock, no host name, no random
//! ids. Files are not synced; whoever needs that syncs after [`WarcWriter::finish`].

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use crate::warc::digest::PayloadDigests;
use crate::warc::error::WarcError;
use crate::warc::http::{PageCapture, warc_fields};
use crate::warc::limits::{FILE_BYTES_MAX, ReadLimits};
use crate::warc::record::{Record, RecordKind};

/// How files are named, described and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarcOptions {
    /// Files are called `PREFIX-00000.warc.gz` and so on.
    pub prefix: String,
    /// A record that would grow a file beyond this starts a new one; a single
    /// larger record still fits into one file.
    pub file_bytes_max: u64,
    /// Time in the warcinfo record of each file, milliseconds since 1970.
    pub created_at_ms: u64,
    /// Further lines of the warcinfo record: `software`, `operator`, ...
    pub info: Vec<(String, String)>,
}

impl WarcOptions {
    /// Options with the usual file size.
    pub fn new(prefix: impl Into<String>, created_at_ms: u64) -> Self {
        let prefix = prefix.into();
        Self { prefix, file_bytes_max: FILE_BYTES_MAX, created_at_ms, info: Vec::new() }
    }
}

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct WarcRef {
    /// File name without folder.
    pub file: String,
    /// Offset of its gzip member.
    pub offset: u64,
    /// Length of its gzip member.
    pub length: u64,
}

/// Where a page lies, and what its body hashes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedPage {
    /// The response record.
    pub response: WarcRef,
    /// The request record.
    pub request: WarcRef,
    /// The metadata record.
    pub metadata: WarcRef,
    /// Digests of the body.
    pub digests: PayloadDigests,
}

struct Open {
    name: String,
    file: BufWriter<File>,
    bytes: u64,
}

/// Writes records into files of a folder.
pub struct WarcWriter {
    folder: PathBuf,
    options: WarcOptions,
    number: u32,
    open: Option<Open>,
    files: Vec<PathBuf>,
}

impl WarcWriter {
    /// A writer into an existing folder. Files are created with the first record
    /// that needs them, and never replace existing ones.
    pub fn new(folder: impl AsRef<Path>, options: WarcOptions) -> Result<Self, WarcError> {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let prefix = &options.prefix;
        if prefix.is_empty() || prefix.len() > 100 || !prefix.bytes().all(letter) {
            return Err(WarcError::BadRecord(format!(
                "file prefix \"{prefix}\" must have 1 to 100 letters, digits, - _ or ."
            )));
        }
        let folder = folder.as_ref().to_path_buf();
        Ok(Self { folder, options, number: 0, open: None, files: Vec::new() })
    }

    /// Writes one record.
    pub fn write(&mut self, record: &Record) -> Result<WarcRef, WarcError> {
        let member = pack(&record.encode()?)?;
        self.write_member(&member)
    }

    /// Writes a page as response, request and metadata records.
    pub fn write_page(&mut self, page: &PageCapture) -> Result<ArchivedPage, WarcError> {
        let [response, request, metadata] = page.records();
        // All three are packed before the first is written: a page that cannot be
        // archived leaves nothing behind.
        let packed =
            [pack(&response.encode()?)?, pack(&request.encode()?)?, pack(&metadata.encode()?)?];
        let [response, request, metadata] = &packed;
        Ok(ArchivedPage {
            response: self.write_member(response)?,
            request: self.write_member(request)?,
            metadata: self.write_member(metadata)?,
            digests: PayloadDigests::of(&page.body),
        })
    }

    /// Hands everything to the operating system and gives the files written.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, WarcError> {
        self.close()?;
        Ok(std::mem::take(&mut self.files))
    }

    fn write_member(&mut self, member: &[u8]) -> Result<WarcRef, WarcError> {
        let length = member.len() as u64;
        let full = |open: &Open| open.bytes.saturating_add(length) > self.options.file_bytes_max;
        if self.open.as_ref().is_some_and(full) {
            self.close()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start()?,
        };
        open.file.write_all(member)?;
        let written = WarcRef { file: open.name.clone(), offset: open.bytes, length };
        open.bytes += length;
        self.open = Some(open);
        Ok(written)
    }

    /// Starts the next file with its warcinfo record.
    fn start(&mut self) -> Result<Open, WarcError> {
        let name = format!("{}-{:05}.warc.gz", self.options.prefix, self.number);
        let path = self.folder.join(&name);
        let mut info = vec![
            ("software".to_owned(), format!("openledger-datanets/{}", env!("CARGO_PKG_VERSION"))),
            ("format".to_owned(), "WARC File Format 1.1".to_owned()),
        ];
        info.extend(self.options.info.iter().cloned());
        let block = warc_fields(&info);
        let (created, kind) = (self.options.created_at_ms, "application/warc-fields");
        let record = Record::new(RecordKind::Warcinfo, created, None, kind, block)
            .with("WARC-Filename", name.clone());
        let member = pack(&record.encode()?)?;
        let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).open(&path)?);
        file.write_all(&member)?;
        self.number += 1;
        self.files.push(path);
        Ok(Open { name, file, bytes: member.len() as u64 })
    }

    fn close(&mut self) -> Result<(), WarcError> {
        match self.open.take() {
            Some(mut open) => Ok(open.file.flush()?),
            None => Ok(()),
        }
    }
}

/// Packs a record as a gzip member without name or time. One that would unpack
/// like a bomb is stored instead, so that every careful reader takes it.
fn pack(bytes: &[u8]) -> Result<Vec<u8>, WarcError> {
    let limits = ReadLimits::default();
    let packed = member(bytes, Compression::default())?;
    let ratio_bound = (packed.len() as u64).saturating_mul(limits.ratio_max);
    if bytes.len() as u64 > limits.ratio_free_bytes.max(ratio_bound) {
        return member(bytes, Compression::none());
    }
    Ok(packed)
}

fn member(bytes: &[u8], level: Compression) -> Result<Vec<u8>, WarcError> {
    let mut encoder = GzBuilder::new().write(Vec::new(), level);
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

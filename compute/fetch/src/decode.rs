//! Content codings, undone piece by piece under a watch.
//!
//! A bomb is cut while it streams: the output is counted as it grows, against a
//! size limit and against the bytes received so far. Codings are gzip, deflate
//! (both forms in use), br and zstd (RFC 9110 section 8.4.1, 7932, 8878), one at a time.

use std::fmt;
use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Input is fed in pieces of this size, so that the ratio is judged often.
const PIECE_BYTES: usize = 16 << 10;

/// Largest zstd window: 8 MiB, the bound of RFC 9659 for content codings.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Working buffer of the brotli decoder.
const BROTLI_BUFFER_BYTES: usize = 16 << 10;

/// How a body was coded on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentEncoding {
    /// Not coded.
    Identity,
    /// RFC 1952.
    Gzip,
    /// zlib (RFC 1950), or raw deflate (RFC 1951) as some servers send it.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

/// What a request announces as accepted.
pub const ACCEPT_ENCODING: &str = "gzip, deflate, br, zstd";

impl ContentEncoding {
    /// Reads a `Content-Encoding` value; `None` if it names an unknown coding or
    /// more than one.
    pub fn from_header(value: &str) -> Option<Self> {
        let mut codings = value.split(',').map(str::trim).filter(|coding| !coding.is_empty());
        let encoding = match codings.next().map(str::to_ascii_lowercase).as_deref() {
            None | Some("identity") => Self::Identity,
            Some("gzip" | "x-gzip") => Self::Gzip,
            Some("deflate") => Self::Deflate,
            Some("br") => Self::Brotli,
            Some("zstd") => Self::Zstd,
            Some(_) => return None,
        };
        codings.next().is_none().then_some(encoding)
    }

    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for ContentEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bounds of a decoder, in bytes and bytes per byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Received bytes.
    pub wire_bytes_max: u64,
    /// Decoded bytes.
    pub decoded_bytes_max: u64,
    /// Decoded bytes per received byte.
    pub ratio_max: u64,
    /// Decoded bytes to which the ratio does not apply.
    pub ratio_free_bytes: u64,
}

/// Why a body cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More was received than allowed.
    #[error("more than {0} bytes were sent")]
    WireTooLarge(u64),
    /// More came out than allowed.
    #[error("more than {0} bytes came out")]
    DecodedTooLarge(u64),
    /// It grew like a bomb.
    #[error("it grew more than {0} times")]
    Ratio(u64),
    /// It is not what it is said to be, or ends early.
    #[error("the data are not valid ({0})")]
    Corrupt(String),
}

/// A decoded body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The bytes.
    pub body: Vec<u8>,
    /// How many bytes were received for them.
    pub wire_bytes: u64,
}

/// A decoder for one body.
pub struct BodyDecoder {
    coding: Coding,
    wire_bytes: u64,
    limits: DecodeLimits,
}

enum Coding {
    Identity(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    /// Deflate whose first byte, which tells zlib from raw, has not arrived.
    Undecided(Sink),
    Zlib(Box<ZlibDecoder<Sink>>),
    Raw(Box<DeflateDecoder<Sink>>),
    Brotli {
        decoder: Box<brotli::DecompressorWriter<Sink>>,
        started: bool,
    },
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
    Spent,
}

impl BodyDecoder {
    /// A decoder for `encoding`. Fails only if zstd cannot set itself up.
    pub fn new(encoding: ContentEncoding, limits: DecodeLimits) -> Result<Self, DecodeError> {
        let sink = Sink { out: Vec::new(), wire_bytes: 0, limits, over: None };
        let coding = match encoding {
            ContentEncoding::Identity => Coding::Identity(sink),
            ContentEncoding::Gzip => Coding::Gzip(Box::new(MultiGzDecoder::new(sink))),
            ContentEncoding::Deflate => Coding::Undecided(sink),
            ContentEncoding::Brotli => Coding::Brotli {
                decoder: Box::new(brotli::DecompressorWriter::new(sink, BROTLI_BUFFER_BYTES)),
                started: false,
            },
            ContentEncoding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(sink).map_err(corrupt)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
                Coding::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { coding, wire_bytes: 0, limits })
    }

    /// Takes the next received bytes.
    pub fn push(&mut self, received: &[u8]) -> Result<(), DecodeError> {
        for piece in received.chunks(PIECE_BYTES) {
            self.wire_bytes += piece.len() as u64;
            if self.wire_bytes > self.limits.wire_bytes_max {
                return Err(DecodeError::WireTooLarge(self.limits.wire_bytes_max));
            }
            self.decide(piece)?;
            let written = match &mut self.coding {
                Coding::Identity(sink) | Coding::Undecided(sink) => {
                    sink.take(self.wire_bytes, piece)
                }
                Coding::Gzip(d) => feed(d.as_mut(), |d| d.get_mut(), self.wire_bytes, piece),
                Coding::Zlib(d) => feed(d.as_mut(), |d| d.get_mut(), self.wire_bytes, piece),
                Coding::Raw(d) => feed(d.as_mut(), |d| d.get_mut(), self.wire_bytes, piece),
                Coding::Brotli { decoder, .. } => {
                    feed(decoder.as_mut(), |d| d.get_mut(), self.wire_bytes, piece)
                }
                Coding::Zstd(d) => feed(d.as_mut(), |d| d.get_mut(), self.wire_bytes, piece),
                Coding::Spent => Err(io::Error::other("the decoder is finished")),
            };
            written.map_err(|e| self.reason(&e))?;
        }
        Ok(())
    }

    /// Ends the body; an early end is an error.
    pub fn finish(mut self) -> Result<Decoded, DecodeError> {
        // No bytes at all is what a server sends for an empty page, coded or not.
        if self.wire_bytes == 0 {
            return Ok(Decoded { body: Vec::new(), wire_bytes: 0 });
        }
        let ended = match &mut self.coding {
            Coding::Gzip(d) => d.try_finish(),
            Coding::Zlib(d) => d.try_finish(),
            Coding::Raw(d) => d.try_finish(),
            Coding::Brotli { decoder, .. } => decoder.close(),
            Coding::Zstd(d) => d.do_finish(),
            Coding::Identity(_) | Coding::Undecided(_) | Coding::Spent => Ok(()),
        };
        ended.map_err(|e| self.reason(&e))?;
        let body = self.sink().map(|sink| std::mem::take(&mut sink.out)).unwrap_or_default();
        Ok(Decoded { body, wire_bytes: self.wire_bytes })
    }

    /// Bytes decoded so far.
    pub fn decoded_bytes(&mut self) -> usize {
        self.sink().map_or(0, |sink| sink.out.len())
    }

    /// Ends the body where it is: what was decoded so far.
    pub fn abandon(mut self) -> Vec<u8> {
        self.sink().map(|sink| std::mem::take(&mut sink.out)).unwrap_or_default()
    }

    /// Looks at the first byte where it decides about the format.
    fn decide(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        let Some(first) = piece.first().copied() else { return Ok(()) };
        if let Coding::Brotli { started, .. } = &mut self.coding {
            // The window size that announces "large window brotli", no part of
            // RFC 7932, would make the decoder reserve up to a gigabyte.
            if !*started && first & 0x7f == 0x11 {
                return Err(DecodeError::Corrupt("brotli window larger than 16 MiB".to_owned()));
            }
            *started = true;
        }
        if matches!(self.coding, Coding::Undecided(_))
            && let Coding::Undecided(sink) = std::mem::replace(&mut self.coding, Coding::Spent)
        {
            self.coding = if first & 0x0f == 8 {
                Coding::Zlib(Box::new(ZlibDecoder::new(sink)))
            } else {
                Coding::Raw(Box::new(DeflateDecoder::new(sink)))
            };
        }
        Ok(())
    }

    fn sink(&mut self) -> Option<&mut Sink> {
        match &mut self.coding {
            Coding::Identity(sink) | Coding::Undecided(sink) => Some(sink),
            Coding::Gzip(d) => Some(d.get_mut()),
            Coding::Zlib(d) => Some(d.get_mut()),
            Coding::Raw(d) => Some(d.get_mut()),
            Coding::Brotli { decoder, .. } => Some(decoder.get_mut()),
            Coding::Zstd(d) => Some(d.get_mut()),
            Coding::Spent => None,
        }
    }

    /// The reason behind a failed write: the watch's, if it was the watch.
    fn reason(&mut self, error: &io::Error) -> DecodeError {
        let over = self.sink().and_then(|sink| sink.over.clone());
        over.unwrap_or_else(|| DecodeError::Corrupt(error.to_string()))
    }
}

impl fmt::Debug for BodyDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyDecoder").field("wire_bytes", &self.wire_bytes).finish_non_exhaustive()
    }
}

fn corrupt(error: io::Error) -> DecodeError {
    DecodeError::Corrupt(error.to_string())
}

/// Tells the sink behind `decoder` how much was received, then decodes `piece`.
fn feed<D: Write>(
    decoder: &mut D,
    sink: impl Fn(&mut D) -> &mut Sink,
    wire_bytes: u64,
    piece: &[u8],
) -> io::Result<()> {
    sink(decoder).wire_bytes = wire_bytes;
    decoder.write_all(piece)
}

/// Collects output and watches its growth.
struct Sink {
    out: Vec<u8>,
    wire_bytes: u64,
    limits: DecodeLimits,
    over: Option<DecodeError>,
}

impl Sink {
    fn take(&mut self, wire_bytes: u64, piece: &[u8]) -> io::Result<()> {
        self.wire_bytes = wire_bytes;
        self.write_all(piece)
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let total = (self.out.len() + data.len()) as u64;
        let honest = self.wire_bytes.saturating_mul(self.limits.ratio_max);
        let over = if total > self.limits.decoded_bytes_max {
            Some(DecodeError::DecodedTooLarge(self.limits.decoded_bytes_max))
        } else if total > self.limits.ratio_free_bytes && total > honest {
            Some(DecodeError::Ratio(self.limits.ratio_max))
        } else {
            None
        };
        if let Some(over) = over {
            let error = io::Error::other(over.to_string());
            self.over = Some(over);
            return Err(error);
        }
        self.out.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ContentEncoding::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    const LIMITS: DecodeLimits = DecodeLimits {
        wire_bytes_max: 1 << 20,
        decoded_bytes_max: 4 << 20,
        ratio_max: 100,
        ratio_free_bytes: 64 << 10,
    };

    fn packed(encoding: ContentEncoding, data: &[u8]) -> Vec<u8> {
        match encoding {
            Identity => data.to_vec(),
            Gzip => {
                let mut e = GzEncoder::new(Vec::new(), Compression::default());
                e.write_all(data).unwrap();
                e.finish().unwrap()
            }
            Deflate => {
                let mut e = ZlibEncoder::new(Vec::new(), Compression::default());
                e.write_all(data).unwrap();
                e.finish().unwrap()
            }
            Brotli => {
                let mut e = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 20);
                e.write_all(data).unwrap();
                e.into_inner()
            }
            Zstd => zstd::encode_all(data, 3).unwrap(),
        }
    }

    fn unpack(encoding: ContentEncoding, wire: &[u8], step: usize) -> Result<Decoded, DecodeError> {
        let mut decoder = BodyDecoder::new(encoding, LIMITS)?;
        for piece in wire.chunks(step) {
            decoder.push(piece)?;
        }
        decoder.finish()
    }

    #[test]
    fn bombs_are_cut_in_every_coding() {
        let zeros = vec![0; 32 << 20];
        for encoding in [Gzip, Deflate, Brotli, Zstd] {
            let wire = packed(encoding, &zeros);
            assert!(wire.len() < 64 << 10);
            let error = unpack(encoding, &wire, 1_000).unwrap_err();
            assert!(matches!(error, DecodeError::Ratio(100)), "{encoding}: {error}");
        }
    }

    #[test]
    fn both_kinds_of_size_are_bounded() {
        let noise: Vec<u8> =
            (0..3_u32 << 19).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let error = unpack(Identity, &noise, 9_000).unwrap_err();
        assert_eq!(error, DecodeError::WireTooLarge(1 << 20));
        let text: Vec<u8> = noise.iter().flat_map(|b| [b'0' + b % 2; 16]).take(5 << 20).collect();
        let error = unpack(Zstd, &packed(Zstd, &text), 9_000).unwrap_err();
        assert_eq!(error, DecodeError::DecodedTooLarge(4 << 20));
    }

    #[test]
    fn an_early_end_is_an_error() {
        for encoding in [Gzip, Deflate, Brotli, Zstd] {
            let wire = packed(encoding, &b"some text that is long enough".repeat(20));
            let error = unpack(encoding, &wire[..wire.len() - 5], 7).unwrap_err();
            assert!(matches!(error, DecodeError::Corrupt(_)), "{encoding}");
            assert!(unpack(encoding, b"", 1).unwrap().body.is_empty());
        }
    }

    #[test]
    fn raw_deflate_and_oversized_windows_are_told_apart() {
        let mut e = DeflateEncoder::new(Vec::new(), Compression::default());
        e.write_all(b"raw deflate").unwrap();
        let wire = e.finish().unwrap();
        assert_eq!(unpack(Deflate, &wire, 1).unwrap().body, b"raw deflate");
        assert!(matches!(unpack(Brotli, &[0x11, 30, 0, 0], 4), Err(DecodeError::Corrupt(_))));
    }

    #[test]
    fn header_values() {
        assert_eq!(ContentEncoding::from_header(" GZip "), Some(Gzip));
        assert_eq!(ContentEncoding::from_header(""), Some(Identity));
        assert_eq!(ContentEncoding::from_header("gzip, br"), None);
        assert_eq!(ContentEncoding::from_header("compress"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_was_packed_comes_out(data in prop::collection::vec(any::<u8>(), 0..5_000), step in 1..999_usize) {
            for encoding in [Identity, Gzip, Deflate, Brotli, Zstd] {
                let wire = packed(encoding, &data);
                let out = unpack(encoding, &wire, step).unwrap();
                prop_assert_eq!(&out.body, &data);
                prop_assert_eq!(out.wire_bytes, wire.len() as u64);
            }
        }

        #[test]
        fn arbitrary_bytes_end_in_an_answer(data in prop::collection::vec(any::<u8>(), 0..3_000)) {
            for encoding in [Gzip, Deflate, Brotli, Zstd] {
                let _ = unpack(encoding, &data, 500);
            }
        }
    }
}

//! The first corpus: the golden vectors of the wire, small samples of what the web sends, and the
//! smallest model files.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use openledger_datanets::warc::{PageCapture, response_block};
use openledger_refine::{Fingerprint, Outcome, PROFILE_V1, Page, extract, refine};
use openledger_rules::Bundle;
use openledger_wire::log::Line;
use openledger_wire::proof::InferOutput;
use openledger_wire::{Blob, Epoch, encode};

use crate::corpus;
use crate::limits::SEED_BYTES_MAX;

pub mod models;

/// Seeds with the names of their targets.
pub type Seeds = Vec<(&'static str, Vec<u8>)>;

/// Writes all seeds into a corpus; gives how many there are.
pub fn write(tree: &Path, folder: &Path) -> Result<usize> {
    let mut seeds = golden(tree)?;
    seeds.extend(web(tree)?);
    seeds.extend(models::all()?);
    seeds.retain(|(_, bytes)| bytes.len() <= SEED_BYTES_MAX);
    for (target, bytes) in &seeds {
        corpus::store(folder, target, bytes)?;
    }
    Ok(seeds.len())
}

/// The targets that a message type feeds.
fn targets_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "Envelope" => &["envelope"],
        "Registration" => &["registration"],
        "Binding" => &["binding"],
        "Commit" => &["commit"],
        "Announcement" | "ProofAt" => &["announcement"],
        "Proof" => &["proof"],
        "ProofBody" | "FetchOutput" | "RefineOutput" | "InferOutput" | "ValidateOutput"
        | "TrainOutput" | "ServeOutput" => &["proof-body"],
        "Campaign" | "TaskSpec" | "FetchTask" | "RefineTask" | "InferTask" | "ValidateTask"
        | "TrainTask" | "ServeTask" => &["task"],
        "GossipedProof" => &["gossiped-proof"],
        "GossipedHead" => &["gossiped-head"],
        "Entry" => &["log-entry"],
        "LinkRequest" => &["link-request"],
        "LinkResponse" => &["link-response"],
        "LinkPush" => &["link-push"],
        "Path" => &["merkle-path"],
        "Prompt" | "CallRequest" | "CallResponse" => &["call"],
        "InferRequest" | "InferResponse" => &["infer-worker"],
        "WorkerRequest" => &["worker-request"],
        "WorkerResponse" => &["worker-response"],
        _ => &[],
    }
}

/// The envelopes feed the targets of what they carry, too.
fn targets_of_envelope(name: &str) -> &'static [&'static str] {
    match name.split(' ').next() {
        Some("registration") => &["registration"],
        Some("binding") => &["binding"],
        Some("commit") => &["commit"],
        Some("announcement") => &["announcement"],
        Some("proof") => &["proof"],
        _ => &[],
    }
}

fn golden(tree: &Path) -> Result<Seeds> {
    let path = tree.join("protocols/wire/vectors/golden.json");
    let text = std::fs::read_to_string(&path).context("read the golden vectors")?;
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    let (mut seeds, mut lines, mut entries) = (Seeds::new(), Vec::new(), Vec::new());
    let mut outputs: Vec<InferOutput> = Vec::new();
    for vector in &vectors {
        let field = |name: &str| vector.get(name).and_then(|value| value.as_str());
        let name = field("name").unwrap_or_default();
        match (name, field("is")) {
            ("devnet profile" | "public profile", Some(text)) => {
                seeds.push(("profile", text.as_bytes().to_vec()));
            }
            ("phrase of 32 zero bytes", Some(text)) => {
                seeds.push(("phrase", text.as_bytes().to_vec()));
            }
            _ => {}
        }
        let (Some(kind), Some(cbor)) = (field("type"), field("cbor")) else { continue };
        let cbor = hex::decode(cbor)?;
        let inside = if kind == "Envelope" { targets_of_envelope(name) } else { &[] };
        for target in targets_of(kind).iter().chain(inside) {
            seeds.push((*target, cbor.clone()));
        }
        match kind {
            "Line" => lines.push(openledger_wire::decode::<Line>(&cbor, cbor.len())?),
            "InferOutput" => outputs.push(openledger_wire::decode(&cbor, cbor.len())?),
            "Entry" => entries.push(Blob::new(cbor)?),
            _ => {}
        }
    }
    for (one, other) in outputs.iter().zip(outputs.iter().skip(1)) {
        seeds.push(("infer-relation", encode(&(one, other))?));
        if let (Some(one), Some(other)) = (&one.evidence, &other.evidence) {
            let effect = other.check.as_ref().map_or(&one.fingerprint, |check| &check.effect);
            let parts = [&one.fingerprint[..], &other.fingerprint[..], &effect[..]];
            seeds.push(("activation-fingerprints", parts.concat()));
        }
    }
    for line in &lines {
        seeds.push(("log-lines", encode(&[line])?));
    }
    for some in lines.chunks(4) {
        seeds.push(("log-lines", encode(&some)?));
    }
    for some in entries.chunks(3) {
        let bundle = Bundle { epoch: Epoch(1), entries: some.to_vec(), proofs: Vec::new() };
        seeds.push(("bundle", bundle.to_bytes()?));
    }
    Ok(seeds)
}

fn web(tree: &Path) -> Result<Seeds> {
    let mut seeds = texts();
    let mut pages = Vec::new();
    for name in ["article", "forum", "manual"] {
        let path = tree.join(format!("compute/refine/tests/fixtures/{name}.html"));
        pages.push(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    for (html, media) in pages.iter().zip(["text/html; charset=utf-8", "", "text/html"]) {
        let body = [media.as_bytes(), b"\n", html].concat();
        seeds.push(("page", body));
        let page = Page {
            url: "https://docs.example/manual/page.html".to_owned(),
            status: 200,
            content_type: Some("text/html; charset=utf-8".to_owned()),
            body: html.clone(),
        };
        let found = extract(&page, &PROFILE_V1).ok();
        let fingerprint = Fingerprint::new(&page, found.as_ref(), PROFILE_V1.text_bytes_max);
        seeds.push(("fingerprint", fingerprint.to_bytes()?));
        if let Ok(Outcome::Document(document)) = refine(&page, &PROFILE_V1) {
            seeds.push(("document", document.to_bytes()?));
        }
        seeds.extend(archived(html)?);
        seeds.extend(coded(html)?);
    }
    // A bomb: a megabyte of nothing in a kilobyte.
    seeds.extend(coded(&vec![b' '; 1 << 20])?);
    Ok(seeds)
}

fn archived(html: &[u8]) -> Result<Seeds> {
    let capture = PageCapture {
        url: "https://docs.example/manual/page.html".to_owned(),
        fetched_at_ms: 1_767_225_661_000,
        ip_address: "203.0.113.5".to_owned(),
        request_head: "GET /manual/page.html HTTP/1.1\r\nHost: docs.example\r\n\r\n".to_owned(),
        status: 200,
        reason: "OK".to_owned(),
        headers: vec![("Content-Type".to_owned(), "text/html".to_owned())],
        body: html.get(..800).unwrap_or(html).to_vec(),
        metadata: vec![("robots".to_owned(), "allowed".to_owned())],
    };
    let (mut plain, mut packed) = (Vec::new(), Vec::new());
    for record in capture.records() {
        let bytes = record.encode()?;
        let mut member = GzEncoder::new(Vec::new(), Compression::fast());
        member.write_all(&bytes)?;
        packed.extend(member.finish()?);
        plain.extend(bytes);
    }
    let bare = response_block(200, "OK", &capture.headers, b"bare");
    Ok(vec![("warc", plain), ("warc", packed), ("warc", bare)])
}

fn coded(body: &[u8]) -> Result<Seeds> {
    let mut gzip = GzEncoder::new(b"gzip\n".to_vec(), Compression::best());
    gzip.write_all(body)?;
    let mut zlib = ZlibEncoder::new(b"deflate\n".to_vec(), Compression::best());
    zlib.write_all(body)?;
    let mut raw = DeflateEncoder::new(b"deflate\n".to_vec(), Compression::best());
    raw.write_all(body)?;
    Ok(vec![
        ("content-coding", gzip.finish()?),
        ("content-coding", zlib.finish()?),
        ("content-coding", raw.finish()?),
    ])
}

/// One frame of zstd (RFC 8878): single segment, one raw block of five bytes.
const ZSTD: &[u8] = b"zstd\n\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello";
/// One brotli stream (RFC 7932): an uncompressed block of five bytes, then the empty last one.
const BROTLI: &[u8] = b"br\n\x0b\x02\x80hello\x03";

fn texts() -> Seeds {
    let texts: &[(&'static str, &[u8])] = &[
        ("content-coding", ZSTD),
        ("content-coding", BROTLI),
        ("content-coding", b"identity\nplain"),
        ("amount", b"1.5"),
        ("amount", b"0.000000000000000001"),
        ("amount", b"340282366920938463463.374607431768211455"),
        ("robots", b"User-agent: *\nDisallow: /private\nAllow: /private/open$\nCrawl-delay: 2\n"),
        ("robots", b"User-agent: OpenLedgerBot\nDisallow:\n\nUser-agent: *\nDisallow: /\nSitemap: https://docs.example/s.xml\n"),
        ("robots", b"\xef\xbb\xbfUser-Agent: a\r\nUSER-AGENT: b\rDisallow: /*?*id=*$\nDisallow: /%7Efoo\n# note\n"),
        ("page-url", b"https://docs.example/a/../b?q=1#part\n../c"),
        ("page-url", b"http://[2001:db8::1]:8080/%7euser\n//other.example/x"),
        ("page-url", b"HTTPS://B\xc3\xbccher.example.:443/\xc3\xa9\nhttp://0x7f.1/"),
        ("page-url", b"http://user:pass@127.1/\n"),
        ("signals", b"X-Robots-Tag: OpenLedgerBot: noindex, noai\nTDM-Reservation: 1\n"),
        ("signals", b"Content-Usage: train-ai=n, search=y\nTDM-Policy: https://docs.example/tdm\n"),
        ("page", b"text/plain; charset=iso-8859-1\nEin kurzer Text mit \xe4 und \xf6.\n"),
        ("page", b"text/html\n<meta charset=utf-16><p>x<!-- <script>if(a<b){}</script> -->"),
        ("page", b"application/json\n{}"),
        ("profile", b"schema = 1\n# signed 00 11\n"),
    ];
    texts.iter().map(|(target, bytes)| (*target, bytes.to_vec())).collect()
}

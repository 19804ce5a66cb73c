//! A page as fetched, and what kind of thing it is.
//!
//! The declared media type is a claim: bytes that are plainly something else win.

/// A page as fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Final URL, absolute, `http` or `https`.
    pub url: String,
    /// HTTP status code.
    pub status: u16,
    /// The `Content-Type` header, whole.
    pub content_type: Option<String>,
    /// The body after removal of transfer and content encodings.
    pub body: Vec<u8>,
}

/// What a page is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// HTML or XHTML.
    Html,
    /// Plain text or Markdown.
    Plain,
    /// Anything else.
    Other,
}

/// First bytes of formats that servers send under a text type by mistake.
const BINARY_MAGIC: [&[u8]; 12] = [
    b"%PDF-",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x7fELF",
    b"RIFF",
    b"OggS",
    b"7z\xbc\xaf",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ",
];

/// Bytes in which an undeclared page must show markup to count as HTML.
const SNIFF_BYTES: usize = 1_024;

impl Page {
    /// What this page is made of: by its bytes where they are unmistakable, else by its
    /// declared type, else by a look for markup at its start.
    #[must_use]
    pub fn media(&self) -> Media {
        if BINARY_MAGIC.iter().any(|magic| self.body.starts_with(magic)) {
            return Media::Other;
        }
        let declared = self.content_type.as_deref().map(essence).unwrap_or_default();
        match declared.as_str() {
            "text/html" | "application/xhtml+xml" => Media::Html,
            "text/plain" | "text/markdown" => Media::Plain,
            "" | "application/octet-stream" => self.sniff(),
            _ => Media::Other,
        }
    }

    fn sniff(&self) -> Media {
        let head = self.body.get(..SNIFF_BYTES).unwrap_or(&self.body);
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let lower = head.to_ascii_lowercase();
        let markup: [&[u8]; 8] =
            [b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<p>", b"<div", b"<h1"];
        if lower.starts_with(b"<") && markup.iter().any(|tag| contains(&lower, tag)) {
            Media::Html
        } else if head.contains(&0)
            && !head.starts_with(b"\xff\xfe")
            && !head.starts_with(b"\xfe\xff")
        {
            Media::Other
        } else {
            Media::Plain
        }
    }
}

/// `type/subtype` of a `Content-Type` value, lower-case.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether `needle` occurs in `haystack`.
fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(content_type: Option<&str>, body: &[u8]) -> Media {
        Page {
            url: "http://a.example/".into(),
            status: 200,
            content_type: content_type.map(Into::into),
            body: body.to_vec(),
        }
        .media()
    }

    #[test]
    fn declared_types() {
        assert_eq!(media(Some("Text/HTML; charset=utf-8"), b"x"), Media::Html);
        assert_eq!(media(Some("application/xhtml+xml"), b"x"), Media::Html);
        assert_eq!(media(Some("text/plain"), b"<html>"), Media::Plain);
        assert_eq!(media(Some("application/json"), b"{}"), Media::Other);
    }

    #[test]
    fn bytes_win_over_a_lying_type() {
        assert_eq!(media(Some("text/html"), b"%PDF-1.7"), Media::Other);
        assert_eq!(media(Some("text/plain"), b"\x1f\x8b\x08"), Media::Other);
    }

    #[test]
    fn undeclared_pages_are_sniffed() {
        assert_eq!(media(None, b"  <!DOCTYPE html><p>x"), Media::Html);
        assert_eq!(media(None, b"hello"), Media::Plain);
        assert_eq!(media(None, b"\0\x01\x02"), Media::Other);
        assert_eq!(media(None, b""), Media::Plain);
    }
}

//! From bytes to text, whatever the page claims about its charset.
//!
//! Order: byte-order mark; valid UTF-8 that is not plain ASCII (by chance nothing else
//! looks like it); the header; the page's own declaration; a guess from the bytes. The
//! first that decodes without a fault wins, else the one with the fewest faults. It does
//! not transliterate, and it never fails: the caller judges the share of faults.

use encoding_rs::{Encoding, ISO_2022_JP, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};

use crate::limits::{CHARSET_GUESS_BYTES, CHARSET_PRESCAN_BYTES};

/// Decoded text.
pub(crate) struct Decoded {
    /// The text.
    pub(crate) text: String,
    /// WHATWG name of the charset that was used.
    #[cfg_attr(not(test), expect(dead_code, reason = "asserted on by tests only"))]
    pub(crate) charset: &'static str,
    /// Characters that are no text: U+FFFD and C1 controls, permille of all, rounded up.
    pub(crate) fault_permille: u32,
}

/// Decodes `body`. `content_type` is the header; `markup` says whether declarations
/// inside the page count.
pub(crate) fn decode(body: &[u8], content_type: Option<&str>, markup: bool) -> Decoded {
    if let Some((encoding, bom_bytes)) = Encoding::for_bom(body) {
        return decode_as(encoding, body.get(bom_bytes..).unwrap_or_default()).0;
    }
    let header = content_type.and_then(header_charset);
    if let Ok(text) = std::str::from_utf8(body) {
        let stateful = header.filter(|encoding| hides_in_ascii(encoding, body));
        return match stateful {
            Some(encoding) if text.is_ascii() => decode_as(encoding, body).0,
            _ => decode_as(UTF_8, body).0,
        };
    }
    let declared = if markup { declared_charset(body) } else { None };
    let mut best: Option<(Decoded, u64)> = None;
    for encoding in [header, declared].into_iter().flatten() {
        let (decoded, faults) = decode_as(encoding, body);
        // A few broken bytes do not make a UTF-8 page anything else.
        if faults == 0 || (encoding == UTF_8 && mostly_valid(&decoded.text, faults)) {
            return decoded;
        }
        if best.as_ref().is_none_or(|(_, least)| faults < *least) {
            best = Some((decoded, faults));
        }
    }
    let (guessed, faults) = decode_as(guess(body), body);
    match best {
        Some((decoded, least)) if least <= faults => decoded,
        _ => guessed,
    }
}

/// Decodes with one charset; also counts the faults.
fn decode_as(encoding: &'static Encoding, body: &[u8]) -> (Decoded, u64) {
    let (text, _) = encoding.decode_without_bom_handling(body);
    let text = text.into_owned();
    let chars = text.chars().count() as u64;
    let is_fault = |c: &char| *c == '\u{fffd}' || ('\u{80}'..='\u{9f}').contains(c);
    let faults = if text.is_ascii() { 0 } else { text.chars().filter(is_fault).count() as u64 };
    let fault_permille = (faults * 1_000).div_ceil(chars.max(1));
    let fault_permille = u32::try_from(fault_permille).unwrap_or(1_000);
    (Decoded { text, charset: encoding.name(), fault_permille }, faults)
}

/// Charsets whose text can be all ASCII bytes and still mean something else.
fn hides_in_ascii(encoding: &'static Encoding, body: &[u8]) -> bool {
    if encoding == ISO_2022_JP {
        return body.contains(&0x1b);
    }
    let nuls = body.iter().filter(|&&byte| byte == 0).count();
    (encoding == UTF_16LE || encoding == UTF_16BE) && nuls * 4 >= body.len()
}

/// Whether broken sequences are rare beside the good ones that are not ASCII.
fn mostly_valid(text: &str, faults: u64) -> bool {
    let good = text.chars().filter(|&c| !c.is_ascii() && c != '\u{fffd}').count() as u64;
    faults * 20 <= good
}

fn guess(body: &[u8]) -> &'static Encoding {
    let start = body.iter().position(|byte| !byte.is_ascii()).unwrap_or(0).saturating_sub(64);
    let tail = body.get(start..).unwrap_or_default();
    let sample = tail.get(..CHARSET_GUESS_BYTES).unwrap_or(tail);
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(sample, sample.len() == tail.len());
    detector.guess(None, chardetng::Utf8Detection::Allow)
}

/// The `charset` parameter of a `Content-Type` value.
fn header_charset(content_type: &str) -> Option<&'static Encoding> {
    let parameter = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })?;
    label(parameter.as_bytes())
}

/// The charset that the page names in a `meta` element or an XML declaration.
fn declared_charset(body: &[u8]) -> Option<&'static Encoding> {
    let head = body.get(..CHARSET_PRESCAN_BYTES).unwrap_or(body).to_ascii_lowercase();
    let tags = [(b"<meta".as_slice(), b"charset".as_slice()), (b"<?xml", b"encoding")];
    for (open, key) in tags {
        let mut rest = head.as_slice();
        while let Some(at) = find(rest, open) {
            rest = rest.get(at + open.len()..).unwrap_or_default();
            let end = rest.iter().position(|&byte| byte == b'>').unwrap_or(rest.len());
            let tag = rest.get(..end).unwrap_or_default();
            if let Some(encoding) = value_of(tag, key).and_then(label) {
                // A page that could be read to here is not UTF-16 (HTML, 13.2.3.2).
                let wide = encoding == UTF_16LE || encoding == UTF_16BE;
                return Some(if wide { UTF_8 } else { encoding });
            }
        }
    }
    None
}

/// The value after `key =` inside a tag, quotes still on.
fn value_of<'a>(tag: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut rest = tag;
    while let Some(at) = find(rest, key) {
        rest = rest.get(at + key.len()..)?;
        let value = rest.trim_ascii_start();
        if let Some(value) = value.strip_prefix(b"=") {
            return Some(value);
        }
    }
    None
}

/// Resolves a charset label, with or without quotes and trailing text.
fn label(value: &[u8]) -> Option<&'static Encoding> {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let end = value
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || b"\"';,>/".contains(byte))
        .unwrap_or(value.len());
    let encoding = Encoding::for_label(value.get(..end)?)?;
    (encoding != REPLACEMENT).then_some(encoding)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(body: &[u8], header: Option<&str>) -> &'static str {
        decode(body, header, true).charset
    }

    const FRENCH: &str =
        "<p>L'été dernier, la forêt brûlait près du château; les élèves étaient là.";
    const JAPANESE: &str =
        "<p>日本語の文章です。これは文字コードの試験のために書かれました。カタカナもあります。";

    #[test]
    fn declared_charsets() {
        let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(FRENCH);
        let decoded = decode(&latin, Some("text/html; charset=ISO-8859-1"), true);
        assert_eq!((decoded.text.as_str(), decoded.charset), (FRENCH, "windows-1252"));

        let (sjis, _, _) = encoding_rs::SHIFT_JIS.encode(JAPANESE);
        let with_meta = [b"<meta charset='Shift_JIS'>".as_slice(), &sjis].concat();
        assert_eq!(name(&with_meta, None), "Shift_JIS");
        let old_meta = b"<META http-equiv=Content-Type content=\"text/html; charset=shift_jis\">";
        assert_eq!(name(&[old_meta.as_slice(), &sjis].concat(), None), "Shift_JIS");
        let xml = b"<?xml version=\"1.0\" encoding=\"Shift_JIS\"?>";
        assert_eq!(name(&[xml.as_slice(), &sjis].concat(), None), "Shift_JIS");
    }

    #[test]
    fn byte_order_marks_win() {
        let mut utf16 = vec![0xff, 0xfe];
        utf16.extend(FRENCH.encode_utf16().flat_map(u16::to_le_bytes));
        let decoded = decode(&utf16, Some("text/html; charset=windows-1252"), true);
        assert_eq!((decoded.text.as_str(), decoded.charset), (FRENCH, "UTF-16LE"));
        let utf8 = [b"\xef\xbb\xbf".as_slice(), FRENCH.as_bytes()].concat();
        assert_eq!(decode(&utf8, None, true).text, FRENCH);
    }

    #[test]
    fn lying_headers_lose() {
        assert_eq!(name(FRENCH.as_bytes(), Some("text/html; charset=iso-8859-1")), "UTF-8");
        let (sjis, _, _) = encoding_rs::SHIFT_JIS.encode(JAPANESE);
        assert_eq!(name(&sjis, Some("text/html; charset=utf-8")), "Shift_JIS");
        assert_eq!(name(&sjis, Some("text/html; charset=windows-1252")), "Shift_JIS");
        let (cyrillic, _, _) =
            encoding_rs::WINDOWS_1251.encode("Привет, как дела? Погода хорошая.");
        assert_eq!(name(&cyrillic, Some("text/html; charset=UTF-8")), "windows-1251");
    }

    #[test]
    fn ascii_that_is_not_ascii() {
        let utf16: Vec<u8> = "plain words".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let decoded = decode(&utf16, Some("text/plain; charset=utf-16"), false);
        assert_eq!(decoded.text, "plain words");
        let (jis, _, _) = encoding_rs::ISO_2022_JP.encode("日本");
        assert_eq!(decode(&jis, Some("text/html; charset=iso-2022-jp"), true).text, "日本");
        assert_eq!(name(b"plain", Some("text/html; charset=iso-2022-jp")), "UTF-8");
    }

    #[test]
    fn a_broken_byte_does_not_change_the_charset() {
        let broken = [FRENCH.repeat(9).as_bytes(), b"\xff"].concat();
        let decoded = decode(&broken, Some("text/html; charset=utf-8"), true);
        assert_eq!(decoded.charset, "UTF-8");
        assert!(decoded.fault_permille <= 2);
    }

    #[test]
    fn unknown_labels_are_ignored() {
        assert_eq!(name(b"x", Some("text/html; charset=none-such")), "UTF-8");
        assert_eq!(name(b"", Some("text/html; charset=")), "UTF-8");
    }
}

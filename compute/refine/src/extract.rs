//! The main text of a page and what the page says of itself.
//!
//! HTML goes through a readability pass (the algorithm of Firefox's reader view) and,
//! where that finds nothing, falls back to the body without its furniture. Plain text is
//! taken whole. Nothing is judged here: that is [`mod@crate::quality`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use dom_query::{Document, NodeData};
use dom_smoothie::{Config, Readability, TextMode};

use crate::document::Licence;
use crate::metadata::Metadata;
use crate::{Media, Page, Profile, Reason, charset, markup, metadata, redact, text};

/// Main text and claims of a page, addresses of people and machines already hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// Main text, paragraphs apart by an empty line; never empty.
    pub text: String,
    /// Title.
    pub title: Option<String>,
    /// Author, as the page names them.
    pub author: Option<String>,
    /// Day of publication, `YYYY-MM-DD`.
    pub published: Option<String>,
    /// BCP 47 tag that the page claims, as written.
    pub language_hint: Option<String>,
    /// Address that the page calls its own. Not checked: any page can name any other.
    pub canonical_url: Option<String>,
    /// Licence that the page links to.
    pub licence: Option<Licence>,
    /// Whether the page itself reserves text and data mining.
    pub tdm_reserved: bool,
}

/// Elements around a text that are never part of it. Forms and `noscript` are not among
/// them: whole pages are wrapped in one or the other.
const FURNITURE: &str =
    "script,style,template,nav,header,footer,aside,iframe,svg,button,select,textarea";

/// Extracts `page`; its status is not looked at.
///
/// # Errors
/// The [`Reason`] why there is no text: a limit of `profile` or the kind of the page.
pub fn extract(page: &Page, profile: &Profile) -> Result<Extract, Reason> {
    if page.body.len() as u64 > profile.body_bytes_max {
        return Err(Reason::TooLarge);
    }
    let media = page.media();
    if media == Media::Other {
        return Err(Reason::MediaType);
    }
    let is_html = media == Media::Html;
    let decoded = charset::decode(&page.body, page.content_type.as_deref(), is_html);
    if decoded.fault_permille > profile.undecodable_permille_max {
        return Err(Reason::Charset);
    }
    let found = if is_html {
        // The extractor is somebody else's code at work on hostile trees. A panic in it
        // depends on the page alone, so it is a result that everybody gets.
        catch_unwind(AssertUnwindSafe(|| from_html(&decoded.text, &page.url, profile)))
            .unwrap_or(Err(Reason::Extractor))?
    } else {
        from_plain(&decoded.text, profile)?
    };
    finish(found)
}

fn from_html(html: &str, url: &str, profile: &Profile) -> Result<Extract, Reason> {
    let document = markup::parse(html, profile)?;
    let claims = metadata::read(&document, url, profile);
    let config =
        Config { disable_json_ld: true, text_mode: TextMode::Formatted, ..Config::default() };
    let mut readability =
        Readability::with_document(document, None, Some(config)).map_err(|_| Reason::Extractor)?;
    let affordable = escaping_cost(&readability.doc) <= profile.escaping_cost_max;
    let article = if affordable { readability.parse().ok() } else { None };
    let body = article.as_ref().map(|article| text::tidy(&article.text_content));
    let body = match body.filter(|body| !body.is_empty()) {
        Some(body) => body,
        None => body_text(html, profile)?,
    };
    let (title, byline) = match article {
        Some(article) => (article.title, article.byline),
        None => (readability.get_article_title().to_string(), None),
    };
    let title = text::tidy_line(&title, profile.title_chars_max);
    let byline = byline.and_then(|byline| text::tidy_line(&byline, profile.author_chars_max));
    Ok(assemble(body, title, byline, claims))
}

/// Byte comparisons that writing the tree as HTML costs, which the readability pass does
/// at its end: the serialiser looks through the rest of a string again at each `&` and
/// each byte 0xC2, so that a megabyte of `&` would take minutes.
fn escaping_cost(document: &Document) -> u64 {
    let cost = |text: &str| {
        let specials = text.bytes().filter(|byte| matches!(byte, b'&' | 0xc2)).count() as u64;
        specials * text.len() as u64
    };
    let root = document.root();
    let costs = root.descendants_it().filter_map(|node| {
        node.query(|node| match &node.data {
            NodeData::Text { contents } => cost(contents),
            NodeData::Element(element) => element.attrs.iter().map(|attr| cost(&attr.value)).sum(),
            _ => 0,
        })
    });
    costs.fold(0, u64::saturating_add)
}

/// Text of the body without the furniture around it.
fn body_text(html: &str, profile: &Profile) -> Result<String, Reason> {
    // Parsed again: the readability pass has taken its tree to pieces.
    let document = markup::parse(html, profile)?;
    document.select(FURNITURE).remove();
    Ok(document.body().map(|body| text::tidy(&body.formatted_text())).unwrap_or_default())
}

fn assemble(
    text: String,
    title: Option<String>,
    byline: Option<String>,
    claims: Metadata,
) -> Extract {
    Extract {
        text,
        title: title.or_else(|| claims.heading.take()),
        author: claims.author.take().or(byline),
        published: claims.published.take(),
        language_hint: claims.language.take(),
        canonical_url: claims.canonical_url.take(),
        licence: claims.licence.take(),
        tdm_reserved: claims.tdm_reserved,
    }
}

fn from_plain(decoded: &str, profile: &Profile) -> Result<Extract, Reason> {
    let (mut chars, mut controls) = (0_u64, 0_u64);
    for c in decoded.chars() {
        chars += 1;
        controls += u64::from(c.is_control() && !c.is_whitespace());
    }
    if controls * 1_000 > chars * u64::from(profile.control_permille_max) {
        return Err(Reason::Binary);
    }
    let text = text::tidy(decoded);
    let title = text.lines().find_map(|line| text::tidy_line(line, profile.title_chars_max));
    Ok(assemble(text, title, None, Metadata::default()))
}

/// Hides addresses, last of all, so that no field is forgotten.
fn finish(found: Extract) -> Result<Extract, Reason> {
    if found.text.is_empty() {
        return Err(Reason::Empty);
    }
    let redact_line = |line: Option<String>| line.map(|line| redact::redact(&line));
    Ok(Extract {
        text: redact::redact(&found.text),
        title: redact_line(found.title),
        author: redact_line(found.author),
        ..found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROFILE_V1;

    fn page(content_type: &str, body: &[u8]) -> Page {
        Page {
            url: "https://a.example/".into(),
            status: 200,
            content_type: Some(content_type.into()),
            body: body.to_vec(),
        }
    }

    #[test]
    fn plain_text() {
        let page = page("text/plain", b"\n\nThe title\r\n\r\nWrite to me@a.example.\r\n");
        let found = extract(&page, &PROFILE_V1).unwrap();
        assert_eq!(found.title.as_deref(), Some("The title"));
        assert_eq!(found.text, "The title\n\nWrite to [email].");
    }

    #[test]
    fn bodies_without_an_article() {
        let found = extract(&page("text/html", b"<nav>menu</nav><b>Hi</b>"), &PROFILE_V1).unwrap();
        assert!(found.text.contains("Hi"), "{}", found.text);
    }

    #[test]
    fn reasons() {
        let reason = |kind, body: &[u8]| extract(&page(kind, body), &PROFILE_V1).unwrap_err();
        assert_eq!(reason("text/html", b""), Reason::Empty);
        assert_eq!(reason("text/html", b"<script>1</script>"), Reason::Empty);
        assert_eq!(reason("image/png", b"x"), Reason::MediaType);
        assert_eq!(reason("text/plain", b"\x01\x02\x03abc"), Reason::Binary);
        assert_eq!(reason("text/html", &vec![b'a'; 11 << 20]), Reason::TooLarge);
        assert_eq!(
            reason("text/plain", &[0x81, 0x8d, 0xff, 0xfe, 0x00].repeat(99)),
            Reason::Charset
        );
    }
}

//! What a page says of itself in its markup: author, date, language, canonical address,
//! licence, reservation of rights.
//!
//! All of it is the page's own claim and is recorded as such. One walk over the tree
//! collects everything; where several places speak, a fixed order of trust decides and
//! within a rank the first one.

use dom_query::{Document, NodeRef};
use url::Url;

use crate::document::{Licence, LicenceEvidence};
use crate::limits::{JSONLD_SCRIPTS_MAX, URL_BYTES_MAX};
use crate::{Profile, jsonld, text};

/// Claims of a page.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) heading: Ranked<String>,
    pub(crate) author: Ranked<String>,
    pub(crate) published: Ranked<String>,
    pub(crate) language: Ranked<String>,
    pub(crate) canonical_url: Ranked<String>,
    pub(crate) licence: Ranked<Licence>,
    pub(crate) tdm_reserved: bool,
}

/// The value from the most trusted place so far.
#[derive(Debug)]
pub(crate) struct Ranked<T>(Option<(u8, T)>);

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Ranked<T> {
    fn offer(&mut self, rank: u8, value: Option<T>) {
        if let Some(value) = value
            && self.0.as_ref().is_none_or(|(best, _)| rank < *best)
        {
            self.0 = Some((rank, value));
        }
    }

    pub(crate) fn take(self) -> Option<T> {
        self.0.map(|(_, value)| value)
    }
}

/// Reads the claims of `document`, whose address is `page_url`.
pub(crate) fn read(document: &Document, page_url: &str, profile: &Profile) -> Metadata {
    let mut reader =
        Reader { base: Url::parse(page_url).ok(), profile, scripts: 0, found: Metadata::default() };
    if let (Some(base), Some(href)) = (&reader.base, document.base_uri())
        && let Ok(joined) = base.join(&href)
    {
        reader.base = Some(joined);
    }
    for node in document.root().descendants_it() {
        let Some(name) = node.node_name() else { continue };
        match name.as_ref() {
            "html" => reader.found.language.offer(0, attribute(&node, "lang")),
            "meta" => reader.meta(&node),
            "link" => reader.link(&node),
            "a" => reader.anchor(&node),
            "script" => reader.script(&node),
            "h1" => {
                reader.found.heading.offer(0, reader.line(&node.text(), profile.title_chars_max))
            }
            "time" => reader.time(&node),
            _ => {}
        }
        if node.attr("itemprop").is_some_and(|item| item.as_ref() == "datePublished") {
            let date = attribute(&node, "content").or_else(|| attribute(&node, "datetime"));
            reader.found.published.offer(2, date.as_deref().and_then(calendar_date));
        }
    }
    reader.found
}

struct Reader<'a> {
    base: Option<Url>,
    profile: &'a Profile,
    scripts: usize,
    found: Metadata,
}

impl Reader<'_> {
    fn line(&self, text: &str, chars_max: u32) -> Option<String> {
        text::tidy_line(text, chars_max)
    }

    fn meta(&mut self, node: &NodeRef<'_>) {
        let Some(content) = attribute(node, "content") else { return };
        let key = ["property", "name", "http-equiv"].iter().find_map(|name| attribute(node, name));
        let Some(key) = key else { return };
        match key.to_ascii_lowercase().as_str() {
            "author" | "article:author" | "dc.creator" | "dcterms.creator" => {
                self.author(1, &content);
            }
            "article:published_time" => self.date(0, &content),
            "date" | "dc.date" | "dcterms.created" | "dcterms.issued" | "pubdate" => {
                self.date(3, &content);
            }
            "content-language" => self.found.language.offer(1, Some(content)),
            "og:locale" => self.found.language.offer(2, Some(content)),
            "dc.rights" | "dcterms.license" | "dcterms.rights" => {
                self.licence(3, &content, LicenceEvidence::Meta);
            }
            "tdm-reservation" => self.found.tdm_reserved |= content.trim() == "1",
            "robots" => {
                let mut rules = content.split(',').map(|rule| rule.trim().to_ascii_lowercase());
                self.found.tdm_reserved |= rules.any(|rule| rule == "noai" || rule == "noimageai");
            }
            _ => {}
        }
    }

    fn link(&mut self, node: &NodeRef<'_>) {
        let Some(href) = attribute(node, "href") else { return };
        if has_relation(node, "canonical") {
            let canonical = self.resolve(&href);
            self.found.canonical_url.offer(0, canonical);
        }
        if has_relation(node, "license") {
            self.licence(0, &href, LicenceEvidence::Link);
        }
    }

    fn anchor(&mut self, node: &NodeRef<'_>) {
        let Some(href) = attribute(node, "href") else { return };
        if has_relation(node, "license") {
            self.licence(1, &href, LicenceEvidence::Anchor);
        } else if href.contains("creativecommons.org/") {
            let named = href.contains("/licenses/") || href.contains("/publicdomain/");
            if named {
                self.licence(4, &href, LicenceEvidence::Mention);
            }
        }
    }

    fn script(&mut self, node: &NodeRef<'_>) {
        let is_jsonld = attribute(node, "type")
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/ld+json"));
        if !is_jsonld || self.scripts >= JSONLD_SCRIPTS_MAX {
            return;
        }
        self.scripts += 1;
        let claims = jsonld::read(&node.text());
        if let Some(author) = claims.author {
            self.author(0, &author);
        }
        if let Some(published) = claims.published {
            self.date(1, &published);
        }
        if let Some(licence) = claims.licence {
            self.licence(2, &licence, LicenceEvidence::JsonLd);
        }
    }

    fn time(&mut self, node: &NodeRef<'_>) {
        if let Some(date) = attribute(node, "datetime") {
            self.date(4, &date);
        }
    }

    fn author(&mut self, rank: u8, author: &str) {
        // Some templates put the address of a profile here.
        if !author.contains("://") {
            let author = self.line(author, self.profile.author_chars_max);
            self.found.author.offer(rank, author);
        }
    }

    fn date(&mut self, rank: u8, date: &str) {
        self.found.published.offer(rank, calendar_date(date));
    }

    fn licence(&mut self, rank: u8, href: &str, evidence: LicenceEvidence) {
        let url = self.resolve(href);
        self.found.licence.offer(rank, url.map(|url| Licence { url, evidence }));
    }

    /// An absolute http(s) address.
    fn resolve(&self, href: &str) -> Option<String> {
        let href = href.trim();
        // Free text where an address belongs: "All rights reserved".
        if href.is_empty() || href.contains(char::is_whitespace) {
            return None;
        }
        let url = self.base.as_ref()?.join(href).ok()?;
        let text = String::from(url.clone());
        (matches!(url.scheme(), "http" | "https") && text.len() <= URL_BYTES_MAX).then_some(text)
    }
}

fn attribute(node: &NodeRef<'_>, name: &str) -> Option<String> {
    let value = node.attr(name)?;
    (!value.trim().is_empty()).then(|| value.to_string())
}

fn has_relation(node: &NodeRef<'_>, relation: &str) -> bool {
    let relations = node.attr("rel");
    relations.is_some_and(|list| {
        list.split_whitespace().any(|token| token.eq_ignore_ascii_case(relation))
    })
}

/// The `YYYY-MM-DD` with which an ISO 8601 date begins. Times are dropped: replicas
/// agree on days far more often than on zones.
fn calendar_date(text: &str) -> Option<String> {
    let date = text.trim().get(..10)?;
    let mut parts = date.split('-');
    let mut number = |digits: usize, max: u32| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let digits_only = part.bytes().all(|byte| byte.is_ascii_digit());
        let value: u32 = digits_only.then(|| part.parse().ok())??;
        (1..=max).contains(&value).then_some(())
    };
    number(4, 9_999)?;
    number(2, 12)?;
    number(2, 31)?;
    parts.next().is_none().then(|| date.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROFILE_V1;

    fn found(html: &str) -> Metadata {
        read(&Document::from(html), "https://a.example/dir/page", &PROFILE_V1)
    }

    #[test]
    fn places_are_ranked() {
        let meta = found(
            "<html lang=en-GB><meta name=author content='Second'><meta property=og:locale content=fr_FR>
             <script type=application/ld+json>{\"author\":{\"name\":\"First\"}}</script>
             <time datetime='2020-01-01T00:00Z'></time>
             <meta property='article:published_time' content='2021-02-03T04:05:06+01:00'>",
        );
        assert_eq!(meta.author.take().as_deref(), Some("First"));
        assert_eq!(meta.published.take().as_deref(), Some("2021-02-03"));
        assert_eq!(meta.language.take().as_deref(), Some("en-GB"));
    }

    #[test]
    fn addresses_are_resolved() {
        let meta = found("<base href=/x/><link rel=canonical href='../y?z=1'>");
        assert_eq!(meta.canonical_url.take().as_deref(), Some("https://a.example/y?z=1"));
        let meta = found("<link rel=canonical href='javascript:1'>");
        assert_eq!(meta.canonical_url.take(), None);
    }

    #[test]
    fn licences_carry_their_evidence() {
        let cc = "https://creativecommons.org/licenses/by/4.0/";
        let mention = found(&format!("<a href={cc}>x</a>")).licence.take();
        assert_eq!(mention, Some(Licence { url: cc.into(), evidence: LicenceEvidence::Mention }));
        let both = found(&format!("<a href={cc}>x</a><a rel='nofollow license' href=/l>y</a>"));
        let licence = both.licence.take().unwrap();
        assert_eq!(licence.evidence, LicenceEvidence::Anchor);
        assert_eq!(licence.url, "https://a.example/l");
        assert_eq!(
            found("<meta name=dc.rights content='All rights reserved'>").licence.take(),
            None
        );
    }

    #[test]
    fn reservations() {
        assert!(found("<meta name=tdm-reservation content=1>").tdm_reserved);
        assert!(found("<meta name=robots content='noindex, NoAI'>").tdm_reserved);
        assert!(!found("<meta name=robots content=noindex>").tdm_reserved);
    }

    #[test]
    fn dates() {
        assert_eq!(calendar_date(" 2024-12-31T23:59 ").as_deref(), Some("2024-12-31"));
        for bad in
            ["2024-13-01", "2024-1-1", "31.12.2024", "", "2024-00-10", "é024-01-01", "+024-01-01"]
        {
            assert_eq!(calendar_date(bad), None, "{bad}");
        }
    }
}

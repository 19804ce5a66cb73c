//! The frame of a page: plain, readable, in the reader's light or dark.
//!
//! Styles are one embedded sheet, served by the shell itself; pages use elements, not classes,
//! except for the few named in `frame.css`.

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};

const SHEET: &str = include_str!("frame.css");
const SHEET_PATH: &str = concat!("/assets/frame-", env!("CARGO_PKG_VERSION"), ".css");

/// A page to be.
#[derive(Debug, Clone)]
pub struct Page {
    title: String,
    site: String,
    links: Vec<(String, String)>,
    refresh_s: Option<u32>,
}

impl Page {
    /// A page of `site` with a title.
    #[must_use]
    pub fn new(site: impl Into<String>, title: impl Into<String>) -> Self {
        Self { title: title.into(), site: site.into(), links: Vec::new(), refresh_s: None }
    }

    /// The same with a link in its head: a path of this server, and its words.
    #[must_use]
    pub fn link(mut self, path: impl Into<String>, words: impl Into<String>) -> Self {
        self.links.push((path.into(), words.into()));
        self
    }

    /// The same, loaded anew by the browser after so many seconds.
    #[must_use]
    pub const fn refresh_s(mut self, seconds: u32) -> Self {
        self.refresh_s = Some(seconds);
        self
    }

    /// The whole document around `body`.
    #[must_use]
    pub fn render(&self, body: &Markup) -> String {
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if let Some(seconds) = self.refresh_s {
                        meta http-equiv="refresh" content=(seconds);
                    }
                    title { (self.title) " - " (self.site) }
                    link rel="stylesheet" href=(SHEET_PATH);
                }
                body {
                    header {
                        a href="/" { strong { (self.site) } }
                        nav { @for (path, words) in &self.links { a href=(path) { (words) } " " } }
                    }
                    main { h1 { (self.title) } (body) }
                }
            }
        };
        document.into_string()
    }

    /// The whole document as an answer.
    #[must_use]
    pub fn respond(&self, body: &Markup) -> Response {
        Html(self.render(body)).into_response()
    }
}

/// The routes of the embedded assets; [`crate::WebServer`] adds them by itself.
pub fn asset_routes() -> Router {
    let sheet = || async {
        let kind = (header::CONTENT_TYPE, "text/css; charset=utf-8");
        ([kind, (header::CACHE_CONTROL, "public, max-age=3600")], SHEET)
    };
    Router::new().route(SHEET_PATH, get(sheet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_escapes_what_strangers_wrote_and_holds_nothing_inline() {
        let stranger = "<script>alert(1)</script>";
        let page = Page::new("site", stranger).link("/x?a=1&b=2", "x").refresh_s(5);
        let text = page.render(&html! { p { (stranger) } });
        assert!(!text.contains("<script") && !text.contains("<style") && !text.contains(" style="));
        assert!(text.contains("&lt;script&gt;") && text.contains(SHEET_PATH));
    }
}

//! Single pages of web servers that run beside the devnet, given by URL.
//!
//! Servers of this machine only: all nodes of a devnet are one machine, so to anybody else they
//! would be one visitor who asks for everything several times over.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::limits;

/// A page with the address that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its URL, normalised, without a fragment.
    pub url: String,
    /// `host:port`, as a network profile names a private host.
    pub host: String,
    /// The address behind the host.
    pub address: SocketAddr,
}

/// Checks URLs and asks for each page once, so that a mistake shows before a network starts.
///
/// # Errors
/// Names the URL, what is wrong with it, and what to do.
pub async fn find(urls: &[String]) -> anyhow::Result<Vec<Seed>> {
    if urls.len() > limits::SEEDS_MAX {
        let (found, max) = (urls.len(), limits::SEEDS_MAX);
        bail!("take {found} pages: --seed-url takes {max}; serve a folder with --site");
    }
    let client = Client::builder().no_proxy().timeout(limits::SEED_TIME_MAX);
    let client = client.redirect(Policy::none()).build().context("set up the HTTP client")?;
    let mut seeds = Vec::new();
    for url in urls {
        let seed = find_one(&client, url).await;
        seeds.push(seed.with_context(|| format!("take the page {url} (--seed-url)"))?);
    }
    Ok(seeds)
}

async fn find_one(client: &Client, text: &str) -> anyhow::Result<Seed> {
    let mut url = Url::parse(text).context("it is no URL such as http://127.0.0.1:8000/page")?;
    url.set_fragment(None);
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
    let Some(port) = port.filter(|_| matches!(url.scheme(), "http" | "https")) else {
        bail!("only http and https are fetched, not {}", url.scheme());
    };
    let (key, named) = (format!("{host}:{port}"), host.trim_end_matches('.').to_owned());
    let bare = named.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((bare, port)).await;
    let found: Vec<SocketAddr> =
        found.with_context(|| format!("nobody knows an address of {named}"))?.collect();
    if let Some(other) = found.iter().find(|address| !address.ip().is_loopback()) {
        bail!(
            "{named} is at {}, which is not this machine; a devnet's nodes fetch from this machine \
             only, because to others they would all be one visitor. Serve a copy with --site, or \
             run a coordinator of your own for public pages",
            other.ip()
        );
    }
    let Some(address) = found.into_iter().find(SocketAddr::is_ipv4) else {
        bail!("{named} has no IPv4 address, which the nodes use; listen on 127.0.0.1");
    };
    check_page(client, &url).await?;
    Ok(Seed { url: url.into(), host: key, address })
}

async fn check_page(client: &Client, url: &Url) -> anyhow::Result<()> {
    let answer = client.get(url.clone()).send().await;
    let answer = answer.context("the server does not answer; start it, or correct the URL")?;
    if !answer.status().is_success() {
        bail!("the server answers {}; only pages that are there are collected", answer.status());
    }
    let kind = answer.headers().get(reqwest::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("text/html").to_lowercase();
    if !kind.contains("html") {
        bail!("the server sends {kind}, and documents are made of HTML only");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::response::Html;
    use axum::routing::get;

    async fn refused(url: &str) -> String {
        format!("{:#}", find(&[url.to_owned()]).await.unwrap_err())
    }

    #[tokio::test]
    async fn pages_of_this_machine_are_taken_and_others_refused_with_a_reason() {
        let routes = Router::new()
            .route("/a", get(async || Html("<p>page</p>")))
            .route("/text", get(async || "text"));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        let found = find(&[format!("http://{at}/a#part")]).await.unwrap();
        let url = format!("http://{at}/a");
        assert_eq!(found, [Seed { url, host: at.to_string(), address: at }]);
        assert!(refused(&format!("http://{at}/b")).await.contains("404"));
        assert!(refused(&format!("http://{at}/text")).await.contains("HTML only"));
        server.abort();
        assert!(refused("http://203.0.113.7/").await.contains("not this machine"));
        assert!(refused("http://[::1]:9/").await.contains("listen on 127.0.0.1"));
        assert!(refused("ftp://127.0.0.1/").await.contains("only http"));
        assert!(refused("127.0.0.1/page").await.contains("no URL such as"));
    }
}

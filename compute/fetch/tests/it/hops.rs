//! Addresses, names and redirects: where a node lets itself be sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openledger_fetch::{
    AddressClass, FetchError, FetchRequest, Fetcher, HostGate, LookupFuture, Resolver, UrlProblem,
};

use crate::server::{Server, config, fails, fetch, reply, without_robots};

/// Redirects `/` to `location`, serves everything else.
async fn redirecting(location: &str) -> Server {
    let header = format!("location: {location}");
    Server::start(move |path| {
        let page = match path {
            "/" => reply("302 Found", &[header.as_str()], "moved"),
            _ => reply("200 OK", &["content-type: text/html"], "<p>arrived</p>"),
        };
        without_robots(path, page)
    })
    .await
}

#[tokio::test]
async fn a_redirect_is_followed_and_recorded() {
    let server = redirecting("/there?x=1#part").await;
    let page = fetch(config(&[&server]), &server.url("/")).await.unwrap();
    assert_eq!(page.final_url, server.url("/there?x=1"));
    let hops: Vec<_> = page.hops.iter().map(|hop| (hop.url.as_str(), hop.status)).collect();
    assert_eq!(hops, [(server.url("/").as_str(), 302), (server.url("/there?x=1").as_str(), 200)]);
    assert_eq!(server.paths(), ["/robots.txt", "/", "/there?x=1"], "robots.txt is asked once");
}

#[tokio::test]
async fn a_redirect_to_an_unnamed_private_address_is_refused() {
    let secret = Server::start(|_| reply("200 OK", &[], "secret")).await;
    let port = secret.address.port();
    for (location, address, class) in [
        (format!("http://127.0.0.1:{port}/"), "127.0.0.1", None),
        ("http://127.0.0.1:8080/".into(), "127.0.0.1", Some(AddressClass::Loopback)),
        ("http://2130706433/".into(), "127.0.0.1", Some(AddressClass::Loopback)),
        ("http://169.254.169.254/latest/".into(), "169.254.169.254", Some(AddressClass::LinkLocal)),
        ("http://[::1]/".into(), "::1", Some(AddressClass::Loopback)),
        ("http://[::ffff:10.0.0.1]/".into(), "::ffff:10.0.0.1", Some(AddressClass::Private)),
        ("http://localhost:8080/".into(), "127.0.0.1", Some(AddressClass::Loopback)),
    ] {
        let server = redirecting(&location).await;
        let error = fails(&server, "/").await;
        match (&error, class) {
            // An odd port is refused before the address is looked at.
            (FetchError::BadRedirect { problem: UrlProblem::Port(p), .. }, None) => {
                assert_eq!(*p, port)
            }
            (FetchError::RedirectToPrivate { class: found, address: at, .. }, Some(class)) => {
                assert_eq!(*found, class, "{location}");
                let loopback = at.is_loopback() && class == AddressClass::Loopback;
                assert!(loopback || at.to_string() == address, "{location}: {at}");
            }
            _ => panic!("{location}: {error}"),
        }
        assert!(!error.retryable() && error.to_string().contains(&server.url("/")));
    }
    assert!(secret.paths().is_empty());
}

#[tokio::test]
async fn redirects_to_files_or_with_credentials_are_refused() {
    for location in ["file:///etc/passwd", "http://me:pw@site.test/", "javascript:alert(1)"] {
        let server = redirecting(location).await;
        let error = fails(&server, "/").await;
        assert_eq!(error.code(), "bad-redirect", "{location}: {error}");
    }
}

#[tokio::test]
async fn endless_redirects_end() {
    let counter = AtomicUsize::new(0);
    let server = Server::start(move |path| {
        let next = format!("location: /{}", counter.fetch_add(1, Ordering::Relaxed));
        without_robots(path, reply("301 Moved Permanently", &[&next], ""))
    })
    .await;
    let error = fails(&server, "/start").await;
    assert_eq!(error.code(), "too-many-redirects", "{error}");
    assert_eq!(server.paths().len(), 1 + 1 + 8);

    let server = Server::start(|path| {
        let next = if path == "/a" { "location: /b" } else { "location: /a" };
        without_robots(path, reply("307 Temporary Redirect", &[next], ""))
    })
    .await;
    assert_eq!(fails(&server, "/a").await.code(), "redirect-loop");
}

#[tokio::test]
async fn addresses_that_no_crawler_follows_are_refused_before_any_packet() {
    for (url, code) in [
        ("file:///etc/passwd", "bad-url"),
        ("http://user:pw@site.test/", "bad-url"),
        ("http://site.test:22/", "bad-url"),
        ("not a url", "bad-url"),
        ("http://10.0.0.1/", "private-address"),
        ("http://[fd00::1]/", "private-address"),
        ("http://localhost/", "private-address"),
    ] {
        let error = fetch(config(&[]), url).await.unwrap_err();
        assert_eq!(error.code(), code, "{url}: {error}");
    }
}

#[tokio::test]
async fn the_owners_lists_are_obeyed() {
    let server = redirecting("/x").await;
    let mut denied = config(&[&server]);
    denied.deny_hosts = vec!["*.evil.example".into(), "site.test".into()];
    let error = fetch(denied, &server.url("/")).await.unwrap_err();
    assert_eq!(error.code(), "owner-closed");
    assert!(error.to_string().contains("\"site.test\""), "{error}");
    let mut allowed = config(&[&server]);
    allowed.allow_hosts = vec!["other.test".into()];
    assert_eq!(fetch(allowed, &server.url("/")).await.unwrap_err().code(), "owner-closed");
    assert!(server.paths().is_empty());
}

/// A resolver that gives the same answer to every name and counts the questions.
struct Fixed(Vec<IpAddr>, AtomicUsize);

impl Resolver for Fixed {
    fn lookup<'a>(&'a self, _host: &'a str) -> LookupFuture<'a> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let answer = self.0.clone();
        Box::pin(async move { Ok(answer) })
    }
}

async fn fetch_resolved(
    addresses: &[&str],
    gate: Option<Arc<dyn HostGate>>,
) -> (FetchError, usize) {
    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let resolver = Arc::new(Fixed(addresses, AtomicUsize::new(0)));
    // Bound to loopback, a connection to the outside fails without a packet.
    let mut config = config(&[]);
    config.local_address = Some("127.0.0.1".parse().unwrap());
    config.own_addresses = vec!["9.9.9.1".parse().unwrap()];
    let fetcher = Fetcher::with(config, Arc::clone(&resolver) as Arc<dyn Resolver>, gate).unwrap();
    let error = fetcher.fetch(FetchRequest::new("http://public.example/")).await.unwrap_err();
    (error, resolver.1.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_name_with_one_private_address_is_refused_whole() {
    for addresses in [&["10.0.0.1"][..], &["9.9.9.9", "127.0.0.1"], &["9.9.9.9", "64:ff9b::a00:1"]]
    {
        let (error, lookups) = fetch_resolved(addresses, None).await;
        assert_eq!(error.code(), "private-address", "{addresses:?}: {error}");
        assert_eq!(lookups, 1);
    }
    let (error, _) = fetch_resolved(&["9.9.9.1"], None).await;
    assert!(error.to_string().contains("own public"), "{error}");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_judged_address_is_connected_to() {
    let (error, lookups) = fetch_resolved(&["2620:fe::9", "9.9.9.9"], None).await;
    assert!(
        matches!(&error, FetchError::Connect { address, .. } if address.to_string() == "9.9.9.9"),
        "{error}"
    );
    assert!(error.retryable());
    assert_eq!(lookups, 1);
    let (error, _) = fetch_resolved(&[], None).await;
    assert_eq!(error.code(), "dns");
}

#[tokio::test]
async fn the_gate_sees_domain_and_address() {
    struct Shut;
    impl HostGate for Shut {
        fn opens(&self, domain: &str, address: IpAddr) -> bool {
            !(domain == "public.example" && address.to_string() == "9.9.9.9")
        }
    }
    let (error, _) = fetch_resolved(&["9.9.9.9"], Some(Arc::new(Shut))).await;
    assert_eq!(error.code(), "host-not-open");
    assert!(error.retryable());
}

#[tokio::test]
async fn a_private_host_may_stand_in_for_the_default_port_but_leads_nowhere_else() {
    let server = Server::start(|path| without_robots(path, reply("200 OK", &[], "hello"))).await;
    let mut config = config(&[]);
    config.private_hosts.insert("docs.test:80".into(), vec![server.address]);
    let page = fetch(config.clone(), "http://docs.test/x").await.unwrap();
    assert_eq!((page.body.as_slice(), page.address), (&b"hello"[..], server.address));
    assert!(server.heads()[1].contains("host: docs.test\r\n"));
    // The same server under its bare address is not named.
    let bare = format!("http://{}/", server.address);
    assert_eq!(fetch(config, &bare).await.unwrap_err().code(), "bad-url");
}

//! From a checked address to the one socket address that will be connected to.
//!
//! A name is resolved once per hop, all of its addresses are judged, and the
//! connection goes to the one that was judged: asking again at connection time
//! is the gap that DNS rebinding uses.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use crate::address;
use crate::address::AddressClass;
use crate::config::FetchConfig;
use crate::error::{FetchError, TimeoutPhase};
use crate::hosts::HostLists;
use crate::page_url::PageUrl;
use crate::politeness::Site;

/// The answer of a [`Resolver`].
pub type LookupFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Turns names into addresses. The network profile's private hosts do not come here.
pub trait Resolver: Send + Sync {
    /// All addresses of a lower-case host name, best first.
    fn lookup<'a>(&'a self, host: &'a str) -> LookupFuture<'a>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn lookup<'a>(&'a self, host: &'a str) -> LookupFuture<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Where a hop connects to, and whose turn it needs.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) sites: [Site; 2],
}

impl Target {
    /// The site that a crawl-delay and a plea for rest apply to.
    pub(crate) fn domain(&self) -> &Site {
        let [domain, _] = &self.sites;
        domain
    }
}

/// Judges a hop's host and port and picks its address.
pub(crate) async fn target(
    url: &PageUrl,
    config: &FetchConfig,
    lists: &HostLists,
    resolver: &dyn Resolver,
) -> Result<Target, FetchError> {
    if let Some(rule) = lists.closed_by(url.host()) {
        return Err(FetchError::OwnerClosed { host: url.host().to_owned(), rule });
    }
    let address = match config.private_hosts.get(&url.host_port()) {
        Some(named) => named_address(url, named, config.local_address)?,
        None => {
            url.check_port()
                .map_err(|problem| FetchError::BadUrl { url: url.to_string(), problem })?;
            let address = public_address(url, config, resolver).await?;
            SocketAddr::new(address, url.port())
        }
    };
    let domain = Site::Domain(url.registrable_domain().to_owned());
    let network = Site::Network(address::politeness_network(address.ip()));
    Ok(Target { address, sites: [domain, network] })
}

/// The address of a private host: only what the profile names, port included.
fn named_address(
    url: &PageUrl,
    named: &[SocketAddr],
    local: Option<IpAddr>,
) -> Result<SocketAddr, FetchError> {
    let fits = |address: &&SocketAddr| {
        let port = address.port() == url.port() || !url.port_is_explicit();
        let literal =
            url.literal().is_none_or(|l| l == address.ip() && address.port() == url.port());
        port && literal && same_family(address.ip(), local)
    };
    named.iter().find(fits).copied().ok_or_else(|| FetchError::Dns {
        host: url.host().to_owned(),
        detail: format!("the network profile names no usable address for {}", url.host_port()),
    })
}

async fn public_address(
    url: &PageUrl,
    config: &FetchConfig,
    resolver: &dyn Resolver,
) -> Result<IpAddr, FetchError> {
    let found = match url.literal() {
        Some(literal) => vec![literal],
        None => lookup(url.host(), config.limits.connect_ms_max, resolver).await?,
    };
    for address in &found {
        let own = config.own_addresses.contains(address).then_some(AddressClass::Own);
        if let Some(class) = address::denied(*address).or(own) {
            let host = url.host().to_owned();
            return Err(FetchError::PrivateAddress { host, address: *address, class });
        }
    }
    let usable = found.into_iter().find(|address| same_family(*address, config.local_address));
    usable.ok_or_else(|| FetchError::Dns {
        host: url.host().to_owned(),
        detail: "it has no address that this node can use".to_owned(),
    })
}

async fn lookup(
    host: &str,
    limit_ms: u64,
    resolver: &dyn Resolver,
) -> Result<Vec<IpAddr>, FetchError> {
    let limit = Duration::from_millis(limit_ms);
    match tokio::time::timeout(limit, resolver.lookup(host)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(e)) => Err(FetchError::Dns { host: host.to_owned(), detail: e.to_string() }),
        Err(_) => {
            let phase = TimeoutPhase::Resolve;
            Err(FetchError::Timeout { host: host.to_owned(), phase, limit_ms })
        }
    }
}

fn same_family(address: IpAddr, local: Option<IpAddr>) -> bool {
    local.is_none_or(|local| local.is_ipv4() == address.is_ipv4())
}

//! Turns at sites between the networks of one node.
//!
//! Each network has a fetch worker of its own, because its private hosts and its name in the
//! User-Agent are its own, and each worker is polite by itself. So that two of them together are
//! as polite as one, a site belongs to one network at a time, and passes on only after the longest
//! pause that a worker keeps there. With one network nothing ever waits here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openledger_fetch::PageUrl;
use openledger_wire::limits as wire_limits;
use tokio::sync::Notify;

use crate::limits;

/// Who is at which site; shared by the networks of a node.
#[derive(Debug)]
pub struct Sites {
    held: Mutex<BTreeMap<String, Held>>,
    freed: Notify,
    pause: Duration,
}

/// A site in the hand of a network.
#[derive(Clone, Copy, Debug)]
struct Held {
    network: usize,
    fetches: usize,
    last: Instant,
}

/// What a network is told that asks for a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It is its own now.
    Taken,
    /// Ask again at this time.
    At(Instant),
    /// Ask again when a fetch has ended.
    Busy,
}

impl Sites {
    /// Sites that pass from network to network after `pause` without a request.
    #[must_use]
    pub fn new(pause: Duration) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), freed: Notify::new(), pause })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, site: &str, network: usize, now: Instant) -> Answer {
        let mut held = self.lock();
        if held.len() > limits::SITES_HELD_MAX {
            held.retain(|_, one| one.fetches > 0 || one.last + self.pause > now);
        }
        if let Some(one) = held.get(site).filter(|one| one.network != network) {
            if one.fetches > 0 {
                return Answer::Busy;
            }
            if one.last + self.pause > now {
                return Answer::At(one.last + self.pause);
            }
        }
        let own = Held { network, fetches: 0, last: now };
        let one = held.entry(site.to_owned()).or_insert(own);
        if one.network != network {
            *one = own;
        }
        one.fetches += 1;
        Answer::Taken
    }

    fn done(&self, site: &str, now: Instant) {
        if let Some(one) = self.lock().get_mut(site) {
            one.fetches = one.fetches.saturating_sub(1);
            one.last = now;
        }
        self.freed.notify_waiters();
    }
}

/// One network's way to the sites.
#[derive(Clone, Debug)]
pub struct Turns {
    sites: Arc<Sites>,
    network: usize,
}

/// A fetch at a site; the site is free for the same network all the while.
#[derive(Debug)]
pub struct Turn {
    sites: Arc<Sites>,
    site: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.sites.done(&self.site, Instant::now());
    }
}

impl Turns {
    /// Those of the network with this number.
    #[must_use]
    pub fn new(sites: Arc<Sites>, network: usize) -> Self {
        Self { sites, network }
    }

    /// Those of a node with one network.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Sites::new(Duration::ZERO), 0)
    }

    /// Waits until the page's site is this network's. An address that is none has no site; the
    /// worker says what is wrong with it.
    pub async fn take(&self, url: &str) -> Option<Turn> {
        let page = PageUrl::parse(url, wire_limits::URL_MAX).ok()?;
        let site = page.registrable_domain().to_owned();
        loop {
            let freed = self.sites.freed.notified();
            match self.sites.ask(&site, self.network, Instant::now()) {
                Answer::Taken => return Some(Turn { sites: Arc::clone(&self.sites), site }),
                Answer::At(then) => tokio::time::sleep_until(then.into()).await,
                Answer::Busy => freed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_rests_as_long_as_any_pause_that_the_fetcher_keeps() {
        let pause_ms_max = openledger_fetch::FetchLimits::default().delay_ms_max;
        assert_eq!(limits::SITE_REST, Duration::from_millis(pause_ms_max));
    }

    #[test]
    fn a_site_is_one_networks_until_it_rested() {
        let pause = Duration::from_secs(60);
        let sites = Sites::new(pause);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(sites.ask("a.org", 0, start), Answer::Taken);
        assert_eq!(sites.ask("a.org", 0, start), Answer::Taken, "the worker itself is polite");
        assert_eq!(sites.ask("a.org", 1, start), Answer::Busy);
        assert_eq!(sites.ask("b.org", 1, start), Answer::Taken);
        sites.done("a.org", after(5));
        assert_eq!(sites.ask("a.org", 1, after(6)), Answer::Busy);
        sites.done("a.org", after(10));
        assert_eq!(sites.ask("a.org", 1, after(11)), Answer::At(after(70)));
        assert_eq!(sites.ask("a.org", 1, after(70)), Answer::Taken);
        assert_eq!(sites.ask("a.org", 0, after(200)), Answer::Busy);
    }

    #[tokio::test]
    async fn who_waits_for_a_site_is_told_when_it_is_free() {
        let sites = Sites::new(Duration::ZERO);
        let (first, second) = (Turns::new(Arc::clone(&sites), 0), Turns::new(sites, 1));
        let turn = first.take("https://www.a.org/x").await.unwrap();
        let waiting = tokio::spawn(async move { second.take("http://a.org/y").await.is_some() });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(turn);
        assert!(waiting.await.unwrap());
        assert!(Turns::alone().take("no address").await.is_none());
    }
}

//! Whose turn it is at a site: one request at a time, with a pause after each.
//!
//! A pure machine over a virtual clock in milliseconds. A request names two
//! sites, the registrable domain and the server's network, and waits for both:
//! the first keeps a domain of many servers from being hit in parallel, the
//! second a server of many domains. It is not a queue: who asks again at the
//! right time is served; and it bounds one node only, the swarm's sum is the
//! business of the host gate.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What takes one request at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// A registrable domain.
    Domain(String),
    /// A server: an IPv4 address or an IPv6 /64.
    Network(IpAddr),
}

/// The answer to a request for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Go; [`Politeness::done`] must follow.
    Granted,
    /// Ask again at this time, in milliseconds.
    At(u64),
    /// Somebody is there; ask again when he is done.
    Busy,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    busy: bool,
    free_at_ms: u64,
}

/// Turns at all sites of one node.
#[derive(Debug)]
pub struct Politeness {
    delay_ms_default: u64,
    delay_ms_max: u64,
    sites_max: usize,
    slots: BTreeMap<Site, Slot>,
}

impl Politeness {
    /// A machine that pauses `delay_ms_default` after each request, at most
    /// `delay_ms_max` whatever a site asks for, and remembers about `sites_max`
    /// sites.
    pub fn new(delay_ms_default: u64, delay_ms_max: u64, sites_max: usize) -> Self {
        Self { delay_ms_default, delay_ms_max, sites_max, slots: BTreeMap::new() }
    }

    /// Asks for a turn at all of `sites` at once; nothing is held unless granted.
    pub fn ask(&mut self, now_ms: u64, sites: &[Site]) -> Turn {
        let mut free_at_ms = 0;
        for slot in sites.iter().filter_map(|site| self.slots.get(site)) {
            if slot.busy {
                return Turn::Busy;
            }
            free_at_ms = free_at_ms.max(slot.free_at_ms);
        }
        if free_at_ms > now_ms {
            return Turn::At(free_at_ms);
        }
        self.forget_idle(now_ms);
        for site in sites {
            self.slot(site).busy = true;
        }
        Turn::Granted
    }

    /// Ends a granted turn; the pause starts now. `asked_ms` is what the site asks
    /// for (crawl-delay); it holds for the domain, not for others on its server.
    pub fn done(&mut self, now_ms: u64, sites: &[Site], asked_ms: Option<u64>) {
        for site in sites {
            let pause_ms = match site {
                Site::Domain(_) => self.pause_ms(asked_ms),
                Site::Network(_) => self.pause_ms(None),
            };
            let slot = self.slot(site);
            slot.busy = false;
            slot.free_at_ms = slot.free_at_ms.max(now_ms.saturating_add(pause_ms));
        }
    }

    /// The pause after a request to a site that asks for `asked_ms`: never
    /// shorter than the default one, and capped.
    pub fn pause_ms(&self, asked_ms: Option<u64>) -> u64 {
        let wanted = asked_ms.unwrap_or(0).min(self.delay_ms_max);
        wanted.max(self.delay_ms_default)
    }

    /// Keeps away from a site that said so (429, 503) for `pause_ms`, capped.
    pub fn back_off(&mut self, now_ms: u64, site: &Site, pause_ms: u64) {
        let until = now_ms.saturating_add(pause_ms.min(self.delay_ms_max));
        let slot = self.slot(site);
        slot.free_at_ms = slot.free_at_ms.max(until);
    }

    /// How many sites are remembered.
    pub fn sites(&self) -> usize {
        self.slots.len()
    }

    fn slot(&mut self, site: &Site) -> &mut Slot {
        self.slots.entry(site.clone()).or_default()
    }

    /// Drops what holds nobody back any more.
    fn forget_idle(&mut self, now_ms: u64) {
        if self.slots.len() >= self.sites_max {
            self.slots.retain(|_, slot| slot.busy || slot.free_at_ms > now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sites(domain: &str, last: u8) -> [Site; 2] {
        [Site::Domain(domain.into()), Site::Network(IpAddr::from([9, 9, 9, last]))]
    }

    #[test]
    fn one_at_a_time_then_a_pause() {
        let mut p = Politeness::new(1_000, 60_000, 100);
        let a = sites("a.org", 1);
        assert_eq!(p.ask(0, &a), Turn::Granted);
        assert_eq!(p.ask(50, &a), Turn::Busy);
        p.done(200, &a, None);
        assert_eq!(p.ask(1_199, &a), Turn::At(1_200));
        assert_eq!(p.ask(1_200, &a), Turn::Granted);
    }

    #[test]
    fn domain_and_server_both_count() {
        let mut p = Politeness::new(1_000, 60_000, 100);
        assert_eq!(p.ask(0, &sites("a.org", 1)), Turn::Granted);
        assert_eq!(p.ask(0, &sites("a.org", 2)), Turn::Busy, "same domain");
        assert_eq!(p.ask(0, &sites("b.org", 1)), Turn::Busy, "same server");
        assert_eq!(p.ask(0, &sites("b.org", 2)), Turn::Granted, "a refusal holds nothing");
    }

    #[test]
    fn a_crawl_delay_lengthens_the_pause_up_to_the_cap() {
        let mut p = Politeness::new(1_000, 60_000, 100);
        let a = sites("a.org", 1);
        assert_eq!(p.ask(0, &a), Turn::Granted);
        p.done(100, &a, Some(5_000));
        assert_eq!(p.ask(100, &a), Turn::At(5_100));
        // Others on that server wait for the default only.
        assert_eq!(p.ask(1_100, &sites("b.org", 1)), Turn::Granted);
        assert_eq!(p.pause_ms(Some(3_600_000)), 60_000);
        assert_eq!(p.pause_ms(Some(10)), 1_000);
    }

    #[test]
    fn a_site_that_is_overloaded_is_left_alone() {
        let mut p = Politeness::new(1_000, 60_000, 100);
        let a = sites("a.org", 1);
        p.back_off(0, &a[0], 10_000);
        assert_eq!(p.ask(500, &a), Turn::At(10_000));
        p.back_off(0, &a[0], u64::MAX);
        assert_eq!(p.ask(500, &a), Turn::At(60_000));
    }

    #[test]
    fn memory_is_bounded_by_what_is_still_waited_for() {
        let mut p = Politeness::new(1_000, 60_000, 10);
        for i in 0..1_000_u64 {
            let s = sites(&format!("{i}.org"), 1);
            assert_eq!(p.ask(i * 2_000, &s), Turn::Granted);
            p.done(i * 2_000, &s, None);
        }
        assert!(p.sites() <= 12);
    }

    proptest! {
        /// Whatever the order of requests, two at one site never overlap and
        /// never follow each other faster than the pause.
        #[test]
        fn spacing_holds(steps in prop::collection::vec((0..3_u8, 0..3_u8, 0..700_u64), 1..200)) {
            let mut p = Politeness::new(1_000, 60_000, 4);
            let (mut now, mut running) = (0_u64, Vec::<([Site; 2], u64)>::new());
            let mut ended = BTreeMap::<Site, u64>::new();
            for (domain, server, wait) in steps {
                now += wait;
                running.retain(|(s, until)| {
                    if *until > now { return true; }
                    p.done(now, s, None);
                    for site in s { ended.insert(site.clone(), now); }
                    false
                });
                let s = sites(&format!("{domain}.org"), server);
                if p.ask(now, &s) == Turn::Granted {
                    for site in &s {
                        prop_assert!(running.iter().all(|(other, _)| !other.contains(site)));
                        if let Some(end) = ended.get(site) { prop_assert!(now >= end + 1_000); }
                    }
                    running.push((s, now + 300));
                }
            }
        }
    }
}

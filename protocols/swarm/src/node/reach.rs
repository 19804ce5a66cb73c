//! Whether others can dial this node, and which relays take calls for it when they cannot. Pure:
//! reports and time come in, nothing is done.
//!
//! A test of one address is made once, by one peer that offers it (AutoNAT v2). One address found
//! good makes the node dialable. A liar can at most make us take a relay that we do not need, which
//! costs nearly nothing; so one failed test is enough to look for one.
//!
//! Deliberately absent: the tests and the reservations themselves, which the library makes.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use openledger_wire::UnixMs;

use super::addresses::{ip_of, is_relayed};
use crate::defaults::node as defaults;
use crate::peers::back_off_ms;

/// Whether others can dial this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// Not known yet: no test was made.
    #[default]
    Unknown,
    /// Others can: the node serves the distributed table and, if configured, relays for others.
    Direct,
    /// Others cannot: relays take calls for it, once it knows some.
    Hidden,
}

/// A peer that relays.
struct Offer {
    address: Multiaddr,
    /// Reservations in a row that it refused or lost.
    failures: u32,
    next_try: UnixMs,
}

/// What is known about reaching this node.
pub(super) struct Reach {
    certain: bool,
    /// Breaks ties between relays, so that nobody can choose an id that everybody calls first.
    salt: [u8; 32],
    bootstrap: BTreeSet<PeerId>,
    direct: BTreeSet<Multiaddr>,
    failed_since: Option<UnixMs>,
    waiting_since: Option<UnixMs>,
    offers: BTreeMap<PeerId, Offer>,
    reserved: Vec<(ListenerId, PeerId)>,
}

impl Reach {
    /// Nothing is known yet, unless it is `certain` that others can dial this node. Relays among
    /// the `bootstrap` peers are asked first.
    pub(super) fn new(certain: bool, bootstrap: &[PeerId], salt: [u8; 32]) -> Self {
        Self {
            certain,
            salt,
            bootstrap: bootstrap.iter().copied().collect(),
            direct: BTreeSet::new(),
            failed_since: None,
            waiting_since: None,
            offers: BTreeMap::new(),
            reserved: Vec::new(),
        }
    }

    /// Whether others can dial this node, by what is known at `now`.
    pub(super) fn standing(&self, now: UnixMs) -> Reachability {
        let over = |since: Option<UnixMs>, ms: u64| {
            since.is_some_and(|since| now.0.saturating_sub(since.0) >= ms)
        };
        if self.certain || !self.direct.is_empty() {
            Reachability::Direct
        } else if over(self.failed_since, defaults::UNREACHABLE_MS)
            || over(self.waiting_since, defaults::UNTESTED_MS)
        {
            Reachability::Hidden
        } else {
            Reachability::Unknown
        }
    }

    /// An own address was found good. False if it is not to be named to others: it leads through a
    /// relay that was not asked to take calls, or there are enough.
    pub(super) fn confirmed(&mut self, address: &Multiaddr) -> bool {
        if is_relayed(address) {
            // The library names the relays' ones with our id; a tester may find others good.
            let ours = matches!(address.iter().last(), Some(Protocol::P2p(_)));
            let via = address.iter().find_map(|part| match part {
                Protocol::P2p(peer) => Some(peer),
                _ => None,
            });
            return ours && via.is_some_and(|relay| self.is_reserved(&relay));
        }
        if self.direct.len() >= defaults::EXTERNAL_MAX && !self.direct.contains(address) {
            return false;
        }
        self.direct.insert(address.clone());
        self.failed_since = None;
        self.waiting_since = None;
        true
    }

    /// An own address is not good any more.
    pub(super) fn expired(&mut self, address: &Multiaddr) {
        self.direct.remove(address);
    }

    /// A test found that an own address cannot be dialled. What is no address of a socket, such as
    /// what peers see of us through a relay, says nothing.
    pub(super) fn test_failed(&mut self, address: &Multiaddr, now: UnixMs) {
        if !is_relayed(address) && ip_of(address).is_some() && self.direct.is_empty() {
            self.failed_since.get_or_insert(now);
        }
    }

    /// Whether there are peers, who could test.
    pub(super) fn met(&mut self, anybody: bool, now: UnixMs) {
        if !anybody {
            self.waiting_since = None;
        } else if self.direct.is_empty() {
            self.waiting_since.get_or_insert(now);
        }
    }

    /// A connected peer says that it relays.
    pub(super) fn offered(&mut self, peer: PeerId, address: Multiaddr) {
        let fresh = Offer { address: address.clone(), failures: 0, next_try: UnixMs(0) };
        self.offers.entry(peer).or_insert(fresh).address = address;
    }

    /// A peer left or relays no more.
    pub(super) fn withdrawn(&mut self, peer: &PeerId) {
        self.offers.remove(peer);
    }

    /// The relay to ask next, with its address; none when there are enough or nobody is left to ask.
    pub(super) fn next_relay(&self, now: UnixMs) -> Option<(PeerId, Multiaddr)> {
        if self.reserved.len() >= defaults::RELAYS_MAX {
            return None;
        }
        let free = self.offers.iter().filter(|(p, o)| !self.is_reserved(p) && o.next_try <= now);
        let best = free.min_by_key(|(peer, offer)| {
            let tie = blake3::keyed_hash(&self.salt, &peer.to_bytes());
            (!self.bootstrap.contains(peer), offer.failures, *tie.as_bytes())
        });
        best.map(|(peer, offer)| (*peer, offer.address.clone()))
    }

    /// A relay was asked.
    pub(super) fn reserving(&mut self, listener: ListenerId, relay: PeerId) {
        self.reserved.push((listener, relay));
    }

    /// A relay takes calls for us now, or goes on to.
    pub(super) fn reserved(&mut self, relay: &PeerId) {
        if let Some(offer) = self.offers.get_mut(relay) {
            offer.failures = 0;
        }
    }

    /// A relay refused, was lost or cannot be asked: not again at once.
    pub(super) fn refused(&mut self, relay: &PeerId, now: UnixMs) {
        if let Some(offer) = self.offers.get_mut(relay) {
            offer.failures = offer.failures.saturating_add(1);
            offer.next_try = now.plus_ms(back_off_ms(offer.failures));
        }
    }

    /// A listener was closed; true if it was a relay's that we wanted.
    pub(super) fn closed(&mut self, listener: ListenerId, now: UnixMs) -> bool {
        let Some(at) = self.reserved.iter().position(|(id, _)| *id == listener) else {
            return false;
        };
        let (_, relay) = self.reserved.swap_remove(at);
        self.refused(&relay, now);
        true
    }

    /// Wants no relays any more; gives the listeners to close.
    pub(super) fn give_up(&mut self) -> Vec<ListenerId> {
        std::mem::take(&mut self.reserved).into_iter().map(|(listener, _)| listener).collect()
    }

    fn is_reserved(&self, relay: &PeerId) -> bool {
        self.reserved.iter().any(|(_, peer)| peer == relay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reachability::{Direct, Hidden, Unknown};

    fn peer(seed: u8) -> PeerId {
        let key = openledger_wire::NodeKey::from_seed(&[seed; 32]);
        super::super::addresses::peer_of(&key.public()).unwrap()
    }

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn reach(certain: bool) -> Reach {
        Reach::new(certain, &[peer(1)], [7; 32])
    }

    const SECOND: UnixMs = UnixMs(1_000);

    #[test]
    fn a_failed_test_hides_after_a_while_and_a_good_address_ends_it() {
        let mut reach = reach(false);
        let own = at("/ip4/192.0.2.1/udp/4001/quic-v1");
        reach.test_failed(&own, SECOND);
        assert_eq!(reach.standing(SECOND), Unknown);
        let later = SECOND.plus_ms(defaults::UNREACHABLE_MS);
        assert_eq!(reach.standing(later), Hidden);
        assert!(reach.confirmed(&own));
        assert_eq!(reach.standing(later), Direct);
        reach.test_failed(&at("/ip4/192.0.2.1/tcp/4001"), later);
        assert_eq!(reach.standing(later.plus_ms(600_000)), Direct, "one good address is enough");
        reach.expired(&own);
        assert_eq!(reach.standing(later), Unknown);
    }

    #[test]
    fn tests_of_what_is_no_socket_say_nothing() {
        let mut reach = reach(false);
        let relay = peer(1);
        reach.test_failed(&at(&format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit")), SECOND);
        reach.test_failed(&at(&format!("/p2p/{relay}")), SECOND);
        assert_eq!(reach.standing(SECOND.plus_ms(3_600_000)), Unknown);
    }

    #[test]
    fn nobody_to_test_for_long_is_like_a_failed_test_but_only_among_peers() {
        let mut reach = reach(false);
        reach.met(true, SECOND);
        let later = SECOND.plus_ms(defaults::UNTESTED_MS);
        assert_eq!(reach.standing(later), Hidden);
        reach.met(false, later);
        assert_eq!(reach.standing(later.plus_ms(3_600_000)), Unknown);
        assert_eq!(super::tests::reach(true).standing(later), Direct);
    }

    #[test]
    fn bootstrap_relays_come_first_and_no_more_than_enough_are_asked() {
        let mut reach = reach(false);
        for n in 1..=5 {
            reach.offered(peer(n), at("/ip4/192.0.2.1/tcp/1"));
        }
        let mut asked = Vec::new();
        while let Some((relay, _)) = reach.next_relay(SECOND) {
            reach.reserving(ListenerId::next(), relay);
            asked.push(relay);
        }
        assert_eq!(asked.len(), defaults::RELAYS_MAX);
        assert_eq!(asked[0], peer(1));
        assert_eq!(reach.give_up().len(), defaults::RELAYS_MAX);
    }

    #[test]
    fn a_relay_that_refuses_waits_its_turn_and_others_are_asked() {
        let mut reach = reach(false);
        for n in 1..=2 {
            reach.offered(peer(n), at("/ip4/192.0.2.1/tcp/1"));
        }
        let listener = ListenerId::next();
        reach.reserving(listener, peer(1));
        assert!(reach.closed(listener, SECOND) && !reach.closed(listener, SECOND));
        assert_eq!(reach.next_relay(SECOND).unwrap().0, peer(2));
        reach.withdrawn(&peer(2));
        assert!(reach.next_relay(SECOND).is_none());
        assert_eq!(reach.next_relay(SECOND.plus_ms(back_off_ms(1))).unwrap().0, peer(1));
    }

    #[test]
    fn only_relays_that_were_asked_are_named_as_ways_to_us() {
        let mut reach = reach(false);
        let (relay, me) = (peer(1), peer(9));
        let circuit = at(&format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit"));
        let named = circuit.clone().with(Protocol::P2p(me));
        assert!(!reach.confirmed(&named));
        reach.reserving(ListenerId::next(), relay);
        assert!(reach.confirmed(&named) && !reach.confirmed(&circuit));
        assert_eq!(reach.standing(SECOND), Unknown, "a relay makes nobody dialable");
    }

    #[test]
    fn good_addresses_are_bounded() {
        let mut reach = reach(false);
        for n in 0..defaults::EXTERNAL_MAX {
            assert!(reach.confirmed(&at(&format!("/ip4/192.0.2.1/tcp/{}", n + 1))));
        }
        assert!(!reach.confirmed(&at("/ip4/192.0.2.2/tcp/1")));
        assert!(reach.confirmed(&at("/ip4/192.0.2.1/tcp/1")));
    }
}

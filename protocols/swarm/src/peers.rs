//! The peer book: who is known, when to try again, who is banned. Pure: time comes in, no I/O.
//!
//! Remembered peers are those that were connected once; they are what starts a node when every
//! bootstrap peer is dead. Deliberately absent: sockets, files, and the meaning of a strike.

use std::collections::BTreeMap;

use openledger_wire::limits::ADDRESSES_MAX;
use openledger_wire::{NodeId, UnixMs};

use crate::defaults::peers as defaults;

/// First line of the remembered peers' text: what it is, and its schema.
const HEADER: &str = "openledger peers 1";

/// What an address through a relay contains.
const RELAYED: &str = "/p2p-circuit";

/// How a peer became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Named in the configuration; never forgotten.
    Bootstrap,
    /// Connected in an earlier or in this run.
    Remembered,
    /// Heard of from others; believed least.
    Heard,
}

#[derive(Clone, Debug)]
struct Entry {
    addresses: Vec<String>,
    origin: Origin,
    last_seen: UnixMs,
    failures: u32,
    next_try: UnixMs,
    connected: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    strikes: u32,
    last_strike: UnixMs,
    bans: u32,
    until: UnixMs,
}

/// Known peers, bounded.
#[derive(Clone, Debug)]
pub struct PeerBook {
    me: NodeId,
    /// Breaks ties between peers, so that nobody can choose an id that is always tried first.
    salt: [u8; 32],
    peers: BTreeMap<NodeId, Entry>,
    records: BTreeMap<NodeId, Record>,
    changed: bool,
}

/// The wait after a number of failures in a row: 5 s, doubled up to 30 min.
#[must_use]
pub fn back_off_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    (defaults::BACK_OFF_MS_MIN << doublings).min(defaults::BACK_OFF_MS_MAX)
}

impl Entry {
    /// The addresses worth dialling. Relays carry little and not for long, so a mesh is not filled
    /// through them: they are for peers that somebody named, and for a node without any peer.
    fn worth_dialling(&self, alone: bool) -> Vec<String> {
        let relayed_too = alone || self.origin == Origin::Bootstrap;
        let addresses = self.addresses.iter();
        addresses.filter(|a| relayed_too || !a.contains(RELAYED)).cloned().collect()
    }
}

impl PeerBook {
    /// An empty book of this node.
    #[must_use]
    pub fn new(me: NodeId, salt: [u8; 32]) -> Self {
        let (peers, records) = (BTreeMap::new(), BTreeMap::new());
        Self { me, salt, peers, records, changed: false }
    }

    /// Learns addresses of a peer. Newest addresses are kept; what is only heard never pushes out
    /// what was remembered.
    pub fn learn(&mut self, node: NodeId, addresses: &[String], origin: Origin) {
        if node == self.me {
            return;
        }
        if !self.peers.contains_key(&node) {
            if self.peers.len() >= defaults::KNOWN_MAX && !self.make_room(origin) {
                return;
            }
            let entry = Entry {
                addresses: Vec::new(),
                origin,
                last_seen: UnixMs(0),
                failures: 0,
                next_try: UnixMs(0),
                connected: false,
            };
            self.peers.insert(node, entry);
        }
        let Some(entry) = self.peers.get_mut(&node) else { return };
        entry.origin = entry.origin.min(origin);
        for address in addresses.iter().filter(|a| a.len() <= defaults::ADDRESS_BYTES_MAX) {
            if !entry.addresses.contains(address) {
                entry.addresses.insert(0, address.clone());
                self.changed |= entry.last_seen.0 > 0;
            }
        }
        entry.addresses.truncate(ADDRESSES_MAX);
    }

    /// Drops the least useful entry that is worth less than one of this origin.
    fn make_room(&mut self, origin: Origin) -> bool {
        let droppable = self
            .peers
            .iter()
            .filter(|(_, e)| !e.connected && e.origin != Origin::Bootstrap && e.origin >= origin);
        let worst =
            droppable.max_by_key(|(n, e)| (e.origin, e.failures, u64::MAX - e.last_seen.0, **n));
        match worst.map(|(node, _)| *node) {
            Some(node) => self.peers.remove(&node).is_some(),
            None => false,
        }
    }

    /// A connection to the peer stands; `address` is where it was dialled, if we dialled.
    pub fn connected(&mut self, node: NodeId, address: Option<String>, now: UnixMs) {
        self.learn(node, address.as_slice(), Origin::Remembered);
        if let Some(entry) = self.peers.get_mut(&node) {
            entry.connected = true;
            entry.failures = 0;
            entry.last_seen = now;
            self.changed = true;
        }
    }

    /// The last connection to the peer ended.
    pub fn disconnected(&mut self, node: NodeId, now: UnixMs) {
        if let Some(entry) = self.peers.get_mut(&node) {
            entry.connected = false;
            entry.last_seen = now;
            entry.next_try = now.plus_ms(defaults::BACK_OFF_MS_MIN);
            self.changed = true;
        }
    }

    /// A dial did not succeed.
    pub fn failed(&mut self, node: NodeId, now: UnixMs) {
        if let Some(entry) = self.peers.get_mut(&node) {
            entry.failures = entry.failures.saturating_add(1);
            entry.next_try = now.plus_ms(back_off_ms(entry.failures));
        }
    }

    /// A dial was begun: not again before it had its chance.
    pub fn dialling(&mut self, node: NodeId, now: UnixMs) {
        if let Some(entry) = self.peers.get_mut(&node) {
            entry.next_try = now.plus_ms(defaults::BACK_OFF_MS_MIN);
        }
    }

    /// Up to `count` peers worth dialling now: fewest failures first, then those seen last. A node
    /// without any connection (`alone`) does not sit out long waits, and calls through relays.
    #[must_use]
    pub fn candidates(&self, now: UnixMs, count: usize, alone: bool) -> Vec<(NodeId, Vec<String>)> {
        let due = |e: &Entry| {
            let mut next = e.next_try;
            if alone && e.failures > 0 {
                let wait = back_off_ms(e.failures);
                let shorter = wait.saturating_sub(defaults::ALONE_WAIT_MS_MAX);
                next = UnixMs(next.0.saturating_sub(shorter));
            }
            next <= now
        };
        let mut found: Vec<(&NodeId, &Entry, Vec<String>)> = self
            .peers
            .iter()
            .filter(|(n, e)| !e.connected && due(e) && !self.is_banned(n, now))
            .map(|(n, e)| (n, e, e.worth_dialling(alone)))
            .filter(|(_, _, addresses)| !addresses.is_empty())
            .collect();
        found.sort_by_cached_key(|(node, e, _)| {
            let tie = blake3::keyed_hash(&self.salt, node.as_bytes());
            (e.failures, e.origin, u64::MAX - e.last_seen.0, *tie.as_bytes())
        });
        found.truncate(count);
        found.into_iter().map(|(n, _, addresses)| (*n, addresses)).collect()
    }

    /// Known addresses of a peer.
    #[must_use]
    pub fn addresses(&self, node: &NodeId) -> Vec<String> {
        self.peers.get(node).map(|e| e.addresses.clone()).unwrap_or_default()
    }

    /// Bans a peer for some time.
    pub fn ban(&mut self, node: NodeId, ms: u64, now: UnixMs) {
        let record = self.record(node);
        record.until = record.until.max(now.plus_ms(ms));
    }

    /// Whether a peer is banned now.
    #[must_use]
    pub fn is_banned(&self, node: &NodeId, now: UnixMs) -> bool {
        self.records.get(node).is_some_and(|r| r.until > now)
    }

    /// Counts a misdeed. After some in short time the peer is banned: 5 s the first time, doubled
    /// up to 30 min; gives the ban in milliseconds.
    pub fn strike(&mut self, node: NodeId, now: UnixMs) -> Option<u64> {
        let record = self.record(node);
        let forgiven = now.0.saturating_sub(record.last_strike.0) / defaults::STRIKE_FORGIVEN_MS;
        record.strikes = record.strikes.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        record.strikes += 1;
        record.last_strike = now;
        if record.strikes < defaults::STRIKES_MAX {
            return None;
        }
        record.strikes = 0;
        record.bans = record.bans.saturating_add(1);
        let ms = back_off_ms(record.bans);
        record.until = record.until.max(now.plus_ms(ms));
        Some(ms)
    }

    fn record(&mut self, node: NodeId) -> &mut Record {
        if self.records.len() >= defaults::RECORDS_MAX && !self.records.contains_key(&node) {
            // The one whose ban and strikes are oldest matters least.
            let oldest = self.records.iter().min_by_key(|(_, r)| r.until.max(r.last_strike));
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.records.remove(&oldest);
            }
        }
        self.records.entry(node).or_default()
    }

    /// How many peers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether nobody is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whether what [`PeerBook::to_text`] gives has changed since the last call of this.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The peers to remember, those seen last first: a header, then per line the node id, the
    /// milliseconds when it was seen, and its addresses.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut seen: Vec<(&NodeId, &Entry)> = self
            .peers
            .iter()
            .filter(|(_, e)| e.last_seen.0 > 0 && !e.addresses.is_empty())
            .collect();
        seen.sort_by_key(|(node, e)| (u64::MAX - e.last_seen.0, **node));
        seen.truncate(defaults::REMEMBERED_MAX);
        let mut text = String::from(HEADER);
        text.push('\n');
        for (node, entry) in seen {
            text.push_str(&format!("{node} {} {}\n", entry.last_seen, entry.addresses.join(" ")));
        }
        text
    }

    /// Reads what [`PeerBook::to_text`] wrote. Lines that make no sense are skipped; gives how many
    /// peers were read, or nothing if this is not such a text.
    pub fn remember(&mut self, text: &str) -> Option<usize> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return None;
        }
        let mut count = 0;
        for line in lines.take(defaults::REMEMBERED_MAX) {
            let mut words = line.split(' ');
            let node = words.next().and_then(|w| w.parse::<NodeId>().ok());
            let seen = words.next().and_then(|w| w.parse::<u64>().ok());
            let (Some(node), Some(seen)) = (node, seen) else { continue };
            let addresses: Vec<String> = words.take(ADDRESSES_MAX).map(str::to_owned).collect();
            self.learn(node, &addresses, Origin::Remembered);
            if let Some(entry) = self.peers.get_mut(&node) {
                entry.last_seen = entry.last_seen.max(UnixMs(seen));
                count += 1;
            }
        }
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        NodeId(id)
    }

    fn at(n: u16) -> Vec<String> {
        vec![format!("/ip4/192.0.2.1/tcp/{n}")]
    }

    fn book() -> PeerBook {
        PeerBook::new(node(0), [7; 32])
    }

    #[test]
    fn the_ladder_goes_from_five_seconds_to_half_an_hour() {
        assert_eq!(back_off_ms(1), 5_000);
        assert_eq!(back_off_ms(2), 10_000);
        assert_eq!(back_off_ms(9), 1_280_000);
        assert_eq!(back_off_ms(10), 1_800_000);
        assert_eq!(back_off_ms(u32::MAX), 1_800_000);
    }

    #[test]
    fn failures_wait_unless_the_node_is_alone() {
        let mut book = book();
        book.learn(node(1), &at(1), Origin::Bootstrap);
        let mut now = UnixMs(1_000_000);
        for _ in 0..8 {
            book.failed(node(1), now);
        }
        now = now.plus_ms(20_000);
        assert!(book.candidates(now, 9, false).is_empty());
        assert_eq!(book.candidates(now, 9, true).len(), 1);
        book.connected(node(1), None, now);
        book.disconnected(node(1), now);
        assert_eq!(book.candidates(now.plus_ms(5_000), 9, false).len(), 1, "success resets");
    }

    #[test]
    fn candidates_are_not_connected_not_banned_and_have_addresses() {
        let mut book = book();
        let now = UnixMs(1_000_000);
        for n in 1..=4 {
            book.learn(node(n), &at(n), Origin::Heard);
        }
        book.learn(node(5), &[], Origin::Heard);
        book.learn(node(0), &at(9), Origin::Heard);
        book.connected(node(1), None, now);
        book.ban(node(2), 1_000, now);
        let names: Vec<NodeId> =
            book.candidates(now, 9, false).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&node(3)) && names.contains(&node(4)));
        assert!(!book.is_banned(&node(2), now.plus_ms(1_000)));
    }

    #[test]
    fn relays_are_called_through_only_for_the_named_and_by_the_lonely() {
        let mut book = book();
        let relayed = |n: u16| format!("/ip4/192.0.2.7/tcp/1/p2p/R/p2p-circuit/{n}");
        book.learn(node(1), &[relayed(1)], Origin::Heard);
        book.learn(node(2), &[relayed(2), "/ip4/192.0.2.2/tcp/1".into()], Origin::Heard);
        book.learn(node(3), &[relayed(3)], Origin::Bootstrap);
        let found = |alone| book.candidates(UnixMs(1), 9, alone);
        let direct = vec!["/ip4/192.0.2.2/tcp/1".to_owned()];
        assert_eq!(found(false), [(node(3), vec![relayed(3)]), (node(2), direct)]);
        assert_eq!(found(true).len(), 3);
    }

    #[test]
    fn hearsay_never_pushes_out_the_remembered() {
        let mut book = book();
        let now = UnixMs(5);
        book.connected(node(1), Some("/ip4/192.0.2.9/tcp/1".into()), now);
        book.disconnected(node(1), now);
        book.learn(node(2), &at(2), Origin::Bootstrap);
        for n in 3..(defaults::KNOWN_MAX as u16 + 500) {
            book.learn(node(n), &at(n), Origin::Heard);
        }
        assert_eq!(book.len(), defaults::KNOWN_MAX);
        assert!(!book.addresses(&node(1)).is_empty());
        assert!(!book.addresses(&node(2)).is_empty());
    }

    #[test]
    fn strikes_in_short_time_ban_longer_each_time() {
        let mut book = book();
        let mut now = UnixMs(1_000_000);
        let mut bans = Vec::new();
        for _ in 0..3 * defaults::STRIKES_MAX {
            bans.extend(book.strike(node(1), now));
            now = now.plus_ms(1_000);
        }
        assert_eq!(bans, [5_000, 10_000, 20_000]);
        for _ in 0..20 {
            now = now.plus_ms(defaults::STRIKE_FORGIVEN_MS);
            assert_eq!(book.strike(node(2), now), None, "rare mistakes are forgiven");
        }
    }

    #[test]
    fn remembered_peers_survive_as_text_and_nonsense_is_skipped() {
        let mut book = book();
        book.connected(node(1), Some("/ip4/192.0.2.1/tcp/1".into()), UnixMs(10));
        book.connected(node(2), Some("/ip4/192.0.2.2/tcp/1".into()), UnixMs(20));
        book.learn(node(3), &at(3), Origin::Heard);
        assert!(book.take_changed() && !book.take_changed());
        let mut text = book.to_text();
        text.push_str("what is this\n");
        let mut other = PeerBook::new(node(9), [1; 32]);
        assert_eq!(other.remember(&text), Some(2));
        assert_eq!(other.candidates(UnixMs(30), 9, true).len(), 2);
        assert_eq!(other.remember("openledger peers 2\n"), None);
        assert_eq!(other.remember(""), None);
    }
}

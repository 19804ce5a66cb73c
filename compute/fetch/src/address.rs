//! Which addresses a node must never connect to on a stranger's word.
//!
//! The table holds every special-purpose block of the IANA registries (RFC 6890
//! and its updates) that is not global unicast. Addresses that carry an IPv4
//! address inside (mapped, NAT64, 6to4, Teredo) are judged by it too, since a
//! translator on the path would deliver them there. This module knows nothing of
//! names or of the hosts that a network profile allows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AddressClass {
    /// `0.0.0.0/8`, `::`: this host or network.
    Unspecified,
    /// `127.0.0.0/8`, `::1`: this machine.
    Loopback,
    /// RFC 1918.
    Private,
    /// `100.64.0.0/10`: behind a carrier's address translation (RFC 6598).
    Shared,
    /// `169.254.0.0/16`, `fe80::/10`: this link, and the metadata services of clouds.
    LinkLocal,
    /// `fc00::/7` (RFC 4193).
    UniqueLocal,
    /// `fec0::/10` (deprecated by RFC 3879).
    SiteLocal,
    /// `192.0.0.0/24`, `2001::/23` other than Teredo: protocol assignments.
    Protocol,
    /// Blocks reserved for documentation.
    Documentation,
    /// Blocks reserved for benchmarks (RFC 2544).
    Benchmark,
    /// Group addresses.
    Multicast,
    /// `240.0.0.0/4`, the limited broadcast address included.
    Reserved,
    /// `100::/64`, a sink (RFC 6666).
    Discard,
    /// `192.88.99.0/24`, `2002::/16`: relayed through 6to4 (deprecated by RFC 7526).
    SixToFour,
    /// `2001::/32`: relayed through Teredo (RFC 4380).
    Teredo,
    /// `64:ff9b:1::/48`: translation into a local network (RFC 8215).
    Nat64Local,
    /// Any other IPv6 address outside `2000::/3`.
    NotGlobal,
    /// The node's own public address, where its router may offer more than to strangers.
    Own,
}

impl AddressClass {
    /// Whether a network profile may open such addresses by name. Link-local ones
    /// stay shut even then: cloud metadata services live there.
    pub fn may_be_named(self) -> bool {
        matches!(self, Self::Loopback | Self::Private | Self::Shared | Self::UniqueLocal)
    }

    /// The stable name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "carrier-shared",
            Self::LinkLocal => "link-local",
            Self::UniqueLocal => "unique-local",
            Self::SiteLocal => "site-local",
            Self::Protocol => "protocol-assignment",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmark",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Discard => "discard-only",
            Self::SixToFour => "6to4",
            Self::Teredo => "teredo",
            Self::Nat64Local => "local NAT64",
            Self::NotGlobal => "not globally routed",
            Self::Own => "own public",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One refused IPv4 block: network, prefix length, class.
type BlockV4 = (Ipv4Addr, u32, AddressClass);
/// One refused IPv6 block: network, prefix length, class.
type BlockV6 = (Ipv6Addr, u32, AddressClass);

/// Refused IPv4 blocks.
pub const DENIED_V4: &[BlockV4] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, AddressClass::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, AddressClass::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, AddressClass::Shared),
    (Ipv4Addr::new(127, 0, 0, 0), 8, AddressClass::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, AddressClass::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, AddressClass::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, AddressClass::Protocol),
    (Ipv4Addr::new(192, 0, 2, 0), 24, AddressClass::Documentation),
    (Ipv4Addr::new(192, 88, 99, 0), 24, AddressClass::SixToFour),
    (Ipv4Addr::new(192, 168, 0, 0), 16, AddressClass::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, AddressClass::Benchmark),
    (Ipv4Addr::new(198, 51, 100, 0), 24, AddressClass::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, AddressClass::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, AddressClass::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, AddressClass::Reserved),
];

/// Refused IPv6 blocks, the narrower before the wider.
pub const DENIED_V6: &[BlockV6] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 128, AddressClass::Unspecified),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 1), 128, AddressClass::Loopback),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, AddressClass::Nat64Local),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, AddressClass::Discard),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, AddressClass::Teredo),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, AddressClass::Protocol),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, AddressClass::Documentation),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, AddressClass::SixToFour),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, AddressClass::Documentation),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, AddressClass::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, AddressClass::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, AddressClass::SiteLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, AddressClass::Multicast),
];

/// Why `address` must not be connected to, or `None` if it is global unicast.
pub fn denied(address: IpAddr) -> Option<AddressClass> {
    match address {
        IpAddr::V4(v4) => denied_v4(v4),
        IpAddr::V6(v6) => denied_v6(v6),
    }
}

/// The network that counts as one server for politeness: the address itself for
/// IPv4, its /64 for IPv6, whose holders own all of it.
pub fn politeness_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        },
    }
}

fn denied_v4(address: Ipv4Addr) -> Option<AddressClass> {
    DENIED_V4
        .iter()
        .find(|(network, bits, _)| (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0)
        .map(|(_, _, class)| *class)
}

fn denied_v6(address: Ipv6Addr) -> Option<AddressClass> {
    if let Some(inner) = translated(address) {
        return denied_v4(inner);
    }
    let listed = DENIED_V6
        .iter()
        .find(|(network, bits, _)| (address.to_bits() ^ network.to_bits()) >> (128 - bits) == 0)
        .map(|(_, _, class)| *class);
    listed.or_else(|| (address.to_bits() >> 125 != 0b001).then_some(AddressClass::NotGlobal))
}

/// The IPv4 address that an IPv4-mapped (RFC 4291) or well-known-prefix NAT64
/// (RFC 6052) address leads to. 6to4 and Teredo are refused whole instead: both
/// are out of use, and their relays are nobody's.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    const NAT64: u128 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).to_bits();
    let bits = address.to_bits();
    address
        .to_ipv4_mapped()
        .or_else(|| (bits >> 32 == NAT64 >> 32).then(|| Ipv4Addr::from_bits(bits as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mapped(v4: Ipv4Addr, prefix: u128) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(prefix | u128::from(v4.to_bits())))
    }

    #[test]
    fn public_addresses_pass() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:82b::200e",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(denied(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn special_addresses_are_refused_by_name() {
        use AddressClass::*;
        for (text, class) in [
            ("0.0.0.0", Unspecified),
            ("127.0.0.1", Loopback),
            ("10.1.2.3", Private),
            ("100.64.0.1", Shared),
            ("169.254.169.254", LinkLocal),
            ("192.0.0.8", Protocol),
            ("198.19.255.255", Benchmark),
            ("255.255.255.255", Reserved),
            ("239.1.1.1", Multicast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:169.254.169.254", LinkLocal),
            ("64:ff9b::a00:1", Private),
            ("64:ff9b:1::1", Nat64Local),
            ("2001:0:1::1", Teredo),
            ("2001:20::1", Protocol),
            ("2002:7f00:1::", SixToFour),
            ("fd00::1", UniqueLocal),
            ("fe80::1", LinkLocal),
            ("fec0::1", SiteLocal),
            ("ff02::1", Multicast),
            ("100::1", Discard),
            ("2001:db8::1", Documentation),
            ("3fff::1", Documentation),
            ("::7f00:1", NotGlobal),
            ("5f00::1", NotGlobal),
        ] {
            assert_eq!(denied(text.parse().unwrap()), Some(class), "{text}");
        }
    }

    #[test]
    fn one_server_is_an_ipv4_address_or_a_64() {
        let net = |text: &str| politeness_network(text.parse().unwrap()).to_string();
        assert_eq!(net("9.8.7.6"), "9.8.7.6");
        assert_eq!(net("::ffff:9.8.7.6"), "9.8.7.6");
        assert_eq!(net("2a00:1:2:3:4:5:6:7"), "2a00:1:2:3::");
    }

    proptest! {
        #[test]
        fn every_address_of_a_block_is_refused(host in any::<u128>(), pick in any::<prop::sample::Index>()) {
            let (net, bits, _) = DENIED_V4[pick.index(DENIED_V4.len())];
            let mask = u32::MAX.checked_shr(bits).unwrap_or(0);
            let v4 = Ipv4Addr::from_bits(net.to_bits() | (host as u32 & mask));
            prop_assert!(denied(IpAddr::V4(v4)).is_some());
            let (net, bits, _) = DENIED_V6[pick.index(DENIED_V6.len())];
            let mask = u128::MAX.checked_shr(bits).unwrap_or(0);
            let v6 = Ipv6Addr::from_bits(net.to_bits() | (host & mask));
            prop_assert!(denied(IpAddr::V6(v6)).is_some());
        }

        #[test]
        fn an_ipv4_address_inside_an_ipv6_one_is_judged_alike(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(bits);
            let plain = denied(IpAddr::V4(v4));
            prop_assert_eq!(denied(mapped(v4, 0xffff << 32)), plain);
            prop_assert_eq!(denied(mapped(v4, 0x0064_ff9b << 96)), plain);
            // 6to4, Teredo and the deprecated IPv4-compatible form never pass.
            let six_to_four = (0x2002_u128 << 112) | (u128::from(bits) << 80);
            prop_assert!(denied(IpAddr::V6(Ipv6Addr::from_bits(six_to_four))).is_some());
            prop_assert!(denied(mapped(Ipv4Addr::from_bits(!bits), 0x2001_u128 << 112)).is_some());
            prop_assert!(denied(mapped(v4, 0)).is_some());
        }

        #[test]
        fn what_the_standard_library_calls_special_is_refused(v4 in any::<u32>(), v6 in any::<u128>()) {
            let v4 = Ipv4Addr::from_bits(v4);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified() {
                prop_assert!(denied(IpAddr::V4(v4)).is_some());
            }
            let v6 = Ipv6Addr::from_bits(v6);
            if v6.is_loopback() || v6.is_multicast() || v6.is_unique_local()
                || v6.is_unicast_link_local() || v6.is_unspecified() {
                prop_assert!(denied(IpAddr::V6(v6)).is_some());
            }
        }
    }
}

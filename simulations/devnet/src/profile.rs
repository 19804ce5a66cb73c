//! The network profile of a devnet, and the ports that it names.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use openledger_wire::profile::{BeaconSource, ChainContact, CoordinatorContact, Profile};
use openledger_wire::{EvmAddress, List, NodeId, Open, RuleSetId, Text, UnixMs};
use serde::Deserialize;

/// The name of the network and of its folder at each node.
pub const NETWORK: &str = "devnet";
/// The rule set that it runs under.
pub const RULES: &str = "devnet-4";

/// A rule set as the coordinator's `rules` command prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct Rules {
    /// Its name.
    pub name: String,
    /// Its hash.
    pub id: RuleSetId,
    /// Length of an epoch in milliseconds.
    pub epoch_ms: u64,
    /// OPEN given away per epoch.
    pub epoch_budget: Open,
}

impl Rules {
    /// The devnet's rule set out of what the coordinator knows.
    ///
    /// # Errors
    /// When it is not among them.
    pub fn devnet(printed: &str) -> anyhow::Result<Self> {
        let all: Vec<Self> = serde_json::from_str(printed).context("read the rule sets")?;
        let Some(rules) = all.into_iter().find(|rules| rules.name == RULES) else {
            bail!("find rule set {RULES}: this coordinator does not know it; build both anew");
        };
        Ok(rules)
    }
}

/// Where the coordinator listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Link (UDP).
    pub link: SocketAddr,
    /// API (TCP).
    pub http: SocketAddr,
    /// Gossip (UDP and TCP).
    pub gossip: SocketAddr,
    /// Blobs (UDP).
    pub blobs: SocketAddr,
}

impl Ports {
    /// Free ones on an address. They are free at this moment; nothing keeps them so.
    ///
    /// # Errors
    /// When the system has none.
    pub fn free(ip: Ipv4Addr) -> anyhow::Result<Self> {
        // Held together until all are chosen, so that none is given out twice.
        let tcp = [TcpListener::bind((ip, 0))?, TcpListener::bind((ip, 0))?];
        let udp = [UdpSocket::bind((ip, 0))?, UdpSocket::bind((ip, 0))?];
        let [http, gossip] = tcp.map(|socket| socket.local_addr());
        let [link, blobs] = udp.map(|socket| socket.local_addr());
        Ok(Self { link: link?, http: http?, gossip: gossip?, blobs: blobs? })
    }
}

/// The coordinator's public keys, as its `init` prints them.
#[derive(Clone, Debug, Deserialize)]
pub struct CoordinatorKeys {
    /// Link and gossip.
    pub node: NodeId,
    /// Heads, receipts, verdicts, posts; with `0x`.
    pub settlement: String,
}

impl CoordinatorKeys {
    /// The settlement address.
    ///
    /// # Errors
    /// When it is none.
    pub fn address(&self) -> anyhow::Result<EvmAddress> {
        let digits = self.settlement.trim_start_matches("0x");
        digits.parse().map_err(|error| anyhow::anyhow!("read the settlement address: {error}"))
    }
}

/// What a profile is made of.
pub struct Parts<'a> {
    /// The rule set.
    pub rules: &'a Rules,
    /// The coordinator.
    pub keys: &'a CoordinatorKeys,
    /// Where it listens.
    pub ports: Ports,
    /// The contracts.
    pub chain: ChainContact,
    /// Honest nodes.
    pub founding: Vec<NodeId>,
    /// Web sites with their addresses.
    pub sites: &'a BTreeMap<String, SocketAddr>,
}

/// The profile, beginning now, as TOML that is not signed yet.
///
/// # Errors
/// What does not fit a profile.
pub fn text(parts: Parts<'_>) -> anyhow::Result<String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    let genesis = UnixMs(u64::try_from(since.as_millis()).context("read the clock")?);
    let ports = parts.ports;
    let bootstrap = gossip_address(ports.gossip, &parts.keys.node);
    let hosts = parts.sites.iter().map(|(host, at)| Ok((host.clone(), List::new(vec![*at])?)));
    let profile = Profile {
        schema: 1,
        name: Text::clipped(NETWORK),
        genesis,
        rule_set: parts.rules.id,
        rule_set_name: Text::clipped(&parts.rules.name),
        bootstrap: List::new(vec![Text::new(bootstrap)?])?,
        founding: List::new(parts.founding)?,
        coordinator: CoordinatorContact {
            node: parts.keys.node,
            settlement: parts.keys.address()?,
            link: List::new(vec![ports.link])?,
            api: Text::new(format!("http://{}", ports.http))?,
        },
        chain: parts.chain,
        beacon: BeaconSource::Stub,
        private_hosts: hosts.collect::<anyhow::Result<_>>()?,
    };
    toml::to_string(&profile).context("write the network profile")
}

/// The coordinator's configuration file.
#[must_use]
pub fn coordinator_config(ports: Ports) -> String {
    format!(
        "data_dir = \".\"\nnetwork = \"network.toml\"\n\n[link]\naddress = \"{}\"\n\n[http]\n\
         address = \"{}\"\nmetrics = true\n\n[swarm]\naddress = \"{}\"\nport = {}\nblobs = \"{}\"\n",
        ports.link,
        ports.http,
        ports.gossip.ip(),
        ports.gossip.port(),
        ports.blobs
    )
}

/// The multiaddr of a libp2p node with an ed25519 key (its peer id is the key itself, in a
/// protobuf, under an identity multihash, in base 58).
fn gossip_address(at: SocketAddr, key: &NodeId) -> String {
    let mut id = vec![0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    id.extend_from_slice(&key.0);
    format!("/ip4/{}/udp/{}/quic-v1/p2p/{}", at.ip(), at.port(), base58(&id))
}

/// Base 58 in Bitcoin's alphabet.
fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    // Digits of base 58, lowest first.
    let mut digits: Vec<u8> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = u8::try_from(carry % 58).unwrap_or(0);
            carry /= 58;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 58).unwrap_or(0));
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).map(|_| &b'1');
    let letters = digits.iter().rev().filter_map(|digit| ALPHABET.get(usize::from(*digit)));
    zeros.chain(letters).map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_58_as_others_write_it() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
            (b"\x00\x00\x28\x7f\xb4\xcd", "11233QC4"),
        ] {
            assert_eq!(base58(bytes), text);
        }
        // The key of RFC 8032's first test vector, as libp2p shows it.
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let at = gossip_address("127.0.0.1:7".parse().unwrap(), &key.parse().unwrap());
        assert!(at.starts_with("/ip4/127.0.0.1/udp/7/quic-v1/p2p/12D3KooW"), "{at}");
        assert_eq!(at.rsplit('/').next().unwrap().len(), 52);
    }

    #[test]
    fn the_profile_of_a_devnet_is_accepted() {
        let key = openledger_wire::NodeKey::from_seed(&[7; 32]);
        let rules = Rules {
            name: RULES.to_owned(),
            id: RuleSetId([1; 32]),
            epoch_ms: 60_000,
            epoch_budget: Open::ONE,
        };
        let settlement = format!("0x{}", EvmAddress([3; 20]));
        let keys = CoordinatorKeys { node: key.public(), settlement };
        let chain = ChainContact {
            chain_id: crate::limits::CHAIN_ID,
            rpc: List::new(vec![Text::clipped("http://127.0.0.1:8545")]).unwrap(),
            token: EvmAddress([4; 20]),
            rewards: EvmAddress([5; 20]),
            escrow: EvmAddress([6; 20]),
        };
        let ports = Ports::free(Ipv4Addr::LOCALHOST).unwrap();
        let sites = BTreeMap::from([("docs01.devnet:80".to_owned(), ports.http)]);
        let founding = vec![NodeId([8; 32])];
        let parts = Parts { rules: &rules, keys: &keys, ports, chain, founding, sites: &sites };
        let profile: Profile = toml::from_str(&text(parts).unwrap()).unwrap();
        let (opened, signer) = Profile::open(&profile.sign(&key).unwrap()).unwrap();
        assert_eq!((opened, signer), (profile, key.public()));
    }
}

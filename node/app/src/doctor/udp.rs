//! Whether UDP comes through: without it there is no link and no blobs, while TCP still works.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use openledger_web::doctor::Finding;
use openledger_wire::profile::Profile;
use tokio::net::UdpSocket;

use super::coordinator::Knock;
use super::examine::Patient;
use super::outside::Heard;
use crate::limits;

const CODE: &str = "udp";

/// What a bare QUIC packet brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// Something.
    Answers,
    /// Word that nothing listens there, or that a firewall rejects it (ICMP).
    Refused,
    /// Nothing.
    Silence,
    /// The packet did not even leave.
    NotSent(String),
}

/// Asks an address which versions of QUIC it speaks (RFC 9000 section 6): every server answers
/// that, whatever its key.
pub(super) async fn echo(address: SocketAddr, bind: Option<IpAddr>) -> Echo {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let ip = bind.filter(|bind| bind.is_ipv4() == address.is_ipv4()).unwrap_or(any);
    let socket = match UdpSocket::bind((ip, 0)).await {
        Ok(socket) => socket,
        Err(error) => return Echo::NotSent(error.to_string()),
    };
    if let Err(error) = socket.connect(address).await {
        return Echo::NotSent(error.to_string());
    }
    let mut buffer = [0u8; 64];
    // Twice, since packets get lost.
    for _ in 0..2 {
        match socket.send(&version_question()).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Echo::Refused,
            Err(error) => return Echo::NotSent(error.to_string()),
        }
        let answer = socket.recv(&mut buffer);
        match tokio::time::timeout(limits::DOCTOR_PROBE_TIME_MAX / 2, answer).await {
            Ok(Ok(_)) => return Echo::Answers,
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                return Echo::Refused;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Echo::Silence
}

/// A long-header packet (RFC 9000 section 17.2) of a version that is reserved for this question
/// (section 15), as long as a first packet must be (section 14.1).
fn version_question() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a];
    for id in [0x11u8, 0x22] {
        packet.push(8);
        packet.extend([id; 8]);
    }
    packet.resize(1_200, 0);
    packet
}

/// Judges from everything that was heard over UDP and over TCP.
pub(super) fn judge(patient: &Patient, profile: &Profile, heard: &Heard) -> Finding {
    let linked = patient.running.as_ref().is_some_and(|running| running.is_linked(&profile.name));
    let evidence = Evidence {
        link: linked
            || heard
                .links
                .iter()
                .any(|link| link.echo == Echo::Answers || !matches!(link.knock, Knock::Nothing(_))),
        peers_udp: heard.peers.alive(true),
        tcp: heard.api.answer.is_ok(),
        peers_tcp: heard.peers.alive(false),
    };
    let ports: Vec<String> = heard.links.iter().map(|link| link.address.to_string()).collect();
    evidence.judge(&ports, heard.links.iter().map(|link| &link.echo).next())
}

#[derive(Clone, Copy, Debug)]
struct Evidence {
    /// A link address answers over UDP.
    link: bool,
    /// A peer answers over UDP.
    peers_udp: bool,
    /// The coordinator's HTTP API answers over TCP.
    tcp: bool,
    /// A peer answers over TCP.
    peers_tcp: bool,
}

impl Evidence {
    fn judge(self, ports: &[String], echo: Option<&Echo>) -> Finding {
        let places = ports.join(", ");
        if self.link {
            return Finding::fine(CODE, "comes through to the coordinator and back");
        }
        if self.peers_udp {
            let found =
                format!("comes through to peers, but not to the coordinator's link at {places}");
            let cause = "that port is closed: the coordinator's link is down, has moved, or a firewall stops this port only";
            let mend = format!(
                "allow outgoing UDP to {places} if this network filters by port; else wait, or get a newer profile from the network's publisher"
            );
            return Finding::warning(CODE, found, cause, mend);
        }
        if !self.tcp && !self.peers_tcp {
            return Finding::skipped(CODE, "not known: nothing answers over TCP either");
        }
        let how = match echo {
            Some(Echo::NotSent(reason)) => format!("this machine does not let it out ({reason})"),
            Some(Echo::Refused) => "packets are rejected on the way or there (ICMP)".to_owned(),
            _ => "packets vanish without a word".to_owned(),
        };
        let who = if self.tcp { "the coordinator" } else { "peers" };
        let found = format!("UDP to {places} is blocked, while TCP to {who} works");
        let cause = format!(
            "{how}: a firewall on this machine, in the router or at the provider stops UDP, or the coordinator's own firewall does not let that port in"
        );
        let rule = ports.first().and_then(|port| port.parse::<SocketAddr>().ok());
        let port = rule.map(|at| at.port().to_string()).unwrap_or_default();
        let mend = format!(
            "allow outgoing UDP to {places} and its answers (`sudo ufw allow out {port}/udp`, or `sudo nft insert rule inet filter output udp dport {port} accept`), in the router too; until then peers are reached over TCP by themselves (libp2p falls back), but link and blobs need UDP"
        );
        Finding::error(CODE, found, cause, mend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_web::doctor::Severity;

    #[test]
    fn udp_is_called_blocked_only_where_tcp_works() {
        let ports = ["192.0.2.1:7400".to_owned()];
        let judged = |link, peers_udp, tcp, peers_tcp| {
            Evidence { link, peers_udp, tcp, peers_tcp }.judge(&ports, Some(&Echo::Silence))
        };
        assert_eq!(judged(true, false, false, false).severity, Severity::Fine);
        assert_eq!(judged(false, true, true, true).severity, Severity::Warning);
        assert_eq!(judged(false, false, false, false).severity, Severity::Skipped);
        for (tcp, peers_tcp) in [(true, false), (false, true)] {
            let blocked = judged(false, false, tcp, peers_tcp);
            assert_eq!(blocked.severity, Severity::Error);
            let mend = blocked.mend.unwrap();
            assert!(mend.contains("7400/udp") && mend.contains("over TCP"), "{mend}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_and_a_silent_one_are_told_apart() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(echo(silent.local_addr().unwrap(), None).await, Echo::Silence);
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(echo(closed, None).await, Echo::Refused);
    }
}

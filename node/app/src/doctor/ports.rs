//! Whether the configured ports can be had, and who holds those that cannot.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use openledger_web::doctor::Finding;

use super::examine::Patient;
use super::holder::{self, Transport};
use crate::api::ApiConfig;
use crate::config::NetworkConfig;

const CODE: &str = "port";

/// A port of the configuration.
struct Wanted {
    key: &'static str,
    ip: IpAddr,
    port: u16,
    transports: &'static [Transport],
}

/// One finding per configured port. A port that is 0 is chosen at the start and never taken.
pub(super) fn findings(patient: &Patient) -> Vec<Finding> {
    let network = &patient.config.network;
    let wanted = wanted(network, &patient.config.api);
    let mut findings: Vec<Finding> = wanted
        .iter()
        .filter(|wanted| wanted.port != 0)
        .map(|wanted| look(patient, wanted))
        .collect();
    let free: Vec<&str> =
        wanted.iter().filter(|wanted| wanted.port == 0).map(|wanted| wanted.key).collect();
    if !free.is_empty() {
        findings.push(match UdpSocket::bind((network.bind, 0)) {
            Ok(_) => Finding::fine(CODE, format!("free ones are taken for {}", free.join(", "))),
            Err(error) => no_address(network.bind, &error),
        });
    }
    findings
}

/// The ports of a configuration. Each further network has the next port for its peers.
fn wanted(network: &NetworkConfig, api: &ApiConfig) -> Vec<Wanted> {
    let networks = match network.peer_port {
        0 => 1,
        _ => u16::try_from(network.joined().len().max(1)).unwrap_or(1),
    };
    let peers = (0..networks).map(|number| Wanted {
        key: "network.peer_port",
        ip: network.bind,
        port: network.peer_port.saturating_add(number),
        transports: &[Transport::Udp, Transport::Tcp],
    });
    let others = [
        Wanted {
            key: "network.blob_port",
            ip: network.bind,
            port: network.blob_port,
            transports: &[Transport::Udp],
        },
        Wanted {
            key: "network.control_port",
            ip: Ipv4Addr::LOCALHOST.into(),
            port: network.control_port,
            transports: &[Transport::Tcp],
        },
    ];
    let api = api.enabled.then_some(Wanted {
        key: "api.port",
        ip: Ipv4Addr::LOCALHOST.into(),
        port: api.port,
        transports: &[Transport::Tcp],
    });
    peers.chain(others).chain(api).collect()
}

fn look(patient: &Patient, wanted: &Wanted) -> Finding {
    let at = SocketAddr::new(wanted.ip, wanted.port);
    let refused = wanted.transports.iter().find_map(|transport| {
        let tried = match transport {
            Transport::Tcp => TcpListener::bind(at).map(drop),
            Transport::Udp => UdpSocket::bind(at).map(drop),
        };
        tried.err().map(|error| (*transport, error))
    });
    match refused {
        None => Finding::fine(CODE, format!("{} = {} is free", wanted.key, wanted.port)),
        Some((transport, error)) if error.kind() == ErrorKind::AddrInUse => {
            taken(patient, wanted, transport)
        }
        Some((_, error)) if error.kind() == ErrorKind::PermissionDenied => Finding::error(
            CODE,
            format!("{} = {} is not allowed for this user", wanted.key, wanted.port),
            "ports below 1024 need special rights",
            format!(
                "choose another one: `openledger config set {} 0` takes a free one",
                wanted.key
            ),
        ),
        Some((_, error)) => no_address(wanted.ip, &error),
    }
}

fn taken(patient: &Patient, wanted: &Wanted, transport: Transport) -> Finding {
    let Wanted { key, ip, port, .. } = wanted;
    let holder = holder::find(&patient.machine.proc, transport, *ip, *port);
    let process = holder.as_ref().and_then(|holder| holder.process.as_ref());
    if let (Some((pid, _)), Some(running)) = (process, &patient.running)
        && *pid == running.pid
    {
        return Finding::fine(CODE, format!("{key} = {port} is held by this node, which runs"));
    }
    let found = format!("{key} = {port} ({} on {ip}) is taken", transport.name());
    let cause = match &holder {
        Some(holder) => format!("{} holds it", holder.text()),
        None => "another process holds it; the system does not tell which".to_owned(),
    };
    let stop = match process {
        Some((pid, _)) => format!("stop that process: `kill {pid}`"),
        None => format!("see who it is with `sudo ss -lptun 'sport = :{port}'` and stop it"),
    };
    let mend = format!(
        "{stop}, or choose another port: `openledger config set {key} 0` takes a free one at each start"
    );
    Finding::error(CODE, found, cause, mend)
}

fn no_address(ip: IpAddr, error: &io::Error) -> Finding {
    let found = format!("nothing can listen on {ip} (network.bind)");
    let cause = match error.kind() {
        ErrorKind::AddrNotAvailable => format!("{ip} is no address of this machine"),
        _ => error.to_string(),
    };
    let mend = "`openledger config set network.bind 0.0.0.0` listens on all addresses; `ip address` shows them";
    Finding::error(CODE, found, cause, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_has_a_port_for_its_peers() {
        let mut network = NetworkConfig { peer_port: 4_000, ..NetworkConfig::default() };
        network.name = "a".to_owned();
        network.also = vec!["b".to_owned(), "c".to_owned()];
        let mut api = ApiConfig { port: 4_100, ..ApiConfig::default() };
        let ports: Vec<u16> = wanted(&network, &api).iter().map(|wanted| wanted.port).collect();
        assert_eq!(ports, [4_000, 4_001, 4_002, 0, 0, 4_100]);
        network.peer_port = 0;
        api.enabled = false;
        assert_eq!(wanted(&network, &api).len(), 3);
    }
}

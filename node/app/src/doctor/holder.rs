//! Which process holds a port, as `/proc` tells (proc(5)).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::machine::{Machine, user};

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    const fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Tcp => ["net/tcp", "net/tcp6"],
            Self::Udp => ["net/udp", "net/udp6"],
        }
    }
}

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The user that the socket belongs to.
    uid: u32,
    /// The process with its name; `None` where this user may not see it.
    pub(super) process: Option<(u32, String)>,
}

impl Holder {
    /// In words.
    pub(super) fn text(&self) -> String {
        match &self.process {
            Some((pid, name)) => format!("{name} (process {pid})"),
            None => format!("a process of user {} that cannot be seen from here", user(self.uid)),
        }
    }
}

/// The holder of an address and port; `None` where the system does not tell.
pub(super) fn find(proc: &Path, transport: Transport, ip: IpAddr, port: u16) -> Option<Holder> {
    let socket = transport.tables().into_iter().find_map(|table| {
        let text = Machine::text(&proc.join(table))?;
        text.lines().filter_map(Socket::parse).find(|socket| socket.is_at(transport, ip, port))
    })?;
    Some(Holder { uid: socket.uid, process: process_of(proc, socket.inode) })
}

/// A line of `/proc/net/tcp` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    ip: IpAddr,
    port: u16,
    state: u8,
    uid: u32,
    inode: u64,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        Some(Self {
            ip: parse_ip(ip)?,
            port: u16::from_str_radix(port, 16).ok()?,
            state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
            uid: fields.get(7)?.parse().ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    }

    fn is_at(&self, transport: Transport, ip: IpAddr, port: u16) -> bool {
        /// TCP_LISTEN of the kernel's states.
        const LISTENING: u8 = 0x0a;
        let open = transport == Transport::Udp || self.state == LISTENING;
        let same = self.ip == ip || self.ip.is_unspecified() || ip.is_unspecified();
        open && same && self.port == port
    }
}

/// The kernel prints addresses as words of 32 bits in the machine's own byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            let bytes: [u8; 16] = words.try_into().ok()?;
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

/// The process that has a socket open.
fn process_of(proc: &Path, inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir(proc).ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let open = fs::read_dir(process.path().join("fd")).ok()?;
        let has = open
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .any(|target| target.as_os_str() == wanted.as_str());
        let name = || Machine::text(&process.path().join("comm")).unwrap_or_default();
        has.then(|| (pid, name().trim().to_owned()))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 424242 1 0000000000000000 100 0 0 10 0";
        let socket = Socket::parse(line).unwrap();
        let expected = if cfg!(target_endian = "little") { "127.0.0.1" } else { "1.0.0.127" };
        assert_eq!(socket.ip, expected.parse::<IpAddr>().unwrap());
        assert_eq!(
            (socket.port, socket.state, socket.uid, socket.inode),
            (8_080, 10, 1_000, 424_242)
        );
        assert!(Socket::parse("  sl  local_address rem_address   st tx_queue").is_none());
        let any = parse_ip("00000000000000000000000000000000").unwrap();
        assert_eq!(any, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }

    #[test]
    fn this_process_is_found_by_its_own_sockets() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let proc = Path::new("/proc");
        let local = "127.0.0.1".parse().unwrap();
        for (transport, port) in [
            (Transport::Tcp, tcp.local_addr().unwrap().port()),
            (Transport::Udp, udp.local_addr().unwrap().port()),
        ] {
            let holder = find(proc, transport, local, port).unwrap();
            assert_eq!(holder.process.map(|(pid, _)| pid), Some(std::process::id()));
        }
        let other = "127.0.0.2".parse().unwrap();
        assert_eq!(find(proc, Transport::Tcp, other, tcp.local_addr().unwrap().port()), None);
    }
}

//! A data folder with an identity and a network whose coordinator, chain and peers really answer,
//! so that each fault can be planted alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_swarm::link::refused;
use openledger_swarm::{
    Acceptance, Admission, LinkLimits, LinkServer, LinkServerConfig, LinkService, Peer, Swarm,
    SwarmConfig, SwarmEvent, SwarmHandle,
};
use openledger_wire::eip712::SignedHead;
use openledger_wire::gossip::GossipedHead;
use openledger_wire::link::{LINK_VERSION, LinkRequest, LinkResponse};
use openledger_wire::profile::{BeaconSource, ChainContact, CoordinatorContact, Profile};
use openledger_wire::{
    Epoch, EvmAddress, EvmSignature, Height, List, LogHead, NetworkId, NodeId, NodeKey, Round,
    Text, UnixMs,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The chain that the profile names.
pub(crate) const CHAIN: u64 = 31_337;
const COORDINATOR: [u8; 32] = [1; 32];

/// An answer of a tiny HTTP server: a date ahead of true time, and a body.
type Answer = dyn Fn(&[u8]) -> (i64, Value) + Send + Sync;

/// A tiny HTTP server on a loopback address. It ends when dropped, and its port is free again.
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Http {
    fn start(address: &str, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(stream, &*answer));
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(mut stream: TcpStream, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0usize;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.is_empty() {
            return;
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let (shift_s, value) = answer(&body);
    let body = value.to_string();
    let seconds = i64::try_from(now_ms() / 1_000).unwrap() + shift_s;
    let date = http_date(u64::try_from(seconds).unwrap());
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: {date}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// An HTTP date; the day of the week is not looked at by anybody.
fn http_date(seconds: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = openledger_datanets::warc::format_date_ms(seconds * 1_000);
    let month: usize = text[5..7].parse().unwrap();
    format!("Sun, {} {} {} {} GMT", &text[8..10], MONTHS[month - 1], &text[..4], &text[11..19])
}

/// Answers what a stranger's greeting gets, and welcomes nodes.
struct Service;

#[async_trait]
impl LinkService for Service {
    async fn handle(&self, _peer: Peer, request: LinkRequest) -> LinkResponse {
        match request {
            LinkRequest::Hello { version: LINK_VERSION, .. } => LinkResponse::Welcome {
                now: UnixMs(now_ms()),
                round: Round(1),
                epoch: Epoch(1),
                head: GossipedHead {
                    head: SignedHead {
                        network: NetworkId::ZERO,
                        height: Height(0),
                        head: LogHead::ZERO,
                    },
                    signature: EvmSignature::ZERO,
                },
            },
            LinkRequest::Hello { .. } => refused("link-version", "unknown", 0),
            _ => LinkResponse::Done,
        }
    }
}

/// Takes no part in gossip.
struct Deaf;

impl Admission for Deaf {
    fn gossip(&self, _topic: &str, _author: NodeId, _bytes: &[u8]) -> Acceptance {
        Acceptance::Ignore
    }
}

/// A peer that others can dial over TCP.
pub(crate) struct BootstrapPeer {
    pub(crate) handle: SwarmHandle,
    _events: mpsc::Receiver<SwarmEvent>,
}

impl BootstrapPeer {
    pub(crate) async fn start(seed: u8, listen: &str, network: NetworkId) -> Self {
        let mut config = SwarmConfig::new(NodeKey::from_seed(&[seed; 32]), network);
        config.listen = vec![listen.to_owned()];
        config.mdns = false;
        config.reachable = true;
        config.colocation = None;
        let (handle, events) = Swarm::start(config, Arc::new(Deaf)).await.unwrap();
        Self { handle, _events: events }
    }

    pub(crate) fn address(&self) -> String {
        self.handle.listen_addresses().remove(0)
    }
}

/// Everything that a healthy node needs, each part of which can be broken.
pub(crate) struct Plant {
    folder: tempfile::TempDir,
    pub(crate) profile: Profile,
    pub(crate) api: Option<Http>,
    pub(crate) rpc: Option<Http>,
    pub(crate) link: Option<LinkServer>,
    pub(crate) peer: Option<BootstrapPeer>,
    /// What the coordinator's clock shows, less true time, in seconds.
    pub(crate) clock_shift_s: Arc<AtomicI64>,
    /// The id of the chain behind the RPC.
    pub(crate) chain_id: Arc<AtomicU64>,
    /// The network that the API names.
    pub(crate) network: Arc<Mutex<NetworkId>>,
}

impl Plant {
    /// A folder of which nothing is wrong.
    pub(crate) async fn healthy() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock_shift_s = Arc::new(AtomicI64::new(0));
        let chain_id = Arc::new(AtomicU64::new(CHAIN));
        let network = Arc::new(Mutex::new(NetworkId::ZERO));
        let mut plant = Self {
            folder,
            profile: profile(),
            api: None,
            rpc: None,
            link: None,
            peer: None,
            clock_shift_s,
            chain_id,
            network,
        };
        plant.start_api("127.0.0.1:0");
        plant.start_rpc("127.0.0.1:0");
        plant.start_link(COORDINATOR, "127.0.0.1:0".parse().unwrap()).await;
        let link = plant.link.as_ref().unwrap().local_address();
        plant.profile.coordinator.link = List::new(vec![link]).unwrap();
        let url = |http: &Option<Http>| format!("http://{}", http.as_ref().unwrap().address);
        plant.profile.coordinator.api = Text::clipped(&url(&plant.api));
        let rpc = vec![Text::clipped(&url(&plant.rpc))];
        plant.profile.chain.rpc = List::new(rpc).unwrap();
        let id = plant.profile.network();
        *plant.network.lock().unwrap() = id;
        let peer = BootstrapPeer::start(2, "/ip4/127.0.0.1/tcp/0", id).await;
        plant.profile.bootstrap = List::new(vec![Text::clipped(&peer.address())]).unwrap();
        plant.peer = Some(peer);

        std::fs::create_dir_all(plant.data().join("networks/test")).unwrap();
        plant.write_profile();
        plant.sh(&format!("chmod -R go= {}", plant.data().display()));
        let output = plant.openledger(&["identity", "create", "--unattended"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        plant.set("work.disk_mib_max", "1").await;
        plant.set("network.mdns", "false").await;
        plant
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Signs the profile anew, as its publisher would.
    pub(crate) fn write_profile(&self) {
        let text = self.profile.sign(&NodeKey::from_seed(&COORDINATOR)).unwrap();
        std::fs::write(self.data().join("networks/test/profile.toml"), text).unwrap();
    }

    pub(crate) fn start_api(&mut self, address: &str) {
        let (shift, network) = (Arc::clone(&self.clock_shift_s), Arc::clone(&self.network));
        let answer = move |_: &[u8]| {
            let network = *network.lock().unwrap();
            // Without `now`: the date is all that there is.
            (shift.load(Ordering::SeqCst), json!({ "network": network }))
        };
        self.api = Some(Http::start(address, Arc::new(answer)));
    }

    pub(crate) fn start_rpc(&mut self, address: &str) {
        let chain_id = Arc::clone(&self.chain_id);
        let answer = move |body: &[u8]| {
            let request: Value = serde_json::from_slice(body).unwrap();
            let result = match request["method"].as_str().unwrap() {
                "eth_chainId" => json!(format!("{:#x}", chain_id.load(Ordering::SeqCst))),
                "eth_getCode" => json!("0x6001"),
                "eth_getBlockByNumber" => block(),
                other => panic!("{other} was asked"),
            };
            (0, json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }))
        };
        self.rpc = Some(Http::start(address, Arc::new(answer)));
    }

    pub(crate) async fn start_link(&mut self, seed: [u8; 32], address: SocketAddr) {
        let limits = LinkLimits::default();
        let config = LinkServerConfig { key: NodeKey::from_seed(&seed), address, limits };
        // A server that has just stopped gives its port back a moment later.
        for _ in 0..200 {
            if let Ok(server) = LinkServer::bind(config.clone(), Arc::new(Service)).await {
                self.link = Some(server);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{address} is not given back");
    }

    /// Starts the link again where the profile says.
    pub(crate) async fn restart_link(&mut self) {
        if self.link.is_some() {
            self.stop_link().await;
        }
        let address = self.profile.coordinator.link[0];
        self.start_link(COORDINATOR, address).await;
    }

    /// Stops the link; when this returns, its port is free.
    pub(crate) async fn stop_link(&mut self) {
        let link = self.link.take().unwrap();
        let address = link.local_address();
        link.shutdown().await;
        drop(link);
        for _ in 0..200 {
            if UdpSocket::bind(address).is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{address} is not given back");
    }

    pub(crate) async fn openledger(&self, arguments: &[&str]) -> Output {
        let mut command = command(&self.data());
        command.args(arguments).output().await.unwrap()
    }

    pub(crate) async fn set(&self, key: &str, value: &str) {
        let output = self.openledger(&["config", "set", key, value]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// What doctor says.
    pub(crate) async fn examine(&self) -> Examined {
        let output = self.openledger(&["--json", "doctor"]).await;
        Examined::of(&output)
    }

    /// Does what a mend says: commands as they stand in its backquotes.
    pub(crate) fn sh(&self, script: &str) {
        let bin = Path::new(env!("CARGO_BIN_EXE_openledger")).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .env("PATH", path)
            .env("OPENLEDGER_DATA", self.data())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The program with a data folder and nothing else from outside.
pub(crate) fn command(data: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_openledger"));
    command.env_clear().env("OPENLEDGER_DATA", data).kill_on_drop(true);
    command
}

/// A report as programs read it.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) exit_code: i32,
    report: Value,
}

impl Examined {
    pub(crate) fn of(output: &Output) -> Self {
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            let text = String::from_utf8_lossy(&output.stderr);
            panic!("{error}: {}{text}", String::from_utf8_lossy(&output.stdout))
        });
        Self { exit_code: output.status.code().unwrap(), report }
    }

    /// Codes of everything that is not well, in order, each once.
    pub(crate) fn bad(&self) -> Vec<&str> {
        let checks = self.report["checks"].as_array().unwrap();
        let mut codes: Vec<&str> = checks
            .iter()
            .filter(|one| one["ok"] == false)
            .map(|one| one["code"].as_str().unwrap())
            .collect();
        codes.dedup();
        codes
    }

    /// The first bad finding of a code, or else the first one.
    pub(crate) fn finding(&self, code: &str) -> &Value {
        let checks = self.report["checks"].as_array().unwrap();
        let of_code = || checks.iter().filter(|one| one["code"] == code);
        of_code().find(|one| one["ok"] == false).or_else(|| of_code().next()).unwrap()
    }

    /// Asserts that a code is bad, and that what is said holds these words.
    #[track_caller]
    pub(crate) fn names(&self, code: &str, words: &[&str]) {
        let finding = self.finding(code);
        assert_eq!(finding["ok"], false, "{self:#?}");
        let said = ["found", "cause", "mend"].map(|key| finding[key].as_str().unwrap()).join("\n");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
    }

    /// The command of a mend: what stands in its backquotes, the n-th time.
    pub(crate) fn command(&self, code: &str, number: usize) -> String {
        let mend = self.finding(code)["mend"].as_str().unwrap();
        mend.split('`').nth(2 * number + 1).unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn is_well(&self) {
        assert_eq!((self.bad(), self.exit_code), (Vec::new(), 0), "{self:#?}");
    }
}

fn profile() -> Profile {
    let rules = RuleSet::devnet_v1(PROFILE_V1.profile_id());
    Profile {
        schema: 1,
        name: Text::clipped("test"),
        genesis: UnixMs(1),
        rule_set: rules.id().unwrap(),
        rule_set_name: Text::clipped(&rules.name),
        bootstrap: List::default(),
        founding: List::default(),
        coordinator: CoordinatorContact {
            node: NodeKey::from_seed(&COORDINATOR).public(),
            settlement: EvmAddress([9; 20]),
            link: List::default(),
            api: Text::default(),
        },
        chain: ChainContact {
            chain_id: CHAIN,
            rpc: List::default(),
            token: EvmAddress([1; 20]),
            rewards: EvmAddress([2; 20]),
            escrow: EvmAddress([3; 20]),
        },
        beacon: BeaconSource::Stub,
        private_hosts: Default::default(),
    }
}

/// A block as an RPC gives it.
fn block() -> Value {
    let hash = format!("0x{}", "11".repeat(32));
    let seconds = now_ms() / 1_000;
    json!({
        "number": "0x5", "hash": hash, "parentHash": hash, "sha3Uncles": hash,
        "miner": format!("0x{}", "22".repeat(20)), "stateRoot": hash, "transactionsRoot": hash,
        "receiptsRoot": hash, "logsBloom": format!("0x{}", "00".repeat(256)),
        "difficulty": "0x0", "gasLimit": "0x1c9c380", "gasUsed": "0x0",
        "timestamp": format!("{seconds:#x}"), "extraData": "0x", "mixHash": hash,
        "nonce": "0x0000000000000000", "baseFeePerGas": "0x1", "size": "0x200",
        "uncles": [], "transactions": [],
    })
}

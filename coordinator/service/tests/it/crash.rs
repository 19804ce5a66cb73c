//! Power cuts under a running coordinator: nothing acknowledged is lost, nothing counts twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openledger_ledger::{EmbeddedLedger, Ledger};
use openledger_service::Coordinator;
use openledger_tables::faults::{FaultDisk, PowerCut};
use tokio::runtime::Runtime;

use crate::network::{Network, get};
use crate::node::Node;

const PAGES: usize = 5;
const CUTS: u64 = 4;

/// A coordinator on a runtime of its own, on a disk that can lose power.
struct Machine {
    runtime: Runtime,
    disk: FaultDisk,
    link: SocketAddr,
    url: String,
    // Dropped with its runtime, as a process is: without any goodbye.
    _coordinator: Coordinator,
}

fn boot(network: &Network, image: Vec<u8>, link: SocketAddr) -> Machine {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let disk = FaultDisk::from_image(image);
    let ledger = Arc::new(EmbeddedLedger::with_backend(disk.backend()).unwrap());
    let coordinator = runtime.block_on(network.start(ledger, link));
    let (link, url) = (coordinator.link_address(), coordinator.url());
    Machine { runtime, disk, link, url, _coordinator: coordinator }
}

impl Machine {
    /// Cuts the power and gives what is left on the disk.
    fn cut(self, cut: PowerCut) -> Vec<u8> {
        let image = self.disk.power_cut(cut);
        let Self { runtime, _coordinator, .. } = self;
        let guard = runtime.enter();
        drop(_coordinator);
        drop(guard);
        runtime.shutdown_timeout(Duration::from_secs(5));
        image
    }
}

async fn acknowledged_is_there(image: Vec<u8>, nodes: &[Node]) {
    let disk = FaultDisk::from_image(image);
    let ledger = EmbeddedLedger::with_backend(disk.backend()).unwrap();
    for node in nodes {
        let (held, receipts, verdicts) = {
            let memory = node.memory.lock().unwrap();
            let receipts: Vec<_> = memory.receipts.values().cloned().collect();
            let verdicts: Vec<_> = memory.verdicts.keys().copied().collect();
            (memory.held.clone(), receipts, verdicts)
        };
        for proof in held {
            assert!(ledger.proof(proof).await.unwrap().is_some(), "an acknowledged proof is gone");
        }
        for receipt in receipts {
            let (at, _) = ledger.lines_of_proof(receipt.proof).await.unwrap();
            assert_eq!(at, Some(receipt.batch.log_height), "a signed receipt is gone");
            let line = ledger.page(receipt.batch.log_height, 1).await.unwrap().pop().unwrap();
            assert_eq!(line.head, receipt.batch.log_head, "two heads of one height were signed");
        }
        for proof in verdicts {
            let (_, at) = ledger.lines_of_proof(proof).await.unwrap();
            assert!(at.is_some(), "a signed verdict is gone");
        }
    }
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    let founding: Vec<_> = (1..=3).map(|n| Node::keys(n).0.public()).collect();
    let mut network = Network::new(&founding);
    // Longer than a node needs to notice a cut: what is tested is durability, not patience.
    network.set_rules(|rules| rules.lease_ms = 30_000);
    let nodes: Vec<Node> = (1..=3).map(|n| Node::new(n, &network.profile)).collect();
    let clients = Runtime::new().unwrap();

    let mut machine = boot(&network, Vec::new(), "127.0.0.1:0".parse().unwrap());
    let link = machine.link;
    let _links: Vec<_> =
        clients.block_on(async { nodes.iter().map(|node| node.connect(link)).collect() });
    clients.block_on(network.fund(&machine.url, PAGES));
    for round in 0..CUTS {
        std::thread::sleep(Duration::from_millis(700 + 450 * round));
        let cut = match round % 3 {
            0 => PowerCut::TearsUnsynced { seed: round },
            1 => PowerCut::LosesUnsynced,
            _ => PowerCut::KeepsUnsynced,
        };
        let image = machine.cut(cut);
        clients.block_on(acknowledged_is_there(image.clone(), &nodes));
        machine = boot(&network, image, link);
    }

    let deadline = Instant::now() + Duration::from_secs(90);
    let stats = loop {
        let stats = clients.block_on(get(&machine.url, "/api/v1/stats"));
        if stats["urls_refined"] == PAGES && stats["waiting"] == 0 {
            break stats;
        }
        assert!(Instant::now() < deadline, "not done in time: {stats}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(stats["rejected_founding"], 0, "{stats}");
    let image = machine.cut(PowerCut::LosesUnsynced);
    clients.block_on(acknowledged_is_there(image.clone(), &nodes));
    // How long verdicts took is a figure of the log, and the same after a start.
    machine = boot(&network, image, link);
    let after = clients.block_on(get(&machine.url, "/api/v1/stats"));
    let timed = |stats: &serde_json::Value| stats["verdicts_timed"].as_u64().unwrap();
    assert!(timed(&after) >= timed(&stats) && timed(&stats) > 0, "{after}");
    if timed(&after) == timed(&stats) {
        for same in ["verdict_ms_p95", "verdicts_at_once", "verdict_ms_waited_median"] {
            assert_eq!(after[same], stats[same], "{same}");
        }
    }
    drop(machine.cut(PowerCut::LosesUnsynced));
    let commits: usize = nodes.iter().map(|n| n.memory.lock().unwrap().commits_held).sum();
    assert!(commits >= 3 * PAGES, "{commits}");
    clients.shutdown_timeout(Duration::from_secs(1));
}

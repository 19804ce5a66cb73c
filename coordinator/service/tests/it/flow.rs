//! From a campaign to a closed epoch whose bundle a stranger audits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openledger_ledger::EmbeddedLedger;
use openledger_rules::{Bundle, Setup, audit};
use openledger_service::FingerprintJudge;
use openledger_swarm::{LinkClient, LinkClientConfig};
use openledger_wire::link::{ItemResult, LINK_VERSION, LinkRequest, LinkResponse};
use openledger_wire::log::ReasonCode;
use openledger_wire::proof::Commit;
use openledger_wire::{Commitment, Envelope, List, NodeKey, TaskId};

use crate::network::{Network, get};
use crate::node::Node;

const PAGES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_becomes_verdicts_and_an_epoch_that_a_stranger_audits() {
    let founding: Vec<_> = (1..=3).map(|n| Node::keys(n).0.public()).collect();
    let network = Network::new(&founding);
    let ledger = Arc::new(EmbeddedLedger::open(network.dir.path().join("ledger.redb")).unwrap());
    let coordinator = network.start(ledger, "127.0.0.1:0".parse().unwrap()).await;
    let url = coordinator.url();
    let nodes: Vec<Node> = (1..=3).map(|n| Node::new(n, &network.profile)).collect();
    let links: Vec<_> = nodes.iter().map(|node| node.connect(coordinator.link_address())).collect();

    let funded = network.fund(&url, PAGES).await;
    assert_eq!(funded["tasks"], PAGES);
    assert_eq!(network.fund(&url, PAGES).await["known"], true);

    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let stats = get(&url, "/api/v1/stats").await;
        let refined = stats["urls_refined"].as_u64().unwrap();
        if refined == PAGES as u64 && stats["epochs_closed"].as_u64().unwrap() >= 2 {
            assert_eq!(stats["rejected_founding"], 0, "{stats}");
            assert!(stats["fetch_accounts_per_page_min"].as_u64().unwrap() >= 2, "{stats}");
            break;
        }
        assert!(Instant::now() < deadline, "not done in time: {stats}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let accepted: usize = nodes.iter().map(Node::accepted).sum();
    assert!(accepted >= 3 * PAGES, "two fetches and a refinement of each page, not {accepted}");
    for node in &nodes {
        assert_eq!(node.memory.lock().unwrap().refused, Vec::<String>::new());
    }

    pages_and_history(&url, &nodes).await;
    audit_bundles(&network, &url).await;
    links.iter().for_each(tokio::task::JoinHandle::abort);
    coordinator.shutdown().await.unwrap();
}

async fn pages_and_history(url: &str, nodes: &[Node]) {
    let row = nodes.iter().find_map(|node| {
        let memory = node.memory.lock().unwrap();
        let mut rows = memory.verdicts.values().map(|verdict| verdict.row);
        rows.find(|row| row.reason == ReasonCode::ReplicasAgree)
    });
    let task = row.unwrap().task;
    let history = get(url, &format!("/api/v1/tasks/{task}")).await;
    let steps: Vec<&str> =
        history["steps"].as_array().unwrap().iter().map(|s| s["what"].as_str().unwrap()).collect();
    for what in ["told", "leased", "committed", "receipted", "judged"] {
        assert!(steps.contains(&what), "{what} is missing in {history}");
    }
    let page = reqwest::get(format!("{url}/tasks/{task}")).await.unwrap().text().await.unwrap();
    assert!(page.contains("found the same"), "{page}");
    // Moments in UTC and what came how long after; the campaign by its name, leading to its page.
    let at = history["steps"][0]["at"].as_u64().unwrap().to_string();
    assert!(page.contains(" UTC</time>") && page.contains(" ago</time>"), "{page}");
    assert!(page.contains(">+0 ms<") && !page.contains(&at), "{page}");
    let campaign = history["campaign"].as_str().unwrap();
    let name = history["campaign_name"].as_str().unwrap();
    let link = format!("href=\"/campaigns/{campaign}\"");
    assert!(page.contains(&link) && page.contains(&format!(">{name}</a>")), "{page}");
    let of_campaign = reqwest::get(format!("{url}/campaigns/{campaign}")).await.unwrap();
    assert_eq!(of_campaign.status().as_u16(), 200);
    let of_campaign = of_campaign.text().await.unwrap();
    for part in [name, " spent of ", &format!("href=\"/tasks/{task}\""), "accepted"] {
        assert!(of_campaign.contains(part), "{part} is missing in {of_campaign}");
    }
    let none = reqwest::get(format!("{url}/campaigns/{}", TaskId([9; 32]))).await.unwrap();
    assert_eq!(none.status().as_u16(), 404);
    let start = reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap();
    assert!(start.contains("Leaderboard") && start.contains("download"), "{start}");
    assert!(start.contains("(95 of 100 within ") && start.contains(&link), "{start}");
    // There is no store here, so that documents are listed, and wait with a reason.
    let documents = get(url, "/api/v1/documents").await;
    assert_eq!(documents["counts"]["waiting"], PAGES, "{documents}");
    assert_eq!(documents["documents"][0]["reason"]["code"], "no-store", "{documents}");
    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("\nopenledger_urls_refined_total 5\n"), "{metrics}");
    assert_eq!(get(url, "/api/v1/nodes").await.as_array().unwrap().len(), nodes.len());
    let nothing = reqwest::get(format!("{url}/tasks/{}", TaskId([9; 32]))).await.unwrap();
    assert_eq!(nothing.status().as_u16(), 404);
    let account = get(url, "/api/v1/nodes").await[0]["account"].as_str().unwrap().to_owned();
    let account = get(url, &format!("/api/v1/accounts/{account}")).await;
    assert!(account["pending"].as_u64().unwrap() + account["vested"].as_u64().unwrap() > 0);
    let unfunded = reqwest::Client::new().post(format!("{url}/api/v1/campaigns")).send().await;
    assert_eq!(unfunded.unwrap().status().as_u16(), 401);
}

/// Replays all closed epochs from their bundles, as a stranger would.
pub(crate) async fn audit_bundles(network: &Network, url: &str) {
    let epochs = get(url, "/api/v1/epochs").await;
    let rows = epochs.as_array().unwrap();
    let mut bundles = Vec::new();
    for row in rows.iter().rev() {
        let path = format!("{url}/api/v1/epochs/{}/bundle", row["epoch"]);
        let bytes = reqwest::get(path).await.unwrap().bytes().await.unwrap();
        bundles.push(Bundle::from_bytes(&bytes).unwrap());
    }
    let setup = Setup::of(&network.profile, network.rules.clone());
    let report = audit(setup, &FingerprintJudge, &bundles).unwrap();
    assert!(report.epochs.len() >= 2);
    for (row, audited) in rows.iter().rev().zip(&report.epochs) {
        assert_eq!(row["root"], audited.close.root.to_string());
        let published = &row["bundle"]["data_commitment"];
        assert!(published.is_null() || *published == audited.data_commitment.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_forgers_get_a_clear_no() {
    let network = Network::new(&[Node::keys(1).0.public()]);
    let ledger = Arc::new(EmbeddedLedger::in_memory().unwrap());
    let coordinator = network.start(ledger, "127.0.0.1:0".parse().unwrap()).await;
    let node = Node::new(1, &network.profile);
    let (client, _events) = node.client(coordinator.link_address());
    while !client.is_connected() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let commit = Commit { task: TaskId([1; 32]), wave: 0, commitment: Commitment([2; 32]) };
    let id = network.profile.network();
    let own = Envelope::seal(&commit, id, &node.key).unwrap();
    let stranger = NodeKey::from_seed(&[77; 32]);
    let foreign = Envelope::seal(&commit, id, &stranger).unwrap();
    let other = openledger_wire::NetworkId([9; 32]);
    let replayed = Envelope::seal(&commit, other, &node.key).unwrap();
    let items = List::new(vec![own, foreign, replayed]).unwrap();
    let answer = client.request(&LinkRequest::Commits(items)).await.unwrap();
    let LinkResponse::Results(results) = answer else { panic!("{answer:?}") };
    let codes: Vec<String> = results
        .iter()
        .map(|result| match result {
            ItemResult::Refused { code, message } => {
                assert!(!message.is_empty());
                code.to_string()
            }
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, ["unknown-task", "other-node", "other-network"]);

    // Another node's registration opens nothing.
    let LinkResponse::Account(account) = client.request(&LinkRequest::Account).await.unwrap()
    else {
        panic!("no account")
    };
    assert_eq!(account.account, Node::keys(1).1.public().account());
    let hello = {
        let registration = Envelope::seal(&commit, id, &stranger).unwrap();
        move || LinkRequest::Hello { version: LINK_VERSION + 1, registration: registration.clone() }
    };
    let config = LinkClientConfig {
        key: stranger,
        server_key: network.profile.coordinator.node,
        addresses: vec![coordinator.link_address()],
        bind: None,
        hello: Arc::new(hello),
    };
    let (newer, mut events) = LinkClient::start(config).unwrap();
    let event = format!("{:?}", events.recv().await.unwrap());
    assert!(event.contains("link-version") && event.contains("update"), "{event}");
    newer.stop();
    client.stop();
    coordinator.shutdown().await.unwrap();
}

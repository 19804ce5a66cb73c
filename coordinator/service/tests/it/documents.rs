//! Documents from the nodes that made them to the campaign's owner: fetched as blobs, checked,
//! compared, listed, exported, and there again after a restart.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openledger_ledger::EmbeddedLedger;
use openledger_service::Coordinator;
use serde_json::Value;

use crate::network::{Network, get};
use crate::node::{Library, Node};

const PROGRAM: &str = env!("CARGO_BIN_EXE_openledger-coordinator");

/// English enough for every filter; the same for the same seed.
fn prose(seed: u32, sentences: usize) -> String {
    const KINDS: [&str; 24] = [
        "old", "quiet", "northern", "wooden", "famous", "narrow", "early", "broken", "friendly",
        "distant", "golden", "simple", "heavy", "public", "private", "sudden", "royal", "modern",
        "empty", "ancient", "patient", "clever", "bitter", "gentle",
    ];
    const THINGS: [&str; 24] = [
        "harbour",
        "village",
        "library",
        "garden",
        "market",
        "railway",
        "museum",
        "island",
        "river",
        "workshop",
        "school",
        "lighthouse",
        "kitchen",
        "theatre",
        "orchard",
        "factory",
        "teacher",
        "captain",
        "letter",
        "bridge",
        "winter",
        "mountain",
        "song",
        "window",
    ];
    const DEEDS: [&str; 24] = [
        "remembers",
        "follows",
        "changes",
        "surprises",
        "supports",
        "describes",
        "replaces",
        "protects",
        "forgets",
        "answers",
        "visits",
        "carries",
        "measures",
        "repeats",
        "watches",
        "divides",
        "improves",
        "explains",
        "collects",
        "avoids",
        "paints",
        "returns to",
        "belongs to",
        "speaks about",
    ];
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut pick = |from: &[&'static str; 24]| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        from[usize::try_from(state >> 16).unwrap() % 24]
    };
    let mut text = String::new();
    for number in 0..sentences {
        let (kind, thing, deed) = (pick(&KINDS), pick(&THINGS), pick(&DEEDS));
        let (other, place, third) = (pick(&KINDS), pick(&THINGS), pick(&KINDS));
        let (last, end) = (pick(&THINGS), pick(&THINGS));
        text.push_str(&format!(
            "The {kind} {thing} {deed} a {other} {place} with the {third} {last} and its {end}."
        ));
        text.push_str(if number % 4 == 3 { "\n\n" } else { " " });
    }
    text
}

fn library() -> Arc<Library> {
    let mut library = Library::new();
    for n in 1..=4 {
        library.insert(format!("http://site{n}.test/page"), prose(n, 24));
    }
    let copy = format!("{}\n\nOne more sentence stands at the end of the copy.", prose(1, 24));
    library.insert("http://mirror.test/page".to_owned(), copy);
    library.insert("http://lie.test/page".to_owned(), prose(8, 24));
    library.insert("http://lost.test/page".to_owned(), prose(9, 24));
    Arc::new(library)
}

/// Waits until so many documents are collected and compared, and nothing else is to be expected
/// of the others.
async fn settled(url: &str, collected: u64) -> Value {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let list = get(url, "/api/v1/documents").await;
        let rows = list["documents"].as_array().unwrap();
        let compared = rows.iter().filter(|row| row["compared"] == true).count() as u64;
        let lost = rows.iter().find(|row| row["url"] == "http://lost.test/page");
        let is_missed = lost.is_some_and(|row| !row["reason"].is_null());
        if compared == collected && list["counts"]["refused"] == 1 && is_missed {
            return list;
        }
        assert!(Instant::now() < deadline, "not done in time: {list}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn row<'a>(list: &'a Value, url: &str) -> &'a Value {
    let rows = list["documents"].as_array().unwrap();
    rows.iter().find(|row| row["url"] == url).unwrap()
}

/// What does not change any more.
fn collected(list: &Value) -> Vec<Value> {
    let rows = list["documents"].as_array().unwrap().iter();
    rows.filter(|row| row["state"] == "collected").cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_fetched_checked_compared_and_exported_once() {
    let founding: Vec<_> = (1..=3).map(|n| Node::keys(n).0.public()).collect();
    let network = Network::new(&founding).with_swarm();
    let ledger = Arc::new(EmbeddedLedger::in_memory().unwrap());
    let link = "127.0.0.1:0".parse().unwrap();
    let coordinator = network.start(Arc::clone(&ledger) as _, link).await;
    let url = coordinator.url();
    let (library, dir) = (library(), tempfile::tempdir().unwrap());
    let mut nodes = Vec::new();
    for n in 1..=3 {
        let node = Node::new(n, &network.profile);
        // The first holds nothing, so that others must be asked; one document nobody holds.
        let holds = |url: &str| n > 1 && !url.contains("lost");
        nodes.push(node.with_blobs(&library, dir.path(), holds).await);
    }
    let links: Vec<_> = nodes.iter().map(|node| node.connect(coordinator.link_address())).collect();
    let urls: Vec<String> = library.keys().cloned().collect();
    network.fund_urls(&url, &urls).await;

    let list = settled(&url, 5).await;
    let refused = row(&list, "http://lie.test/page");
    assert_eq!(
        (&refused["state"], &refused["reason"]["code"]),
        (&"refused".into(), &"other-bands".into())
    );
    let lost = row(&list, "http://lost.test/page");
    assert_eq!(lost["reason"]["code"], "not-delivered", "{lost}");
    let (original, copy) =
        (row(&list, "http://site1.test/page"), row(&list, "http://mirror.test/page"));
    let (first, second) = if original["number"].as_u64() < copy["number"].as_u64() {
        (original, copy)
    } else {
        (copy, original)
    };
    assert_eq!(second["duplicate_of"], first["document"], "{list}");
    assert_eq!(first["duplicate_documents"][0], second["document"], "{list}");
    assert_eq!(
        (&list["counts"]["duplicates"], &list["counts"]["collected"]),
        (&1.into(), &5.into())
    );
    assert_eq!(first["fetched_by"].as_array().unwrap().len(), 2, "{first}");
    assert!(!first["refined_by"].as_array().unwrap().is_empty(), "{first}");
    assert_eq!(first["language"], "eng");

    shown(&url, &list).await;
    exported(&url, dir.path(), second).await;
    bounded(&url).await;

    // Nobody is there to fetch from any more: what is collected is what the log and the disk say.
    links.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(coordinator.shutdown().await.unwrap(), [""; 0], "all parts end in time");
    for node in &nodes {
        node.blobs.as_ref().unwrap().shutdown().await;
    }
    let again: Coordinator = network.start(ledger, link).await;
    let after = settled(&again.url(), 5).await;
    assert_eq!(collected(&after), collected(&list));
    let (code, before) = (&row(&after, "http://lie.test/page")["reason"], &refused["reason"]);
    assert_eq!(code, before, "it is refused from the store's bytes");
    again.shutdown().await.unwrap();
}

/// Task history, start page and metrics.
async fn shown(url: &str, list: &Value) {
    let text = async |path: String| {
        reqwest::get(format!("{url}{path}")).await.unwrap().text().await.unwrap()
    };
    let task = |of: &str| row(list, of)["task"].as_str().unwrap().to_owned();
    let page = text(format!("/tasks/{}", task("http://site2.test/page"))).await;
    assert!(page.contains("collected and verified"), "{page}");
    let page = text(format!("/tasks/{}", task("http://lie.test/page"))).await;
    assert!(page.contains("refused") && page.contains("near-duplicate keys"), "{page}");
    let page = text("/".to_owned()).await;
    assert!(page.contains("Documents collected") && page.contains("1 of them near-dup"), "{page}");
    let metrics = text("/metrics".to_owned()).await;
    assert!(metrics.contains("\nopenledger_documents_collected_total 5\n"), "{metrics}");
    let missing = "\nopenledger_documents_missing{reason=\"other-bands\"} 1\n";
    assert!(metrics.contains(missing), "{metrics}");
    let campaigns = get(url, "/api/v1/campaigns").await;
    assert_eq!(campaigns[0]["documents"]["collected"], 5, "{campaigns}");
}

/// The export as an operator calls it.
async fn exported(url: &str, dir: &Path, duplicate: &Value) {
    let (out, api) = (dir.join("out.jsonl"), url.to_owned());
    let file = out.clone();
    let calling = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(PROGRAM);
        command.args(["documents", "--campaign", "docs", "--json", "--api", &api, "--out"]);
        command.arg(file).stdin(Stdio::null()).output().unwrap()
    });
    let output = calling.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["documents"], &summary["duplicates_left_out"]), (&4.into(), &1.into()));
    assert_eq!(summary["refused"], 1, "{summary}");
    let text = std::fs::read_to_string(out).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    for line in &lines {
        assert_ne!(line["document"], duplicate["document"]);
        assert_eq!((&line["terms"], &line["language"]), (&"CC0".into(), &"eng".into()));
        assert!(line["text"].as_str().unwrap().len() > 500, "{line}");
        assert_eq!(line["fetched_by"].as_array().unwrap().len(), 2, "{line}");
    }
}

/// Pages by number, and what is not answered.
async fn bounded(url: &str) {
    let mut after = 0;
    let mut numbers = Vec::new();
    loop {
        let path = format!("/api/v1/documents?campaign=docs&after={after}&limit=3");
        let page = get(url, &path).await;
        let rows = page["documents"].as_array().unwrap();
        assert!(rows.len() <= 3);
        numbers.extend(rows.iter().map(|row| row["number"].as_u64().unwrap()));
        if page["last"] == true {
            break;
        }
        after = page["next"].as_u64().unwrap();
    }
    assert_eq!(numbers, (1..=7).collect::<Vec<u64>>());
    let status = async |path: &str| {
        let answer = reqwest::get(format!("{url}/api/v1/documents{path}")).await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap()["error"]["message"].to_string())
    };
    for limit in ["0", "501", "99999999999999999999", "-1"] {
        assert_eq!(status(&format!("?limit={limit}")).await.0, 400, "{limit}");
    }
    let (code, message) = status("?campaign=nobodys").await;
    assert!(code == 404 && message.contains("nobodys"), "{message}");
    assert_eq!(status("?sort=size").await.0, 400);
    assert_eq!(status("/not-an-id").await.0, 400);
    assert_eq!(status(&format!("/{}", "ab".repeat(32))).await.0, 404);
    let list = get(url, "/api/v1/documents").await;
    let refused = row(&list, "http://lie.test/page")["document"].as_str().unwrap().to_owned();
    let (code, message) = status(&format!("/{refused}")).await;
    assert!(code == 404 && message.contains("refused"), "{message}");
}

//! Inference work of campaigns: asked for, given out with where prompts are, answered a little
//! differently by each machine, judged within the tolerance, and shown without any words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openledger_ledger::EmbeddedLedger;
use openledger_refine::PROFILE_V1;
use openledger_rules::{Event, RuleSet};
use openledger_service::{Coordinator, limits};
use openledger_swarm::Blobs as _;
use openledger_wire::call::Prompt;
use openledger_wire::log::Verdict;
use openledger_wire::proof::ProofBody;
use openledger_wire::task::{Campaign, InferTask};
use openledger_wire::{BlobId, NodeId, Points, TaskId, Text, decode, limits as wire};
use serde_json::{Value, json};

use crate::flow::audit_bundles;
use crate::network::{Network, get};
use crate::node::{Library, Node};

/// Words that must appear nowhere but in the prompt's blob.
const SECRET: &str = "a heron on the jetty";
const LIAR: u8 = 4;

fn digits(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// Work for two models' worth of prompts; each variant asks for other words.
fn request(variant: u32) -> Value {
    let words = ["one", "two", "three"].map(|word| format!("{word} {variant}"));
    json!({
        "name": "answers", "contact": "abuse@site.test", "terms": "CC0", "budget": 1_000_000,
        "infer": [
            {
                "model": digits('a'),
                "model_name": "small",
                "adapters": [
                    { "id": digits('b'), "name": "pirate" },
                    { "id": digits('c'), "weight_permille": 500 },
                ],
                "prompts": [
                    format!("{SECRET}, {variant}"),
                    { "messages": [
                        { "role": "system", "content": "Be brief." },
                        { "role": "user", "content": format!("What is a harbour? {variant}") },
                    ] },
                ],
                "tokens_max": 12,
                "temperature_permille": 800,
                "repeat": 2,
            },
            {
                "model": digits('a'),
                "prompts": words,
                "tokens_max": 6,
                "value_permille": 500,
            },
        ],
    })
}

const TASKS: u64 = 7;

async fn start(network: &Network) -> Coordinator {
    let ledger = Arc::new(EmbeddedLedger::in_memory().unwrap());
    network.start(ledger, "127.0.0.1:0".parse().unwrap()).await
}

/// Waits until all tasks are answered, the liar was caught and epochs are closed; asks for more
/// as long as the liar was never drawn.
async fn answered(network: &Network, url: &str, liar: NodeId) -> Value {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut requests = 1;
    loop {
        let stats = get(url, "/api/v1/stats").await;
        let caught = stats["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["node"] == liar.to_string() && row["verdict"] == "rejected");
        let done = stats["answers_accepted"].as_u64().unwrap() == TASKS * u64::from(requests);
        if done && caught && stats["epochs_closed"].as_u64().unwrap() >= 2 {
            return stats;
        }
        if done && !caught {
            let funded = network.ask_for(url, &request(requests)).await;
            assert_eq!((funded.0, &funded.1["known"]), (200, &Value::Bool(true)), "{funded:?}");
            requests += 1;
        }
        assert!(Instant::now() < deadline, "not done in time: {stats}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_within_the_tolerance_are_accepted_and_inventions_are_not() {
    let founding: Vec<_> = (1..=LIAR).map(|n| Node::keys(n).0.public()).collect();
    let network = Network::new(&founding).with_swarm();
    let coordinator = start(&network).await;
    let url = coordinator.url();
    let dir = tempfile::tempdir().unwrap();
    let mut nodes: Vec<Node> = (1..=LIAR).map(|n| Node::new(n, &network.profile)).collect();
    nodes[usize::from(LIAR) - 1].invents = true;
    let liar = nodes[usize::from(LIAR) - 1].key.public();
    let links: Vec<_> = nodes.iter().map(|node| node.connect(coordinator.link_address())).collect();

    let (status, funded) = network.ask_for(&url, &request(0)).await;
    assert_eq!((status, &funded["tasks"], &funded["prompts"]), (201, &TASKS.into(), &5.into()));
    let stats = answered(&network, &url, liar).await;
    let rejected =
        stats["reasons"].as_array().unwrap().iter().filter(|r| r["verdict"] == "rejected");
    for row in rejected {
        assert_eq!(row["node"], liar.to_string(), "an honest node was rejected: {stats}");
        assert_eq!(row["reason"], "ReexecutionDiffers");
    }
    let accepted = stats["verdicts"]["infer accepted"].as_u64().unwrap();
    assert!(accepted >= 2 * TASKS, "an answer and its check for each task: {stats}");
    for node in &nodes {
        assert_eq!(node.memory.lock().unwrap().refused, Vec::<String>::new());
    }

    never_equal_bytes(&nodes);
    shown_without_words(&url, &nodes, liar).await;
    let asker = nodes[0].clone().with_blobs(&Arc::new(Library::new()), dir.path(), |_| false).await;
    prompts_are_delivered(&asker).await;

    let before = get(&url, "/api/v1/campaigns").await;
    assert_eq!(network.ask_for(&url, &request(0)).await.1["known"], true);
    let after = get(&url, "/api/v1/campaigns").await;
    assert_eq!(before[0]["tasks"], after[0]["tasks"], "the same request adds nothing");
    audit_bundles(&network, &url).await;
    links.iter().for_each(tokio::task::JoinHandle::abort);
    asker.blobs.unwrap().shutdown().await;
    coordinator.shutdown().await.unwrap();
}

/// Of the accepted proofs of one task, no two have the same bytes.
fn never_equal_bytes(nodes: &[Node]) {
    let mut bodies: BTreeMap<TaskId, Vec<ProofBody>> = BTreeMap::new();
    for node in nodes {
        let answers = node.answers();
        let memory = node.memory.lock().unwrap();
        let rows = memory.verdicts.values().map(|verdict| verdict.row);
        for row in rows.filter(|row| row.verdict == Verdict::Accepted) {
            let made = answers.iter().find(|(leased, _)| leased.lease.task == row.task).unwrap();
            bodies.entry(row.task).or_default().push(made.1.clone());
        }
    }
    assert!(bodies.values().any(|bodies| bodies.len() >= 2), "nothing was checked");
    for bodies in bodies.values() {
        for (at, body) in bodies.iter().enumerate() {
            assert!(!bodies[..at].contains(body), "two machines gave the same bytes");
        }
    }
}

/// A task's history names models, tolerance, verdicts and lengths; nothing says a word.
async fn shown_without_words(url: &str, nodes: &[Node], liar: NodeId) {
    let caught = {
        let node = nodes.iter().find(|node| node.key.public() == liar).unwrap();
        let memory = node.memory.lock().unwrap();
        let mut rows = memory.verdicts.values().map(|verdict| verdict.row);
        rows.find(|row| row.verdict == Verdict::Rejected).unwrap().task
    };
    let history = get(url, &format!("/api/v1/tasks/{caught}")).await;
    assert_eq!(
        (&history["kind"], &history["infer"]["model"]["name"]),
        (&"infer".into(), &"small".into())
    );
    assert_eq!(history["infer"]["tolerance_micro"], 20_000, "{history}");
    let verdicts = history["verdicts"].as_array().unwrap();
    for row in verdicts {
        let is_accepted = row["verdict"] == "accepted";
        assert_eq!(is_accepted, row["node"] != liar.to_string(), "{history}");
        if is_accepted {
            // Checks of given tokens are no answers.
            let answer = &row["answer"];
            let expected = json!({ "tokens": 6, "finish": "end", "backend": answer["backend"] });
            assert!(answer.is_null() || *answer == expected, "{history}");
        } else {
            assert!(row["answer"].is_null(), "{history}");
            assert!(row["sentence"].as_str().unwrap().contains("tolerance"), "{history}");
        }
    }
    assert!(verdicts.iter().filter(|row| row["verdict"] == "accepted").count() >= 3, "{history}");

    let campaigns = get(url, "/api/v1/campaigns").await;
    let inference = &campaigns[0]["inference"];
    assert_eq!(inference["tasks"], inference["answered"], "{campaigns}");
    assert!(inference["rejected"].as_u64().unwrap() >= 1, "{campaigns}");
    assert_eq!((&inference["models"], &inference["adapters"]), (&1.into(), &2.into()));
    assert_eq!(inference["adapters_named"][0]["name"], "pirate", "{campaigns}");

    let page = reqwest::get(format!("{url}/tasks/{caught}")).await.unwrap().text().await.unwrap();
    let is_answered = verdicts.iter().any(|row| !row["answer"].is_null());
    assert!(page.contains("small") && page.contains("6 tokens by ") == is_answered, "{page}");
    let start = reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap();
    assert!(start.contains("Campaigns") && start.contains("with 2 adapters"), "{start}");
    let log =
        reqwest::get(format!("{url}/api/v1/log?max=500")).await.unwrap().text().await.unwrap();
    assert!(!log.contains(&hex::encode(SECRET)), "a prompt is in the log");
    for text in [page, start, history.to_string(), campaigns.to_string()] {
        assert!(!text.contains(SECRET) && !text.contains("harbour"), "{text}");
    }
}

/// Each lease says where its prompt is, and it is there.
async fn prompts_are_delivered(node: &Node) {
    let (mut texts, mut chats) = (0, 0);
    for (leased, _) in node.answers() {
        let task: InferTask = decode(&leased.spec.body, wire::TASK_BODY_MAX).unwrap();
        assert_eq!(leased.holders.len(), 1);
        let blobs = node.blobs.as_ref().unwrap();
        let bytes = blobs.fetch(task.prompt, wire::PROMPT_MAX, &leased.holders).await.unwrap();
        match decode::<Prompt>(&bytes, wire::PROMPT_MAX).unwrap() {
            Prompt::Text(_) => texts += 1,
            Prompt::Chat(messages) => {
                assert_eq!((&*messages[0].role, &*messages[1].role), ("system", "user"));
                chats += 1;
            }
            Prompt::Tokens(_) => panic!("nobody asked for that"),
        }
    }
    assert!(texts + chats > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_a_kill_cut_off_is_completed_by_sending_it_again() {
    let network = Network::new(&[Node::keys(1).0.public()]).with_swarm();
    // Prompts are kept, and nothing of the log is left: killed before a line was durable.
    let coordinator = start(&network).await;
    let (status, first) = network.ask_for(&coordinator.url(), &request(0)).await;
    assert_eq!(status, 201, "{first}");
    coordinator.shutdown().await.unwrap();

    // Killed again between the campaign's line and that of its tasks.
    let coordinator = start(&network).await;
    let url = coordinator.url();
    let campaign = Campaign {
        name: Text::clipped("answers"),
        contact: Text::clipped("abuse@site.test"),
        terms: Text::clipped("CC0"),
        budget: Points(1_000_000),
        replicas: 2,
    };
    coordinator.core().submit(Event::Campaign(campaign)).await.unwrap();
    let (status, second) = network.ask_for(&url, &request(0)).await;
    assert_eq!((status, &second["known"]), (200, &Value::Bool(true)), "{second}");
    assert_eq!((&first["campaign"], &first["tasks"]), (&second["campaign"], &second["tasks"]));
    let (status, _) = network.ask_for(&url, &request(0)).await;
    assert_eq!(status, 200);
    let campaigns = get(&url, "/api/v1/campaigns").await;
    assert_eq!(campaigns[0]["tasks"], TASKS, "each task once");
    assert_eq!(campaigns[0]["inference"]["models_named"][0]["name"], "small", "{campaigns}");

    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(1, &network.profile);
    let node = node.with_blobs(&Arc::new(Library::new()), dir.path(), |_| false).await;
    let link = node.connect(coordinator.link_address());
    let deadline = Instant::now() + Duration::from_secs(60);
    while node.answers().len() < usize::try_from(TASKS).unwrap() {
        assert!(Instant::now() < deadline, "not leased in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    prompts_are_delivered(&node).await;
    link.abort();
    node.blobs.unwrap().shutdown().await;
    coordinator.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_request_is_taken_before_its_time_is_up() {
    let network = Network::new(&[]).with_swarm();
    let coordinator = start(&network).await;
    let prompts: Vec<String> =
        (0..limits::INFER_PROMPTS_MAX).map(|n| format!("{n}: {}", "word ".repeat(700))).collect();
    let mut request = request(0);
    request["infer"] = json!([
        { "model": digits('a'), "prompts": prompts, "tokens_max": 1_024, "repeat": 10 },
    ]);
    let (status, answer) = network.ask_for(&coordinator.url(), &request).await;
    assert_eq!((status, &answer["tasks"]), (201, &limits::INFER_TASKS_MAX.into()), "{answer}");
    let campaigns = get(&coordinator.url(), "/api/v1/campaigns").await;
    assert_eq!(campaigns[0]["inference"]["tasks"], limits::INFER_TASKS_MAX, "{campaigns}");
    coordinator.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_refused_with_its_place_and_what_to_do() {
    let mut network = Network::new(&[]).with_swarm();
    let coordinator = start(&network).await;
    let url = coordinator.url();
    let with = |change: fn(&mut Value)| {
        let mut request = request(0);
        change(&mut request["infer"][1]);
        request
    };
    let cases = [
        (with(|of| of["model"] = "small".into()), "infer[1].model"),
        (with(|of| of["prompts"] = json!([])), "infer[1].prompts"),
        (with(|of| of["tokens_max"] = 5_000.into()), "infer[1].tokens_max"),
        (with(|of| of["prompts"] = json!(["x".repeat(300_000)])), "infer[1].prompts[0]"),
        (with(|of| of["prompts"] = json!([7])), "messages = [...]"),
        (with(|of| of["tokens"] = 5.into()), "tokens"),
    ];
    for (request, words) in cases {
        let (status, answer) = network.ask_for(&url, &request).await;
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        assert!((400..=422).contains(&status) && message.contains(words), "{words}: {answer}");
    }
    let mut nothing = request(0);
    nothing["infer"] = json!([]);
    let (status, answer) = network.ask_for(&url, &nothing).await;
    assert!(status == 400 && answer.to_string().contains("[[infer]]"), "{answer}");
    assert_eq!(get(&url, "/api/v1/campaigns").await, json!([]), "nothing of it was logged");
    coordinator.shutdown().await.unwrap();

    // The rule sets before have no inference; a coordinator without blobs has nothing to give.
    network.set_rules(|rules| *rules = RuleSet::devnet_v1(PROFILE_V1.profile_id()));
    let no_store = Network::new(&[]);
    for (network, code, words) in
        [(network, "no-inference", "devnet-4"), (no_store, "no-store", "swarm.enabled")]
    {
        let coordinator = start(&network).await;
        let (status, answer) = network.ask_for(&coordinator.url(), &request(0)).await;
        assert_eq!((status, &answer["error"]["code"]), (409, &code.into()), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
        coordinator.shutdown().await.unwrap();
    }
    // An id is one of 64 digits, wherever it stands.
    assert_eq!(digits('a').parse::<BlobId>().unwrap(), BlobId([0xaa; 32]));
}

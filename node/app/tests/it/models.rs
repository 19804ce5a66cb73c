//! Model files: taken over, told of, got from peers and from a hub, and used by tasks.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openledger_app::serving::{
    AddOptions, EntryKind, InferenceConfig, Library, Models, ModelsConfig, ObtainError, Offers, add,
};
use openledger_app::tasks::{Bench, Counts, InferBench, Turns, WorkError};
use openledger_app::worker::Worker;
use openledger_app::{Conduct, Honest, Occasion};
use openledger_inference::{
    BackendKind, Engine, EngineOptions, KvFormat, LoraFormat, Request, Sampling, Tolerance,
    class_of, of_class,
};
use openledger_models::{Adapter, Message, Model, SpecialTokens};
use openledger_rules::infer::Relation;
use openledger_rules::{InferRules, JudgedClass};
use openledger_swarm::{Blobs as _, MemoryBlobs};
use openledger_wire::gossip::{Announcement, Holder};
use openledger_wire::link::LeasedTask;
use openledger_wire::log::{Lease, Role};
use openledger_wire::proof::{InferFinish, InferOutput};
use openledger_wire::task::{InferTask, TaskKind, TaskSpec};
use openledger_wire::worker::FetchSetup;
use openledger_wire::{
    Blob, BlobId, CampaignId, List, NetworkId, NodeId, Round, Text, UnixMs, encode,
};
use sha2::{Digest as _, Sha256};

use crate::coordinator::Coordinator;
use crate::process::{NodeProcess, command, json, until};
use crate::serving::{adapter_file, chat, model_path};
use crate::workers::program;

const TIME: Duration = Duration::from_secs(60);

/// A node's models with blobs that others can fetch.
struct Holding {
    models: Arc<Models>,
    blobs: MemoryBlobs,
    node: NodeId,
}

fn holding(folder: &Path, blobs: MemoryBlobs, node: NodeId) -> Holding {
    std::fs::create_dir_all(folder).unwrap();
    let (config, inference) = (ModelsConfig::default(), InferenceConfig::default());
    let models = Models::open(folder, config, inference, program(), Arc::new(blobs.clone()));
    let models = Arc::new(models);
    tokio::spawn(Arc::clone(&models).keep());
    Holding { models, blobs, node }
}

impl Holding {
    fn announcement(&self) -> Announcement {
        Announcement {
            at: openledger_app::time::now(),
            blob_addresses: List::default(),
            kinds: List::default(),
            blobs: List::default(),
            offers: List::new(self.models.shared_offers()).unwrap(),
        }
    }

    fn bench(&self, offers: Arc<Offers>, conduct: impl Conduct + 'static) -> Bench {
        let setup = FetchSetup {
            coordinator: Text::default(),
            contact: Text::default(),
            private_hosts: std::collections::BTreeMap::new(),
            allow: List::default(),
            deny: List::default(),
            bind: None,
        };
        Bench {
            fetcher: Worker::fetch(program(), setup, TIME),
            turns: Turns::alone(),
            refiners: Arc::new([tokio::sync::Mutex::new(Worker::refine(program()))]),
            blobs: Arc::new(self.blobs.clone()),
            infer: Some(InferBench {
                models: Arc::clone(&self.models),
                offers,
                classes: [InferenceConfig::default().class(), "cpu-reference-1"]
                    .map(str::to_owned)
                    .into(),
                with_evidence: false,
            }),
            conduct: Arc::new(conduct),
            counts: Counts::default(),
        }
    }
}

fn leased(task: &InferTask, holders: Vec<Holder>) -> LeasedTask {
    let spec = TaskSpec {
        campaign: CampaignId::ZERO,
        kind: TaskKind::Infer,
        version: 1,
        nonce: 0,
        value_permille: 1_000,
        body: Blob::new(encode(task).unwrap()).unwrap(),
    };
    let id = spec.id(NetworkId::ZERO).unwrap();
    let node = NodeId([1; 32]);
    let lease = Lease { task: id, wave: 0, node, role: Role::Replica, deadline: UnixMs(u64::MAX) };
    LeasedTask {
        lease,
        round: Round(1),
        spec,
        holders: List::new(holders).unwrap(),
        backend: None,
        answer: None,
    }
}

fn now() -> UnixMs {
    UnixMs(5_000)
}

/// Answers with one token less.
struct Clipper;

impl Conduct for Clipper {
    fn infer_output(&self, honest: InferOutput, occasion: Occasion<'_>) -> InferOutput {
        assert!(!occasion.page.is_empty());
        let mut tokens = honest.tokens.to_vec();
        tokens.pop();
        InferOutput { tokens: List::new(tokens).unwrap(), ..honest }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_gets_what_it_lacks_from_peers_and_its_answer_is_the_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, coordinator) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]));
    let blobs = MemoryBlobs::new(first);
    let has = holding(&folder.path().join("has"), blobs.clone(), first);
    let lacks = holding(&folder.path().join("lacks"), blobs.linked(second), second);
    let library = Arc::clone(&has.models.library);
    let base = add(&library, &model_path(), &AddOptions::default()).unwrap();
    let file = adapter_file(&folder, 5, 8);
    let adapter = add(&library, &file, &AddOptions::default()).unwrap();
    until("both are shared", || has.models.shared_offers().len() == 2).await;

    let prompt = encode(&chat("Why is the sky blue?")).unwrap();
    let prompt_id = blobs.linked(coordinator).put(prompt.into()).await.unwrap();
    let task = |tokens_max| InferTask {
        model: base.blob,
        adapters: List::new(vec![(adapter.blob, 800)]).unwrap(),
        prompt: prompt_id,
        tokens_max,
        seed: [3; 32],
        temperature_permille: 900,
    };
    let holder = Holder { node: coordinator, addresses: List::default() };
    let offers = Arc::new(Offers::new());
    let bench = lacks.bench(Arc::clone(&offers), Honest);

    // Nobody offers it, and the coordinator holds the prompt alone.
    let lease = leased(&task(12), vec![holder.clone()]);
    let error = bench.work(&lease, now, TIME).await.unwrap_err();
    assert!(matches!(error, WorkError::Declined(_)), "{error}");
    assert!(error.to_string().contains(&base.blob.to_string()), "{error}");

    assert!(offers.heard(has.node, &has.announcement(), openledger_app::time::now()));
    let output = bench.work(&lease, now, TIME).await.unwrap();
    assert_eq!((output.input, output.body.version), (prompt_id, InferOutput::VERSION_PLAIN));
    let said: InferOutput = output.body.read().unwrap();
    assert_eq!(said.tokens.len(), said.logprobs_micro.len());
    assert!(said.finish == InferFinish::End || said.tokens.len() == 12);
    assert_eq!(&*said.backend, InferenceConfig::default().class());
    let counts = lacks.models.counts();
    assert_eq!((counts.models_from_peers, counts.bases, counts.adapters), (2, 1, 1));
    assert_eq!(counts.calls_local, 0, "work is no call");
    assert_eq!(bench.counts.inferences.load(Ordering::Relaxed), 1);
    let got = lacks.models.library.get(&base.blob).unwrap();
    assert_eq!((got.name, got.kind), (base.name, EntryKind::Base));
    let path = lacks.models.library.place(base.blob, EntryKind::Base);
    assert_eq!(std::fs::metadata(path).unwrap().len(), base.bytes);

    verifier_agrees(&task(12), &said, &file, &adapter.blob);

    // Who checks an answer of another class computes in that one, beside his own.
    let told = |class: &str| LeasedTask { backend: Some(Text::clipped(class)), ..lease.clone() };
    let checked = bench.work(&told("cpu-reference-1"), now, TIME).await.unwrap();
    let checked: InferOutput = checked.body.read().unwrap();
    assert_eq!(&*checked.backend, "cpu-reference-1");
    assert_ne!(checked.logprobs_micro, said.logprobs_micro, "two classes, two results");
    verifier_agrees(&task(12), &checked, &file, &adapter.blob);
    let foreign = bench.work(&told("gpu-9"), now, TIME).await.unwrap_err();
    assert!(matches!(foreign, WorkError::Declined(_)), "{foreign}");
    assert!(foreign.to_string().contains("gpu-9"), "{foreign}");
    // Rules that compare the reference alone get the reference, whatever the owner set.
    let mut old = lacks.bench(Arc::clone(&offers), Honest);
    old.infer.as_mut().unwrap().classes = vec!["cpu-reference-1".to_owned()];
    let found = old.work(&lease, now, TIME).await.unwrap().body.read::<InferOutput>().unwrap();
    assert_eq!(found, checked);

    let again = has.bench(offers, Clipper).work(&lease, now, TIME).await.unwrap();
    let clipped: InferOutput = again.body.read().unwrap();
    assert_eq!(clipped.tokens[..], said.tokens[..said.tokens.len() - 1], "the same on each node");

    let long = bench.work(&leased(&task(2_000), vec![holder]), now, TIME).await.unwrap_err();
    assert!(matches!(long, WorkError::Task(_)), "{long}");
}

/// Whoever has the files finds each token to be the one that the seed draws.
fn verifier_agrees(task: &InferTask, said: &InferOutput, file: &Path, adapter: &BlobId) {
    let model = Arc::new(Model::open(&model_path()).unwrap());
    let (backend, kv, adapters) = of_class(&said.backend).unwrap();
    let options = EngineOptions { backend, kv, adapters, ..EngineOptions::default() };
    let mut engine = Engine::new(Arc::clone(&model), options).unwrap();
    let bundle = std::fs::read(file).unwrap();
    let parsed = Adapter::from_bundle(&bundle, model.config()).unwrap();
    engine.put_adapter(*adapter, parsed).unwrap();
    let said_by = [Message::new("user", "Why is the sky blue?")];
    let text = model.chat_template().render(&said_by, true).unwrap();
    let request = Request {
        prompt: model.tokenizer().encode_with_bos(&text, SpecialTokens::Parse),
        adapters: vec![(*adapter, 0.8)],
        tokens_max: task.tokens_max as usize,
        sampling: Sampling::seeded(0.9, task.seed),
        ..Request::greedy(Vec::new(), 0)
    };
    let checked = engine.verify(&request, &said.tokens, Tolerance::REFERENCE).unwrap();
    assert!(checked.accepted, "{checked:?}");
}

/// Rules under which the reference's answers are judged by fingerprints, as those of devices are.
fn judging(writes: &str, checks: &str) -> InferRules {
    let judged = JudgedClass {
        class: Text::clipped(writes),
        checked_in: Text::clipped(checks),
        tolerance: openledger_rules::Tolerance::ROUNDED,
    };
    InferRules {
        backends: List::new([Text::clipped(checks)]).unwrap(),
        judged: List::new([judged]).ok(),
        ..InferRules::v3()
    }
}

/// One node answers in one class, another runs the tokens in the class that the rules name, and the
/// rules hold the two against each other.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_checked_by_its_fingerprint_in_another_class() {
    let folder = tempfile::tempdir().unwrap();
    let (node, coordinator) = (NodeId([1; 32]), NodeId([3; 32]));
    let blobs = MemoryBlobs::new(node);
    let here = holding(&folder.path().join("here"), blobs.clone(), node);
    let library = Arc::clone(&here.models.library);
    let base = add(&library, &model_path(), &AddOptions::default()).unwrap();
    let adapter = add(&library, &adapter_file(&folder, 5, 8), &AddOptions::default()).unwrap();
    let prompt = encode(&chat("Why is the sky blue?")).unwrap();
    let prompt_id = blobs.linked(coordinator).put(prompt.into()).await.unwrap();
    let task = |weight: u32, seed: u8| InferTask {
        model: base.blob,
        adapters: List::new(vec![(adapter.blob, weight); usize::from(weight > 0)]).unwrap(),
        prompt: prompt_id,
        tokens_max: 24,
        seed: [seed; 32],
        temperature_permille: 900,
    };
    let holders = vec![Holder { node: coordinator, addresses: List::default() }];
    let [writes, checks] = [BackendKind::Reference, BackendKind::Int12Whole]
        .map(|kind| class_of(kind, KvFormat::F16, LoraFormat::Q8));
    let bench = |class: &str| {
        let mut bench = here.bench(Arc::new(Offers::new()), Honest);
        let infer = bench.infer.as_mut().unwrap();
        (infer.classes, infer.with_evidence) = (vec![class.to_owned()], true);
        bench
    };
    let (writer, auditor) = (bench(writes), bench(checks));
    let rules = judging(writes, checks);
    let asked = task(800, 3);
    for (done, what, wanted) in [
        (task(800, 3), "honest", vec![Relation::Agree]),
        (task(0, 3), "without its adapter", vec![Relation::Differ]),
        (task(720, 3), "with nine tenths of it", vec![Relation::Differ, Relation::NearTie]),
        // Read by the right model, as its fingerprint shows, but not what the task's seed draws.
        (task(800, 4), "another's words", vec![Relation::Differ]),
    ] {
        let output = writer.work(&leased(&done, holders.clone()), now, TIME).await.unwrap();
        assert_eq!(output.body.version, InferOutput::VERSION);
        let said: InferOutput = output.body.read().unwrap();
        assert!(rules.is_sound(&asked, &said) && &*said.backend == writes, "{said:?}");

        let mut lease = leased(&asked, holders.clone());
        lease.backend = Some(Text::clipped(checks));
        lease.answer = Some(said.tokens.clone());
        let refused = auditor.work(&lease, now, TIME).await.unwrap_err();
        assert!(matches!(refused, WorkError::Declined(_)), "a replica checks nothing: {refused}");
        lease.lease.role = Role::Auditor;
        let found = auditor.work(&lease, now, TIME).await.unwrap();
        let found: InferOutput = found.body.read().unwrap();
        assert!(rules.is_sound(&asked, &found) && &*found.backend == checks, "{found:?}");
        let relation = rules.relation(&said, &found);
        assert!(wanted.contains(&relation), "{what}: {relation:?}, {:?}", found.check());
        // Whoever else checks finds the same.
        let again = auditor.work(&lease, now, TIME).await.unwrap();
        assert_eq!(again.body.read::<InferOutput>().unwrap(), found);
    }
}

#[tokio::test]
async fn what_peers_send_is_looked_at_before_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (NodeId([1; 32]), NodeId([2; 32]));
    let blobs = MemoryBlobs::new(first);
    let lacks = holding(&folder.path().join("lacks"), blobs.linked(second), second);
    let junk = blobs.put(vec![7u8; 5_000].into()).await.unwrap();
    let offer = openledger_wire::gossip::Offer {
        name: Text::clipped("junk"),
        blob: junk,
        bytes: 5_000,
        kind: openledger_wire::gossip::OfferKind::Base,
    };
    let holder = Holder { node: first, addresses: List::default() };
    let error = lacks.models.obtain(&offer, &[holder]).await.unwrap_err();
    assert!(matches!(error, ObtainError::Unusable(_)), "{error}");
    assert!(!lacks.models.library.place(junk, EntryKind::Base).exists());
    assert_eq!(lacks.models.counts().models_from_peers, 0);
    assert!(lacks.models.failures().contains_key(&junk.to_string()));
}

#[test]
fn the_command_adds_lists_and_removes_files() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let model = model_path();
    let added = json(&data, &["model", "add", model.to_str().unwrap(), "--name", "smol"]);
    assert_eq!((added["name"].as_str(), added["kind"].as_str()), (Some("smol"), Some("base")));
    let file = adapter_file(&folder, 1, 4);
    let voice = json(&data, &["model", "add", file.to_str().unwrap()]);
    assert_eq!((voice["name"].as_str(), &voice["base"]), (Some("voice-1"), &added["blob"]));

    // As PEFT saves it, in a folder of two files.
    let (config, tensors) = openledger_models::AdapterBundle::unpack(
        &std::fs::read(adapter_file(&folder, 2, 4)).unwrap(),
    )
    .unwrap();
    let peft = folder.path().join("poet");
    std::fs::create_dir(&peft).unwrap();
    std::fs::write(peft.join("adapter_config.json"), config).unwrap();
    std::fs::write(peft.join("adapter_model.safetensors"), tensors).unwrap();
    let poet = json(&data, &["model", "add", peft.to_str().unwrap(), "--base", "smol"]);
    assert_eq!(poet["name"], "poet");

    let listed = json(&data, &["model", "list"]);
    let names: Vec<_> = listed["models"].as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert_eq!(names, ["smol", "poet", "voice-1"]);
    let id = poet["blob"].as_str().unwrap();
    json(&data, &["model", "remove", &id[..8]]);
    assert!(!data.join(format!("models/{id}.safetensors")).exists());
    let gone = command(&data, &["model", "remove", "poet"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("model list"));
    let none = command(&data, &["model", "fetch", "poet"]);
    assert_eq!(none.status.code(), Some(3), "no node runs");
}

/// A hub that cuts each answer after so many bytes, and remembers what was asked.
struct HubServer {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl HubServer {
    fn start(content: Vec<u8>, cut_after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                serve(stream, &content, cut_after, &seen);
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, content: &[u8], cut_after: usize, seen: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut byte = [0u8; 1];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let first = request.lines().next().unwrap().to_owned();
    let from = request.lines().find_map(|line| {
        let range = line.to_ascii_lowercase();
        range.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
    });
    seen.lock().unwrap().push(format!("{first} from {}", from.unwrap_or(0)));
    let head = |status: &str, more: String| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n")
    };
    if !first.contains("/resolve/main/model.gguf ") {
        let _ = stream.write_all(head("404 Not Found", "Content-Length: 0\r\n".into()).as_bytes());
        return;
    }
    let (from, total) = (from.unwrap_or(0), content.len());
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let range = format!(
        "Content-Length: {}\r\nContent-Range: bytes {from}-{}/{total}\r\n",
        total - from,
        total - 1
    );
    let _ = stream.write_all(head(status, range).as_bytes());
    if first.starts_with("GET") {
        let to = total.min(from + cut_after);
        let _ = stream.write_all(&content[from..to]);
    }
}

fn download(data: &Path, hub: &HubServer, more: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(["--json", "model", "download", "hf:some/repo/model.gguf"])
        .args(more)
        .env_clear()
        .env("OPENLEDGER_DATA", data)
        .env("HF_ENDPOINT", &hub.url)
        .output()
        .unwrap()
}

#[test]
fn a_download_goes_on_after_cuts_and_is_compared_with_its_sum() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let content = std::fs::read(model_path()).unwrap();
    let sum = hex::encode(Sha256::digest(&content));
    let hub = HubServer::start(content.clone(), 40_000_000);

    let wrong = download(&data, &hub, &["--sha256", &"0".repeat(64)]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains(&sum) && said.contains("was removed"), "{said}");
    assert!(Library::open(data.join("models")).entries().is_empty());

    let fine = download(&data, &hub, &["--sha256", &sum, "--name", "smol"]);
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stderr));
    let value: serde_json::Value = serde_json::from_slice(&fine.stdout).unwrap();
    assert_eq!((value["sha256"].as_str(), &value["sha256_compared"]), (Some(&*sum), &true.into()));
    assert_eq!(value["model"]["blob"], BlobId::of(&content).to_string());
    let asked = hub.asked();
    assert!(asked.iter().any(|line| line.ends_with("from 40000000")), "{asked:?}");
    assert!(asked.iter().any(|line| line.ends_with("from 80000000")), "{asked:?}");
    let left = std::fs::read_dir(data.join("models/downloads")).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");

    let missing = Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(["model", "download", "hf:some/repo/other.gguf"])
        .env_clear()
        .env("OPENLEDGER_DATA", &data)
        .env("HF_ENDPOINT", &hub.url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("404") && said.contains("check owner"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_offers_inference_from_its_first_model_to_its_last() {
    let coordinator = Coordinator::start("kinds", 52, std::collections::BTreeMap::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("net.toml"), folder.path().join("data"));
    coordinator.publish(&file);
    let node = NodeProcess::up(&data, &["--network", file.to_str().unwrap()]);
    let offers = |kinds: &[TaskKind]| {
        let codes: Vec<u8> = kinds.iter().map(|kind| kind.code()).collect();
        let heard = coordinator.heard();
        heard.registration.as_ref().is_some_and(|(_, said)| said.kinds[..] == codes)
    };
    let (few, all) = ([TaskKind::Fetch, TaskKind::Refine], TaskKind::Infer);
    let all = [few[0], few[1], all];
    until("the node has greeted", || offers(&few)).await;
    let task = |seed| InferTask {
        model: BlobId([7; 32]),
        adapters: List::default(),
        prompt: BlobId([8; 32]),
        tokens_max: 4,
        seed: [seed; 32],
        temperature_permille: 0,
    };
    let refused = |seed: u8, part: &str| {
        let spec = leased(&task(seed), Vec::new()).spec;
        let id = spec.id(coordinator.network()).unwrap();
        let heard = coordinator.heard();
        heard.declined.iter().any(|one| one.task == id && one.reason.contains(part))
    };
    let lease = |seed| {
        let spec = leased(&task(seed), Vec::new()).spec;
        coordinator.lease(node.id(), &spec, coordinator.network());
    };
    lease(1);
    until("what is not offered is not begun", || refused(1, "does not offer infer")).await;

    json(&data, &["model", "add", model_path().to_str().unwrap(), "--name", "smol"]);
    until("the first model makes it offer more", || offers(&all)).await;
    let said = json(&data, &["status"]);
    assert_eq!(said["offers"], serde_json::json!(["fetch", "refine", "infer"]));
    lease(2);
    until("it is begun, and this model is not here", || refused(2, "get model")).await;

    json(&data, &["model", "remove", "smol"]);
    until("without a model it offers less", || offers(&few)).await;
    lease(3);
    until("what is offered no more is not begun", || refused(3, "does not offer infer")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_models_gets_them_from_its_peer() {
    let coordinator = Coordinator::start("models", 51, std::collections::BTreeMap::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.toml");
    coordinator.publish(&file);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let network = ["--network", file.to_str().unwrap(), "--no-link"];
    json(&one, &["model", "add", model_path().to_str().unwrap(), "--name", "smol"]);
    let has = NodeProcess::up(&one, &network);
    // Added while the node runs.
    let voice = adapter_file(&folder, 9, 8);
    json(&one, &["model", "add", voice.to_str().unwrap()]);
    let status = json(&one, &["status"]);
    let address = status["peer_addresses"][0].as_str().unwrap().to_owned();
    let peer = if address.contains("/p2p/") {
        address
    } else {
        format!("{address}/p2p/{}", peer_id(&status))
    };
    json(&two, &["config", "set", "network.peers", &format!("[\"{peer}\"]")]);
    json(&two, &["config", "set", "models.base", "smol"]);
    let lacks = NodeProcess::up(&two, &network);
    assert_ne!(has.id(), lacks.id());
    let from_peers = || json(&two, &["status"])["models"]["models_from_peers"].as_u64().unwrap();
    until("the base comes by itself", || from_peers() == 1).await;
    until("the adapter is offered", || {
        !json(&two, &["model", "list"])["offered"].as_array().unwrap().is_empty()
    })
    .await;
    let got = json(&two, &["model", "fetch", "voice-9"]);
    assert_eq!(got["kind"], "adapter");
    assert_eq!(from_peers(), 2);
    let listed = json(&two, &["model", "list"]);
    assert_eq!(listed["models"].as_array().unwrap().len(), 2);
    // Removed and wanted again at once: neither the list of a moment ago nor the blob store, which
    // has not cleaned up yet, takes it for being here.
    json(&two, &["model", "remove", "voice-9"]);
    let file = two.join(format!("models/{}.safetensors", got["blob"].as_str().unwrap()));
    assert!(!file.exists());
    assert_eq!(json(&two, &["model", "fetch", "voice-9"]), got);
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&voice).unwrap());
    assert_eq!(from_peers(), 3);
    let id = got["base"].as_str().unwrap();
    let base = two.join(format!("models/{id}.gguf"));
    // Cut short under the running node, it is named and got again.
    let cut = std::fs::OpenOptions::new().write(true).open(&base).unwrap();
    cut.set_len(100_000).unwrap();
    drop(cut);
    until("the base is whole again", || from_peers() == 4).await;
    let content = std::fs::read(&base).unwrap();
    assert_eq!(BlobId::of(&content).to_string(), id);
    let said = std::fs::read_to_string(two.join("logs/node.log")).unwrap();
    assert!(said.contains("cut short") && said.contains(id), "{said}");
    // The bytes lie on the disk once: the blob store refers to the file.
    let store = folder_bytes(&two.join("blobs"));
    assert!(store < content.len() as u64 / 10, "{store} bytes in the blob store");
}

fn peer_id(status: &serde_json::Value) -> String {
    status["peer_id"].as_str().unwrap_or_default().to_owned()
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            data if data.is_dir() => folder_bytes(&entry.path()),
            data => data.len(),
        })
        .sum()
}

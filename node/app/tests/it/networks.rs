//! One node in two networks: what is apart, and what the commands make of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use openledger_refine::PROFILE_V1;
use openledger_wire::proof::{FetchOutput, Proof};
use openledger_wire::task::{FetchTask, RefineTask, TaskKind, TaskSpec};
use openledger_wire::{Blob, CampaignId, Text, encode};
use serde::Serialize;
use serde_json::{Value, json as value};

use crate::coordinator::Coordinator;
use crate::process::{NodeProcess, command, json, text, until};
use crate::site::{Site, article};

fn task<T: Serialize>(kind: TaskKind, body: &T) -> TaskSpec {
    TaskSpec {
        campaign: CampaignId::ZERO,
        kind,
        version: 1,
        nonce: 7,
        value_permille: 1_000,
        body: Blob::new(encode(body).unwrap()).unwrap(),
    }
}

async fn coordinators(site: &Site) -> [Arc<Coordinator>; 2] {
    let hosts = site.setup().private_hosts;
    [
        Coordinator::start("alpha", 41, hosts).await,
        Coordinator::start("beta", 42, BTreeMap::new()).await,
    ]
}

/// One array of receipts, with what each network's contract would check.
fn networks_of(receipts: &Value) -> Vec<(String, Value)> {
    let rows = receipts.as_array().unwrap().iter();
    rows.map(|row| (row["network"].as_str().unwrap().to_owned(), row["stage"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_networks_of_one_node_share_nothing_that_is_signed_or_counted() {
    let site = Site::start();
    let [alpha, beta] = coordinators(&site).await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("beta.toml");
    alpha.publish(&file);
    json(&data, &["network", "add", file.to_str().unwrap()]);
    beta.publish(&file);
    // One by the name it is remembered by, one by its file.
    let node = NodeProcess::up(&data, &["--network", "alpha", "--network", file.to_str().unwrap()]);
    assert_eq!(node.ready["networks"], value!(["alpha", "beta"]));
    let id = node.id();
    for one in [&alpha, &beta] {
        until("the node registers", || one.heard().registration.is_some()).await;
        assert_eq!(one.heard().registration.as_ref().unwrap().0, id, "one node, one key");
    }

    // Only alpha's profile opens the page's host; the page then serves both.
    let fetch = task(TaskKind::Fetch, &FetchTask { url: Text::clipped(&site.url("/article")) });
    alpha.lease(id, &fetch, alpha.network());
    until("the page is fetched and proven", || alpha.proofs().len() == 1).await;
    let page = alpha.proofs()[0].body.read::<FetchOutput>().unwrap().page;
    let refine = task(
        TaskKind::Refine,
        &RefineTask {
            url: Text::clipped(&site.url("/article")),
            status: 200,
            content_type: Text::clipped("text/html"),
            page,
            page_bytes: article().len() as u64,
            profile: PROFILE_V1.profile_id(),
        },
    );
    alpha.lease(id, &refine, alpha.network());
    beta.lease(id, &refine, beta.network());
    until("both are proven", || alpha.proofs().len() == 2 && beta.proofs().len() == 1).await;

    let (in_alpha, in_beta) = (alpha.proofs(), beta.proofs());
    let (one, other): (&Proof, &Proof) = (&in_alpha[1], &in_beta[0]);
    assert_eq!((one.output, one.input), (other.output, other.input), "the same work");
    assert_ne!(one.nonce, other.nonce);
    assert_ne!(one.commitment, other.commitment);
    assert_eq!((in_alpha[0].seq, one.seq, other.seq), (1, 2, 1), "each network counts by itself");
    assert_eq!((alpha.heard().commits.len(), beta.heard().commits.len()), (2, 1));
    let foreign = alpha.heard().proofs[1].open::<Proof>(beta.network());
    assert!(foreign.is_err(), "a proof of one network is nothing in another");

    // A lease of alpha's task, handed out by beta, is given back.
    let mut stray = refine.clone();
    stray.nonce = 8;
    beta.lease(id, &stray, alpha.network());
    until("the stray lease is given back", || beta.heard().declined.len() == 1).await;
    assert!(beta.heard().declined[0].reason.contains("mixed them up"));
    // And one that the same node works on for alpha, too.
    beta.lease(id, &refine, alpha.network());
    until("so is the other", || beta.heard().declined.len() == 2).await;
    assert_eq!((alpha.proofs().len(), beta.proofs().len()), (2, 1));

    receipts_are_apart(&data).await;
    commands_name_their_network(&data, &node);
    leaving_one_network_keeps_the_other(&data, &alpha, node).await;
}

async fn receipts_are_apart(data: &Path) {
    let receipted = |network: &str, wanted: usize| {
        let rows = networks_of(&json(data, &["receipts", "--network", network]));
        rows.iter().filter(|(of, stage)| of == network && stage == "receipted").count() == wanted
    };
    until("alpha's receipts arrive", || receipted("alpha", 2)).await;
    until("beta's receipt arrives", || receipted("beta", 1)).await;
    let whole = json(data, &["receipts", "--network", "beta"]);
    let task = whole.as_array().unwrap().iter().find(|row| row["stage"] == "receipted").unwrap();
    let task = json(data, &["receipts", task["task"].as_str().unwrap()]);
    assert_eq!(task.as_array().unwrap().len(), 1, "its id is of beta alone");
    assert!(task[0]["receipt"].is_object());
}

fn commands_name_their_network(data: &Path, node: &NodeProcess) {
    let both = json(data, &["status"]);
    let both = both["networks"].as_array().unwrap();
    assert_eq!(
        (both.len(), &both[0]["network"], &both[1]["network"]),
        (2, &value!("alpha"), &value!("beta"))
    );
    assert_eq!(
        (&both[0]["totals"]["leased"], &both[0]["totals"]["receipted"]),
        (&value!(2), &value!(2))
    );
    assert_eq!(
        (&both[1]["totals"]["leased"], &both[1]["totals"]["receipted"]),
        (&value!(3), &value!(1))
    );
    let one = json(data, &["status", "--network", "beta"]);
    assert_eq!((&one["network"], &one["node"]), (&value!("beta"), &value!(node.id())));
    let wrong = command(data, &["status", "--network", "gamma"]);
    assert!(text(&wrong).contains("alpha, beta"), "{}", text(&wrong));

    let earnings = json(data, &["earnings"]);
    let open: Vec<&Value> =
        earnings["networks"].as_array().unwrap().iter().map(|of| &of["cumulative"]).collect();
    assert_ne!(open[0], open[1], "{earnings}");
    let claim = command(data, &["claim"]);
    assert!(text(&claim).contains("name one with --network"), "{}", text(&claim));
    let claim = command(data, &["claim", "--network", "beta"]);
    assert!(text(&claim).contains("nothing to claim yet"), "{}", text(&claim));
    let bind = command(data, &["identity", "bind-payout"]);
    assert!(text(&bind).contains("several are known: alpha, beta"), "{}", text(&bind));
    json(data, &["identity", "bind-payout", "--network", "beta"]);

    assert_eq!(json(data, &["pause", "--network", "alpha"])["mode"], "paused");
    let modes: Vec<Value> = json(data, &["status"])["networks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["mode"].clone())
        .collect();
    assert_eq!(modes, ["paused", "running"]);
    json(data, &["resume"]);
}

async fn leaving_one_network_keeps_the_other(data: &Path, alpha: &Coordinator, node: NodeProcess) {
    let refused = command(data, &["network", "remove", "beta"]);
    assert!(text(&refused).contains("finish --network beta"), "{}", text(&refused));
    json(data, &["finish", "--network", "alpha"]);
    until("alpha is left", || json(data, &["status", "--network", "alpha"])["mode"] == "stopping")
        .await;
    assert_eq!(json(data, &["status", "--network", "beta"])["link"]["connected"], true);
    json(data, &["stop"]);
    node.ended();

    // With no node running, the same is read from disk.
    assert_eq!(networks_of(&json(data, &["receipts"])).len(), 5);
    assert_eq!(json(data, &["earnings"])["networks"].as_array().unwrap().len(), 2);
    json(data, &["network", "remove", "alpha"]);
    let names = json(data, &["network", "list"]);
    assert_eq!((names.as_array().unwrap().len(), &names[0]["name"]), (1, &value!("beta")));
    // It comes back with its promises, so that nothing is ever counted twice.
    let file = data.join("alpha-again.toml");
    alpha.publish(&file);
    assert_eq!(json(data, &["network", "add", file.to_str().unwrap()])["news"], "back");
    assert_eq!(networks_of(&json(data, &["receipts", "--network", "alpha"])).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_of_the_older_layout_keeps_everything_it_earned() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/old_layout");
    copy_private(&fixture, &data);
    let accepted = |rows: &Value| {
        let rows = rows.as_array().unwrap().iter();
        rows.filter(|row| row["verdict"] == "accepted" && row["points"] == 30).count()
    };
    let before = json(&data, &["receipts"]);
    assert_eq!((before.as_array().unwrap().len(), accepted(&before)), (3, 2));
    assert_eq!(before[0]["network"], "before");
    assert_eq!(json(&data, &["earnings"])["pending"], 60);
    // Looking migrated the outbox and kept what the older program reads.
    let kept = std::fs::read_dir(data.join("networks/before")).unwrap();
    let names: Vec<String> =
        kept.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.ends_with(".redb.schema-1")), "{names:?}");

    let node = NodeProcess::up(&data, &["--network", "before", "--no-link"]);
    let status = json(&data, &["status"]);
    assert_eq!(status["totals"]["points"], 60);
    assert_eq!(status["totals"]["accepted"], 2);
    assert!(data.join("networks/before/peers").is_dir() && !data.join("peers").exists());
    json(&data, &["stop"]);
    node.ended();
    assert_eq!(accepted(&json(&data, &["receipts"])), 2);
}

/// Copies a folder as the node leaves it: for the owner alone.
fn copy_private(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let private = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir_all(to).unwrap();
    private(to, 0o700);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_private(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            private(&target, 0o600);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_added_shown_changed_and_removed() {
    let site = Site::start();
    let [alpha, beta] = coordinators(&site).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("given.toml"));
    let path = file.to_str().unwrap();
    assert_eq!(json(&data, &["network", "list"]), value!([]));
    alpha.publish(&file);
    assert_eq!(json(&data, &["network", "add", path])["news"], "new");
    let shown = command(&data, &["network", "show", "alpha"]);
    let given = std::fs::read_to_string(&file).unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout), given, "word for word");
    let shown = json(&data, &["network", "show"]);
    assert_eq!((&shown["id"], &shown["text"]), (&value!(alpha.network()), &value!(given)));

    let key = openledger_wire::NodeKey::from_seed(&[41; 32]);
    let mut changed = alpha.profile.clone();
    changed.coordinator.api = Text::clipped("http://127.0.0.1:10");
    std::fs::write(&file, changed.sign(&key).unwrap()).unwrap();
    let told = command(&data, &["network", "add", path]);
    assert!(
        text(&told).contains("API: http://127.0.0.1:9 -> http://127.0.0.1:10"),
        "{}",
        text(&told)
    );

    let mut other = beta.profile.clone();
    other.name = Text::clipped("alpha");
    std::fs::write(&file, other.sign(&key).unwrap()).unwrap();
    let refused = command(&data, &["network", "add", path]);
    assert_eq!(refused.status.code(), Some(1));
    for part in ["another network of that name", "network remove alpha"] {
        assert!(text(&refused).contains(part), "{part}: {}", text(&refused));
    }
    json(&data, &["network", "remove", "alpha"]);
    assert_eq!(json(&data, &["network", "add", path])["news"], "new");
}

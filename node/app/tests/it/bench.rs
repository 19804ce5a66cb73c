//! Work from lease to output, with real workers and blobs in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openledger_app::tasks::{Bench, Counts, Turns, WorkError};
use openledger_app::worker::Worker;
use openledger_app::{Conduct, Honest, Occasion, Shortcut};
use openledger_refine::PROFILE_V1;
use openledger_swarm::MemoryBlobs;
use openledger_wire::link::LeasedTask;
use openledger_wire::log::{Lease, Role};
use openledger_wire::proof::{FetchOutput, RefineOutput};
use openledger_wire::task::{FetchTask, RefineTask, TaskKind, TaskSpec};
use openledger_wire::{
    Blob, BlobId, CampaignId, List, NetworkId, NodeId, NodeKey, Round, Text, UnixMs, encode,
};
use serde::Serialize;

use crate::site::{Site, article};
use crate::workers::program;

const TIME: Duration = Duration::from_secs(30);

fn leased<T: Serialize>(kind: TaskKind, body: &T) -> LeasedTask {
    let spec = TaskSpec {
        campaign: CampaignId::ZERO,
        kind,
        version: 1,
        nonce: 0,
        value_permille: 1_000,
        body: Blob::new(encode(body).unwrap()).unwrap(),
    };
    let task = spec.id(NetworkId::ZERO).unwrap();
    let node = NodeId([1; 32]);
    let lease = Lease { task, wave: 0, node, role: Role::Replica, deadline: UnixMs(u64::MAX) };
    LeasedTask {
        lease,
        round: Round(1),
        spec,
        holders: List::default(),
        backend: None,
        answer: None,
    }
}

fn bench(site: &Site, conduct: impl Conduct + 'static) -> Bench {
    Bench {
        fetcher: Worker::fetch(program(), site.setup(), TIME),
        turns: Turns::alone(),
        refiners: Arc::new([tokio::sync::Mutex::new(Worker::refine(program()))]),
        blobs: Arc::new(MemoryBlobs::new(NodeKey::from_seed(&[1; 32]).public())),
        infer: None,
        conduct: Arc::new(conduct),
        counts: Counts::default(),
    }
}

fn refine_task(page: &[u8]) -> RefineTask {
    RefineTask {
        url: Text::clipped("http://docs.test/article"),
        status: 200,
        content_type: Text::clipped("text/html"),
        page: BlobId::of(page),
        page_bytes: page.len() as u64,
        profile: PROFILE_V1.profile_id(),
    }
}

fn now() -> UnixMs {
    UnixMs(5_000)
}

#[tokio::test]
async fn a_fetch_and_the_refine_of_its_page_leave_their_blobs() {
    let site = Site::start();
    let bench = bench(&site, Honest);
    let task = FetchTask { url: Text::clipped(&site.url("/article")) };
    let output = bench.work(&leased(TaskKind::Fetch, &task), now, TIME).await.unwrap();
    assert_eq!(output.input, BlobId::ZERO);
    let said: FetchOutput = output.body.read().unwrap();
    assert_eq!((said.page, said.fetched_at), (BlobId::of(article().as_bytes()), now()));
    let warc = bench.blobs.get(said.warc).await.unwrap().unwrap();
    assert!(warc.starts_with(b"WARC/1.1"));

    let task = refine_task(article().as_bytes());
    let output = bench.work(&leased(TaskKind::Refine, &task), now, TIME).await.unwrap();
    assert_eq!(output.input, said.page);
    let RefineOutput::Document { document, .. } = output.body.read().unwrap() else {
        panic!("no document")
    };
    assert!(bench.blobs.has(document).await.unwrap());
    assert_eq!(bench.counts.from_peers.load(Ordering::Relaxed), 0, "the page was here already");
    bench.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_given_back_with_a_reason() {
    let site = Site::start();
    let bench = bench(&site, Honest);
    let missing = bench.work(&leased(TaskKind::Refine, &refine_task(b"gone")), now, TIME).await;
    assert!(missing.unwrap_err().is_retryable(), "a holder may come back");
    let mut other = refine_task(b"x");
    other.profile = [9; 32];
    let error = bench.work(&leased(TaskKind::Refine, &other), now, TIME).await.unwrap_err();
    assert!(error.to_string().contains("processing profile") && !error.is_retryable());
    let error = bench.work(&leased(TaskKind::Train, &0u8), now, TIME).await.unwrap_err();
    assert!(matches!(error, WorkError::Unsupported(_)), "{error}");
    let error = bench.work(&leased(TaskKind::Fetch, &7u8), now, TIME).await.unwrap_err();
    assert!(matches!(error, WorkError::Task(_)), "{error}");
}

/// Lies about everything.
struct Liar;

impl Conduct for Liar {
    fn shortcut(&self, leased: &LeasedTask) -> Option<Shortcut> {
        (leased.spec.kind == TaskKind::Refine).then(|| {
            Shortcut::Refined(RefineOutput::Rejected { reason: Text::clipped("1") }, Vec::new())
        })
    }

    fn fetch_output(&self, honest: FetchOutput, occasion: Occasion<'_>) -> FetchOutput {
        assert_eq!(occasion.page.len() as u64, honest.page_bytes);
        FetchOutput { status: 299, ..honest }
    }
}

#[tokio::test]
async fn another_conduct_runs_the_same_node() {
    let site = Site::start();
    let bench = bench(&site, Liar);
    let task = FetchTask { url: Text::clipped(&site.url("/article")) };
    let output = bench.work(&leased(TaskKind::Fetch, &task), now, TIME).await.unwrap();
    assert_eq!(output.body.read::<FetchOutput>().unwrap().status, 299);
    // Without the page: the liar never looks at it.
    let output =
        bench.work(&leased(TaskKind::Refine, &refine_task(b"x")), now, TIME).await.unwrap();
    assert!(matches!(output.body.read().unwrap(), RefineOutput::Rejected { .. }));
}

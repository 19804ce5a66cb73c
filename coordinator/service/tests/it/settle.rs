//! Settlement against a chain that is out of reach, slow, and unclear about what it took.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use openledger_contracts::{Anvil, AnvilOptions, ChainOptions, Post, find_anvil};
use openledger_ledger::{EmbeddedLedger, Ledger};
use openledger_rules::Setup;
use openledger_service::beacon::BeaconClient;
use openledger_service::bundles::Bundles;
use openledger_service::settle::{RewardsChain, SettleError, Settlement, Settler, Standing};
use openledger_service::{Core, CoreConfig, CoreError};
use openledger_wire::{Epoch, Keccak};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::chain::deploy;
use crate::network::Network;

/// A chain in memory that answers badly at first.
#[derive(Default)]
struct MoodyChain {
    posts: Mutex<Vec<(Post, Instant)>>,
    calls: Mutex<u64>,
}

const WINDOW: Duration = Duration::from_millis(300);

fn transaction(post: &Post) -> Keccak {
    Keccak([u8::try_from(post.epoch.0).unwrap(); 32])
}

#[async_trait]
impl Settlement for MoodyChain {
    async fn standing(&self) -> Result<Standing, SettleError> {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        if *calls == 1 {
            return Err(SettleError::Chain("reach the chain: nobody answers".to_owned()));
        }
        let posts = self.posts.lock().unwrap();
        let runs = |at: &Instant| at.elapsed() < WINDOW;
        let pending = posts.last().filter(|(_, at)| runs(at)).map(|(post, _)| post.epoch);
        let good = posts.iter().rev().find(|(_, at)| !runs(at)).map(|(post, _)| post.epoch);
        Ok(Standing { claimable: good, pending, latest: Epoch(u64::MAX) })
    }

    async fn find(&self, post: &Post) -> Result<Option<Keccak>, SettleError> {
        let posts = self.posts.lock().unwrap();
        Ok(posts.iter().find(|(known, _)| known == post).map(|(post, _)| transaction(post)))
    }

    async fn post(&self, post: &Post) -> Result<Keccak, SettleError> {
        let mut posts = self.posts.lock().unwrap();
        let pending = posts.last().is_some_and(|(_, at)| at.elapsed() < WINDOW);
        assert!(!pending, "posted while a root was pending");
        posts.push((post.clone(), Instant::now()));
        if posts.len() == 1 {
            // The node took it, and the answer was lost.
            return Err(SettleError::Chain("post an epoch: it is not known whether".to_owned()));
        }
        Ok(transaction(post))
    }
}

/// A core that closes epochs, and a settler that posts them on this chain.
struct Running {
    core: Core,
    ledger: Arc<dyn Ledger>,
    claimable: watch::Receiver<Option<Epoch>>,
    stop: CancellationToken,
    settling: JoinHandle<()>,
    running: JoinHandle<Result<(), CoreError>>,
}

impl Running {
    async fn start(network: &Network, chain: Arc<dyn Settlement>) -> Self {
        let setup = Setup::of(&network.profile, network.rules.clone());
        let ledger: Arc<dyn Ledger> = Arc::new(EmbeddedLedger::in_memory().unwrap());
        let stop = CancellationToken::new();
        let beacons = BeaconClient::new(Arc::new(setup.clone()), None).unwrap();
        let (kept, stopping) = (Arc::clone(&ledger), stop.clone());
        let config = CoreConfig { setup, ledger: kept, beacons, holder: None, stop: stopping };
        let (core, running) = Core::start(config).await.unwrap();
        let (sender, claimable) = watch::channel(None);
        let bundles = Bundles::new(Arc::clone(&ledger), None);
        let rule_set = network.profile.rule_set;
        let settler = Settler::new(core.clone(), bundles, Some(chain), rule_set, sender);
        let settling = tokio::spawn(settler.run(stop.clone()));
        Self { core, ledger, claimable, stop, settling, running }
    }

    async fn is_posted(&self, epoch: Epoch) -> bool {
        self.core.look(move |state, _| state.is_posted(epoch)).await.unwrap()
    }

    async fn until_claimable(&mut self, epoch: Epoch) {
        let good = self.claimable.wait_for(|known| known.is_some_and(|known| known >= epoch));
        drop(tokio::time::timeout(Duration::from_secs(60), good).await.unwrap().unwrap());
    }

    async fn end(self) {
        self.stop.cancel();
        self.settling.await.unwrap();
        self.running.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_a_reorganisation_took_away_is_posted_again() {
    let binary = find_anvil().unwrap_or_else(|error| panic!("failed to {error}"));
    let anvil = Anvil::start(&AnvilOptions::new(binary)).unwrap();
    let mut network = Network::new(&[]);
    // No other root comes in time to cover the one that is lost.
    network.set_rules(|rules| rules.epoch_ms = 25_000);
    let (_, rewards) = deploy(&anvil, network.rules.epoch_budget).await;
    let proposer = ChainOptions {
        rpc: vec![anvil.url().to_owned()],
        chain_id: Some(anvil.chain_id()),
        key: Some(anvil.keys()[1].clone()),
        receipt_timeout: None,
    };
    let chain = Arc::new(RewardsChain::new(proposer, rewards.address()));
    let mut running = Running::start(&network, chain).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !running.is_posted(Epoch(1)).await {
        assert!(Instant::now() < deadline, "the first epoch is not posted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let first = rewards.posts(Epoch(1)).await.unwrap();
    assert_eq!(first.len(), 1);

    // The post is in the newest block: another one takes its place.
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "anvil_reorg", "params": [1, []] });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.post(anvil.url()).json(&request).send().await.unwrap().text().await.unwrap();
    assert!(!answer.contains("error"), "{answer}");
    assert!(rewards.posts(Epoch(1)).await.unwrap().is_empty(), "the chain still has it");
    assert!(running.is_posted(Epoch(1)).await, "the log says what it said");

    running.until_claimable(Epoch(1)).await;
    let again = rewards.posts(Epoch(1)).await.unwrap();
    assert_eq!(again.len(), 1, "once, and no more");
    assert_eq!(again[0].post, first[0].post, "the very same root");
    assert!(!running.is_posted(Epoch(2)).await, "no later root covers it yet");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_epoch_is_posted_once_and_in_order_whatever_the_chain_answers() {
    let mut network = Network::new(&[]);
    network.set_rules(|rules| rules.epoch_ms = 700);
    let chain = Arc::new(MoodyChain::default());
    let mut running = Running::start(&network, Arc::clone(&chain) as _).await;
    running.until_claimable(Epoch(3)).await;

    let posts = chain.posts.lock().unwrap().clone();
    let epochs: Vec<u64> = posts.iter().map(|(post, _)| post.epoch.0).collect();
    assert_eq!(epochs, (1..=epochs.len() as u64).collect::<Vec<_>>(), "once each, in order");
    for epoch in 1..=3 {
        assert!(running.is_posted(Epoch(epoch)).await);
    }
    for (post, _) in posts {
        let meta = running.ledger.bundle(post.epoch).await.unwrap().unwrap();
        assert_eq!((post.data_commitment, post.data_size), (meta.data_commitment, meta.bytes));
        assert_eq!((post.log_head, post.log_height), (meta.head, meta.height));
    }
    running.end().await;
}

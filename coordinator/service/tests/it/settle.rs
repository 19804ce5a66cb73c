//! Settlement against a chain that is out of reach, slow, and unclear about what it took.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use openledger_contracts::Post;
use openledger_ledger::{EmbeddedLedger, Ledger};
use openledger_rules::Setup;
use openledger_service::beacon::BeaconClient;
use openledger_service::bundles::Bundles;
use openledger_service::settle::{SettleError, Settlement, Settler, Standing};
use openledger_service::{Core, CoreConfig};
use openledger_wire::{Epoch, Keccak};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_epoch_is_posted_once_and_in_order_whatever_the_chain_answers() {
    let mut network = Network::new(&[]);
    network.set_rules(|rules| rules.epoch_ms = 700);
    let setup = Setup::of(&network.profile, network.rules.clone());
    let ledger: Arc<dyn Ledger> = Arc::new(EmbeddedLedger::in_memory().unwrap());
    let stop = CancellationToken::new();
    let beacons = BeaconClient::new(Arc::new(setup.clone()), None).unwrap();
    let (kept, stopping) = (Arc::clone(&ledger), stop.clone());
    let config = CoreConfig { setup, ledger: kept, beacons, holder: None, stop: stopping };
    let (core, running) = Core::start(config).await.unwrap();
    let chain = Arc::new(MoodyChain::default());
    let (sender, mut claimable) = watch::channel(None);
    let settler = Settler::new(
        core.clone(),
        Bundles::new(Arc::clone(&ledger), None),
        Some(Arc::clone(&chain) as _),
        network.profile.rule_set,
        sender,
    );
    let settling = tokio::spawn(settler.run(stop.clone()));
    let within = Duration::from_secs(60);
    let good = claimable.wait_for(|epoch| epoch.is_some_and(|epoch| epoch >= Epoch(3)));
    drop(tokio::time::timeout(within, good).await.unwrap().unwrap());

    let posts = chain.posts.lock().unwrap().clone();
    let epochs: Vec<u64> = posts.iter().map(|(post, _)| post.epoch.0).collect();
    assert_eq!(epochs, (1..=epochs.len() as u64).collect::<Vec<_>>(), "once each, in order");
    let logged = core.look(|state, _| (1..=3).all(|epoch| state.is_posted(Epoch(epoch))));
    assert!(logged.await.unwrap());
    for (post, _) in posts {
        let meta = ledger.bundle(post.epoch).await.unwrap().unwrap();
        assert_eq!((post.data_commitment, post.data_size), (meta.data_commitment, meta.bytes));
        assert_eq!((post.log_head, post.log_height), (meta.head, meta.height));
    }
    stop.cancel();
    settling.await.unwrap();
    running.await.unwrap().unwrap();
}

//! A small network: a profile, short rules, a coordinator on a ledger of the test's choice.

use std::net::SocketAddr;
use std::sync::Arc;

use openledger_ledger::Ledger;
use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_service::config::{HttpSection, LinkSection, SettlementSection, SwarmSection};
use openledger_service::{Config, Coordinator, Keys, Parts, clock};
use openledger_web::Token;
use openledger_wire::profile::{BeaconSource, ChainContact, CoordinatorContact, Profile};
use openledger_wire::{EvmAddress, List, NodeId, Text};
use serde_json::{Value, json};

/// What a test network is made of.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) keys: Keys,
    pub(crate) profile: Profile,
    pub(crate) rules: RuleSet,
    pub(crate) operator: Token,
    swarm: SwarmSection,
    /// Whether roots are posted on the profile's chain.
    pub(crate) settles: bool,
    pub(crate) dir: Arc<tempfile::TempDir>,
}

impl Network {
    /// A network whose nodes are all founding ones. Rounds take fractions of a second.
    pub(crate) fn new(founding: &[NodeId]) -> Self {
        let rules = RuleSet {
            name: Text::clipped("test"),
            round_ms: 300,
            epoch_ms: 5_000,
            lease_ms: 4_000,
            reveal_ms: 4_000,
            vest_accepted: 1,
            keep_epochs: 1_000,
            ..RuleSet::devnet_v4(PROFILE_V1.profile_id())
        };
        let keys = Keys::generate().unwrap();
        let profile = Profile {
            schema: 1,
            name: Text::clipped("test"),
            genesis: clock::now(),
            rule_set: rules.id().unwrap(),
            rule_set_name: rules.name.clone(),
            bootstrap: List::default(),
            founding: List::new(founding.to_vec()).unwrap(),
            coordinator: CoordinatorContact {
                node: keys.node.public(),
                settlement: keys.settlement.address(),
                link: List::default(),
                api: Text::clipped("http://127.0.0.1"),
            },
            chain: ChainContact {
                chain_id: 31_337,
                rpc: List::default(),
                token: EvmAddress::ZERO,
                rewards: EvmAddress([7; 20]),
                escrow: EvmAddress::ZERO,
            },
            beacon: BeaconSource::Stub,
            private_hosts: Default::default(),
        };
        let operator = Token::generate().unwrap();
        let swarm = SwarmSection { enabled: false, ..SwarmSection::default() };
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self { keys, profile, rules, operator, swarm, settles: false, dir }
    }

    /// Changes the rules, and the profile with them.
    pub(crate) fn set_rules(&mut self, change: impl FnOnce(&mut RuleSet)) {
        change(&mut self.rules);
        self.profile.rule_set = self.rules.id().unwrap();
    }

    /// The same with gossip and blobs, on the loopback address.
    pub(crate) fn with_swarm(mut self) -> Self {
        let local = "127.0.0.1".parse().unwrap();
        let blobs = SocketAddr::new(local, 0);
        self.swarm = SwarmSection {
            enabled: true,
            address: local,
            port: 0,
            blobs,
            ..SwarmSection::default()
        };
        self
    }

    /// Starts the coordinator, on this link address.
    pub(crate) async fn start(&self, ledger: Arc<dyn Ledger>, link: SocketAddr) -> Coordinator {
        let config = Config {
            data_dir: self.dir.path().to_owned(),
            network: "unused".into(),
            vault: "unused".into(),
            link: LinkSection { address: link },
            http: HttpSection {
                address: "127.0.0.1:0".parse().unwrap(),
                metrics: true,
                ..HttpSection::default()
            },
            swarm: self.swarm.clone(),
            settlement: SettlementSection { enabled: self.settles },
        };
        let parts = Parts {
            config,
            profile: self.profile.clone(),
            profile_text: self.profile.sign(&self.keys.node).unwrap(),
            rules: self.rules.clone(),
            keys: self.keys.clone(),
            ledger,
            operator: self.operator.clone(),
        };
        Coordinator::start(parts).await.unwrap()
    }

    /// Funds a campaign of this many pages.
    pub(crate) async fn fund(&self, url: &str, pages: usize) -> Value {
        let urls: Vec<String> =
            (0..pages).map(|page| format!("http://site{page}.test/page{page}")).collect();
        self.fund_urls(url, &urls).await
    }

    /// Funds a campaign of these pages.
    pub(crate) async fn fund_urls(&self, url: &str, urls: &[String]) -> Value {
        let request = json!({
            "name": "docs", "contact": "abuse@site.test", "terms": "CC0", "budget": 1_000_000,
            "replicas": 2, "urls": urls,
        });
        let (status, answer) = self.ask_for(url, &request).await;
        assert!((200..300).contains(&status), "{status}: {answer}");
        answer
    }

    /// Asks for a campaign; gives the status and the answer.
    pub(crate) async fn ask_for(&self, url: &str, request: &Value) -> (u16, Value) {
        let post = reqwest::Client::new().post(format!("{url}/api/v1/campaigns"));
        let answer = post.bearer_auth(self.operator.reveal()).json(request).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

/// Reads JSON from the API.
pub(crate) async fn get(url: &str, path: &str) -> Value {
    let answer = reqwest::get(format!("{url}{path}")).await.unwrap();
    assert!(answer.status().is_success(), "{path}: {answer:?}");
    answer.json().await.unwrap()
}

//! A coordinator reduced to its link: it hands out leases, closes sets, signs receipts, and keeps
//! what it was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use async_trait::async_trait;
use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_swarm::{LinkLimits, LinkServer, LinkServerConfig, LinkService, Peer};
use openledger_wire::eip712::{ReceiptBatch, SignedHead, Typed};
use openledger_wire::gossip::GossipedHead;
use openledger_wire::identity::{Delegation, Registration};
use openledger_wire::link::{
    AccountStatus, Batch, ClosedNotice, Declined, ItemResult, LeasedTask, LinkPush, LinkRequest,
    LinkResponse, Receipt,
};
use openledger_wire::log::{CommitSet, Lease, Role};
use openledger_wire::merkle::{path, receipt_leaf, root};
use openledger_wire::profile::{BeaconSource, ChainContact, CoordinatorContact, Profile};
use openledger_wire::proof::{Commit, Proof, proof_id};
use openledger_wire::task::TaskSpec;
use openledger_wire::{
    AccountId, Envelope, Epoch, EvmAddress, Height, List, LogHead, NetworkId, NodeId, NodeKey,
    Open, Points, Round, SettlementKey, Text, UnixMs,
};

/// Everything that a coordinator was sent.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) registration: Option<(NodeId, Registration)>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) proofs: Vec<Envelope>,
    pub(crate) declined: Vec<Declined>,
}

/// A coordinator of a network of its own.
pub(crate) struct Coordinator {
    pub(crate) profile: Profile,
    key: NodeKey,
    settlement: SettlementKey,
    server: OnceLock<LinkServer>,
    account: Mutex<Option<AccountId>>,
    heard: Mutex<Heard>,
}

impl Coordinator {
    /// Starts the coordinator of network `name`; its nodes may fetch from `hosts`.
    pub(crate) async fn start(
        name: &str,
        number: u8,
        hosts: BTreeMap<String, List<SocketAddr, 4>>,
    ) -> Arc<Self> {
        let key = NodeKey::from_seed(&[number; 32]);
        let settlement = SettlementKey::from_secret(&[number; 32]).unwrap();
        let rules = RuleSet::devnet_v1(PROFILE_V1.profile_id());
        let profile = Profile {
            schema: 1,
            name: Text::clipped(name),
            genesis: UnixMs(1_700_000_000_000),
            rule_set: rules.id().unwrap(),
            rule_set_name: Text::clipped(&rules.name),
            bootstrap: List::default(),
            founding: List::default(),
            coordinator: CoordinatorContact {
                node: key.public(),
                settlement: settlement.address(),
                link: List::default(),
                api: Text::clipped("http://127.0.0.1:9"),
            },
            chain: ChainContact {
                chain_id: 31_337,
                rpc: List::new(vec![Text::clipped("http://127.0.0.1:9")]).unwrap(),
                token: EvmAddress([1; 20]),
                rewards: EvmAddress([number; 20]),
                escrow: EvmAddress([3; 20]),
            },
            beacon: BeaconSource::Stub,
            private_hosts: hosts,
        };
        let account = Mutex::default();
        let heard = Mutex::default();
        let mut own = Self { profile, key, settlement, server: OnceLock::new(), account, heard };
        // The address is part of the profile, so a socket is tried for a free port first.
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        own.profile.coordinator.link = List::new(vec![free]).unwrap();
        let own = Arc::new(own);
        let service = Arc::new(Service(Arc::clone(&own)));
        let limits = LinkLimits::default();
        let config = LinkServerConfig { key: own.key.clone(), address: free, limits };
        let server = LinkServer::bind(config, service).await.unwrap();
        assert!(own.server.set(server).is_ok());
        own
    }

    pub(crate) fn network(&self) -> NetworkId {
        self.profile.network()
    }

    /// Writes the signed profile to a file.
    pub(crate) fn publish(&self, file: &Path) {
        std::fs::write(file, self.profile.sign(&self.key).unwrap()).unwrap();
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// Pushes a lease of a task to the node, as `of` says the task's id is.
    pub(crate) fn lease(&self, node: NodeId, spec: &TaskSpec, of: NetworkId) {
        let lease = Lease {
            task: spec.id(of).unwrap(),
            wave: 0,
            node,
            role: Role::Replica,
            deadline: UnixMs(openledger_app::time::now().0 + 600_000),
        };
        let leased = LeasedTask {
            lease,
            round: Round(1),
            spec: spec.clone(),
            holders: List::default(),
            backend: None,
            answer: None,
        };
        self.push(node, &LinkPush::Leases(List::new(vec![leased]).unwrap()));
    }

    /// The proofs sent so far, opened.
    pub(crate) fn proofs(&self) -> Vec<Proof> {
        let open = |proof: &Envelope| proof.open::<Proof>(self.network()).unwrap().value;
        self.heard().proofs.iter().map(open).collect()
    }

    fn push(&self, node: NodeId, push: &LinkPush) {
        assert!(self.server.get().unwrap().push(node, push), "the node is connected");
    }

    fn welcome(&self, node: NodeId, registration: &Envelope) -> LinkResponse {
        let network = self.network();
        let registration = registration.open::<Registration>(network).unwrap().value;
        let delegation = registration.delegation.open::<Delegation>(network).unwrap();
        assert_eq!(delegation.value.node, node);
        *self.account.lock().unwrap() = Some(AccountId([node.0[0]; 32]));
        self.heard().registration = Some((node, registration));
        let head = SignedHead { network, height: Height(0), head: LogHead::ZERO };
        let signature = head.sign(&self.profile.domain(), &self.settlement).unwrap();
        LinkResponse::Welcome {
            now: openledger_app::time::now(),
            round: Round(1),
            epoch: Epoch(1),
            head: GossipedHead { head, signature },
        }
    }

    /// Holds commitments, and closes each set at once.
    fn commits(&self, node: NodeId, commits: &[Envelope]) -> LinkResponse {
        for commit in commits {
            let commit = commit.open::<Commit>(self.network()).unwrap().value;
            let set = CommitSet {
                task: commit.task,
                wave: commit.wave,
                commits: List::new(vec![(node, commit.commitment)]).unwrap(),
                absent: List::default(),
                declined: List::default(),
            };
            self.heard().commits.push(commit);
            let notice = ClosedNotice { set, height: Height(2) };
            self.push(node, &LinkPush::Closed(List::new(vec![notice]).unwrap()));
        }
        held(commits.len())
    }

    /// Holds proofs, and signs a receipt for each.
    fn hold(&self, node: NodeId, proofs: &[Envelope]) -> LinkResponse {
        for proof in proofs {
            assert!(proof.open::<Proof>(self.network()).unwrap().value.opens());
            self.heard().proofs.push(proof.clone());
            let receipt = self.receipt(proof);
            self.push(node, &LinkPush::Receipts(List::new(vec![receipt]).unwrap()));
        }
        held(proofs.len())
    }

    fn receipt(&self, proof: &Envelope) -> Receipt {
        let (proof, count_by) = (proof_id(proof), Epoch(4));
        let leaves = [receipt_leaf(&proof, count_by)];
        let batch = ReceiptBatch {
            network: self.network(),
            log_head: LogHead([3; 32]),
            log_height: Height(3),
            root: root(&leaves),
            size: 1,
            count_by,
        };
        let signature = batch.sign(&self.profile.domain(), &self.settlement).unwrap();
        Receipt { proof, batch, path: path(&leaves, 0).unwrap(), signature }
    }

    fn status(&self) -> LinkResponse {
        let account = self.account.lock().unwrap().unwrap();
        let cumulative = Open(Open::ONE.0 * u128::from(self.profile.chain.rewards.0[0]));
        LinkResponse::Account(AccountStatus {
            account,
            payout: None,
            pending: Points(0),
            vested: Points(0),
            cumulative,
            epoch: Epoch(1),
            claim: None,
        })
    }
}

fn held(count: usize) -> LinkResponse {
    LinkResponse::Results(Batch::new(vec![ItemResult::Held; count]).unwrap())
}

struct Service(Arc<Coordinator>);

#[async_trait]
impl LinkService for Service {
    async fn handle(&self, peer: Peer, request: LinkRequest) -> LinkResponse {
        let own = &self.0;
        match request {
            LinkRequest::Hello { registration, .. } => own.welcome(peer.node, &registration),
            LinkRequest::Commits(commits) => own.commits(peer.node, &commits),
            LinkRequest::Proofs(proofs) => own.hold(peer.node, &proofs),
            LinkRequest::Decline(declined) => {
                own.heard().declined.extend(declined.iter().cloned());
                LinkResponse::Done
            }
            LinkRequest::Sync { .. } => LinkResponse::State(Box::default()),
            LinkRequest::Account => own.status(),
            _ => LinkResponse::Done,
        }
    }
}

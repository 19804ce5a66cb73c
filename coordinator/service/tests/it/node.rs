//! A node reduced to the protocol: it leases, commits, reveals and keeps what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openledger_refine::{Fingerprint, Outcome, PROFILE_V1, Page, band_keys, process};
use openledger_swarm::{Blobs, BlobsConfig, IrohBlobs, LinkClient, LinkClientConfig, LinkEvent};
use openledger_wire::eip712::Typed;
use openledger_wire::identity::{Delegation, Registration};
use openledger_wire::link::{
    ClosedNotice, ItemResult, LINK_VERSION, LeasedTask, LinkPush, LinkRequest, LinkResponse,
    Receipt, SignedVerdict,
};
use openledger_wire::log::{Role, Verdict};
use openledger_wire::merkle::{receipt_leaf, verdict_leaf};
use openledger_wire::profile::Profile;
use openledger_wire::proof::{
    Commit, FetchOutput, InferCheck, InferEvidence, InferFinish, InferOutput, Proof, ProofBody,
    RefineOutput, proof_id,
};
use openledger_wire::task::{FetchTask, InferTask, RefineTask, TaskKind};
use openledger_wire::{
    Blob, BlobId, Commitment, Envelope, EvmAddress, List, NodeKey, OwnerKey, ProofId, SecretNonce,
    SettlementKey, TaskId, Text, UnixMs, decode, limits,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// Pages that hold documents, by address. Of one with `lie` in its address all nodes prove other
/// near-duplicate keys than it has.
pub(crate) type Library = BTreeMap<String, String>;

/// What was done for a lease.
#[derive(Clone)]
struct Work {
    leased: LeasedTask,
    input: BlobId,
    body: ProofBody,
    commit: Envelope,
    commitment: Commitment,
    nonce: SecretNonce,
    committed: bool,
}

/// What the node remembers; a real one keeps it in its outbox.
#[derive(Default)]
pub(crate) struct Memory {
    work: BTreeMap<(TaskId, u8), Work>,
    /// Proofs that were answered with `Held` or `Known`.
    pub(crate) held: BTreeSet<ProofId>,
    pub(crate) commits_held: usize,
    pub(crate) receipts: BTreeMap<ProofId, Receipt>,
    pub(crate) verdicts: BTreeMap<ProofId, SignedVerdict>,
    sent: BTreeMap<ProofId, Envelope>,
    made: Vec<Envelope>,
    pub(crate) refused: Vec<String>,
}

/// A node; its memory outlives any coordinator.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) key: NodeKey,
    pub(crate) memory: Arc<Mutex<Memory>>,
    /// Whether its link carries its proofs.
    pub(crate) proofs_by_link: bool,
    /// Whether its answers to prompts are invented.
    pub(crate) invents: bool,
    /// Pages that hold documents; of all others a made-up one is proven.
    library: Arc<Library>,
    /// Its blobs, if it has any.
    pub(crate) blobs: Option<IrohBlobs>,
    owner: OwnerKey,
    number: u8,
    profile: Arc<Profile>,
}

impl Node {
    pub(crate) fn keys(number: u8) -> (NodeKey, OwnerKey) {
        (NodeKey::from_seed(&[number; 32]), OwnerKey::from_seed(&[100 + number; 32]))
    }

    pub(crate) fn new(number: u8, profile: &Profile) -> Self {
        let (key, owner) = Self::keys(number);
        let memory = Arc::default();
        let profile = Arc::new(profile.clone());
        let (library, blobs) = (Arc::default(), None);
        let (proofs_by_link, invents) = (true, false);
        Self { key, memory, proofs_by_link, invents, library, blobs, owner, number, profile }
    }

    /// The same with a store of blobs in a folder; `holds` tells of which addresses it holds the
    /// document.
    pub(crate) async fn with_blobs(
        mut self,
        library: &Arc<Library>,
        dir: &std::path::Path,
        holds: impl Fn(&str) -> bool,
    ) -> Self {
        let ip = IpAddr::V4(Ipv4Addr::new(127, self.number, 0, 1));
        let dir = dir.join(format!("node{}", self.number));
        let blobs = IrohBlobs::start(BlobsConfig::new(self.key.clone(), ip, dir)).await.unwrap();
        for (url, text) in library.iter().filter(|(url, _)| holds(url)) {
            blobs.put(document_of(url, text).1.into()).await.unwrap();
        }
        (self.library, self.blobs) = (Arc::clone(library), Some(blobs));
        self
    }

    /// Proofs in the order in which they were made, from the given one on.
    pub(crate) fn unsent_by_link(&self, from: usize) -> Vec<Envelope> {
        self.memory.lock().unwrap().made.get(from..).unwrap_or_default().to_vec()
    }

    fn registration(&self) -> Envelope {
        let network = self.profile.network();
        let delegation = Delegation {
            node: self.key.public(),
            not_before: UnixMs(self.profile.genesis.0 - 1_000),
            expires: self.profile.genesis.plus_ms(3_600_000),
            serial: 1,
        };
        let registration = Registration {
            delegation: Envelope::seal_as_owner(&delegation, network, &self.owner).unwrap(),
            settlement: SettlementKey::from_secret(&[self.number; 32]).unwrap().address(),
            blob_addresses: List::new(self.blob_addresses()).unwrap(),
            peer_addresses: List::default(),
            kinds: List::new(vec![1, 2, 3]).unwrap(),
            agent: Text::clipped("test node"),
        };
        Envelope::seal(&registration, network, &self.key).unwrap()
    }

    fn blob_addresses(&self) -> Vec<Text<{ limits::ADDRESS_MAX }>> {
        let addresses = self.blobs.iter().flat_map(|blobs| blobs.addresses());
        addresses.map(|address| Text::clipped(&address.to_string())).collect()
    }

    /// Opens a link.
    pub(crate) fn client(&self, address: SocketAddr) -> (LinkClient, mpsc::Receiver<LinkEvent>) {
        let registration = self.registration();
        let hello = move || LinkRequest::Hello {
            version: LINK_VERSION,
            registration: registration.clone(),
        };
        let config = LinkClientConfig {
            key: self.key.clone(),
            server_key: self.profile.coordinator.node,
            addresses: vec![address],
            bind: Some(IpAddr::V4(Ipv4Addr::new(127, self.number, 0, 1))),
            hello: Arc::new(hello),
        };
        LinkClient::start(config).unwrap()
    }

    /// Connects and works until aborted. A coordinator that does not answer for a while is called
    /// anew: one that lost its power says no goodbye.
    pub(crate) fn connect(&self, address: SocketAddr) -> JoinHandle<()> {
        let node = self.clone();
        tokio::spawn(async move {
            loop {
                let (client, mut events) = node.client(address);
                let mut silent_since = Instant::now();
                while silent_since.elapsed() < SILENCE_MAX {
                    let next = tokio::time::timeout(Duration::from_millis(250), events.recv());
                    if let Ok(Some(LinkEvent::Push(push))) = next.await {
                        node.take_push(push);
                    }
                    let turn = tokio::time::timeout(SILENCE_MAX, node.turn(&client)).await;
                    if turn == Ok(true) {
                        silent_since = Instant::now();
                    }
                }
                client.stop();
            }
        })
    }

    /// Asks what is due and sends what was done; tells whether the coordinator answered.
    async fn turn(&self, client: &LinkClient) -> bool {
        let answered = self.sync(client).await;
        self.send(client).await;
        answered
    }

    fn take_push(&self, push: LinkPush) {
        match push {
            LinkPush::Leases(leases) => leases.iter().for_each(|lease| self.work_on(lease)),
            LinkPush::Closed(closed) => closed.iter().for_each(|notice| self.reveal(notice)),
            LinkPush::Receipts(receipts) => receipts.iter().for_each(|r| self.keep_receipt(r)),
            LinkPush::Verdicts(verdicts) => verdicts.iter().for_each(|v| self.keep_verdict(v)),
            LinkPush::EpochClosed(_) => {}
        }
    }

    async fn sync(&self, client: &LinkClient) -> bool {
        let unsettled: Vec<ProofId> = {
            let memory = self.memory.lock().unwrap();
            let open = memory.sent.keys().filter(|id| !memory.verdicts.contains_key(id));
            open.take(512).copied().collect()
        };
        let unsettled = List::new(unsettled).unwrap();
        let Ok(LinkResponse::State(state)) = client.request(&LinkRequest::Sync { unsettled }).await
        else {
            return false;
        };
        state.leases.iter().for_each(|lease| self.work_on(lease));
        state.closed.iter().for_each(|notice| self.reveal(notice));
        state.receipts.iter().for_each(|receipt| self.keep_receipt(receipt));
        state.verdicts.iter().for_each(|verdict| self.keep_verdict(verdict));
        let mut memory = self.memory.lock().unwrap();
        for id in &state.unknown {
            assert!(!memory.held.contains(id), "an acknowledged proof was lost");
            memory.held.remove(id);
        }
        true
    }

    /// Does the work of a lease, deterministically by its page.
    fn work_on(&self, leased: &LeasedTask) {
        let slot = (leased.lease.task, leased.lease.wave);
        if self.memory.lock().unwrap().work.contains_key(&slot) {
            return;
        }
        let (input, body) = match leased.spec.kind {
            TaskKind::Infer => answer_to(leased, self.number, self.invents),
            _ => output_of(leased, &self.library),
        };
        let nonce = SecretNonce([self.number ^ slot.1 ^ slot.0.0[0]; 32]);
        let node = self.key.public();
        let commitment = Commitment::new(&slot.0, &node, &nonce, &body.output_root());
        let commit = Commit { task: slot.0, wave: slot.1, commitment };
        let commit = Envelope::seal(&commit, self.profile.network(), &self.key).unwrap();
        let leased = leased.clone();
        let work = Work { leased, input, body, commit, commitment, nonce, committed: false };
        self.memory.lock().unwrap().work.insert(slot, work);
    }

    /// Reveals only against a closed set that holds the node's own commitment.
    fn reveal(&self, notice: &ClosedNotice) {
        let set = &notice.set;
        let mut memory = self.memory.lock().unwrap();
        let Some(work) = memory.work.get(&(set.task, set.wave)).cloned() else { return };
        let node = self.key.public();
        assert!(set.commits.contains(&(node, work.commitment)), "not the node's own commitment");
        let proof = Proof {
            task: set.task,
            node,
            wave: set.wave,
            round: work.leased.round,
            seq: 0,
            input: work.input,
            output: work.body.output_root(),
            commitment: work.commitment,
            nonce: work.nonce,
            body: work.body,
        };
        let envelope = Envelope::seal(&proof, self.profile.network(), &self.key).unwrap();
        if memory.sent.insert(proof_id(&envelope), envelope.clone()).is_none() {
            memory.made.push(envelope);
        }
    }

    fn signer(&self) -> EvmAddress {
        self.profile.coordinator.settlement
    }

    fn keep_receipt(&self, receipt: &Receipt) {
        let batch = receipt.batch;
        batch.verify(&self.profile.domain(), &receipt.signature, &self.signer()).unwrap();
        let leaf = receipt_leaf(&receipt.proof, batch.count_by);
        assert_eq!(receipt.path.root_of(&leaf), Some(batch.root));
        let mut memory = self.memory.lock().unwrap();
        let known = memory.receipts.insert(receipt.proof, receipt.clone());
        assert!(known.is_none_or(|known| known == *receipt), "two receipts for one proof differ");
    }

    fn keep_verdict(&self, verdict: &SignedVerdict) {
        let batch = verdict.batch;
        batch.verify(&self.profile.domain(), &verdict.signature, &self.signer()).unwrap();
        let row = verdict.row;
        let leaf = verdict_leaf(&row.proof, row.verdict.code(), row.points.0);
        assert_eq!(verdict.path.root_of(&leaf), Some(batch.root));
        self.memory.lock().unwrap().verdicts.insert(row.proof, verdict.clone());
    }

    /// Sends what is not acknowledged yet.
    async fn send(&self, client: &LinkClient) {
        let (commits, proofs) = {
            let memory = self.memory.lock().unwrap();
            let open = memory.work.values().filter(|work| !work.committed);
            let commits: Vec<Envelope> = open.take(64).map(|work| work.commit.clone()).collect();
            let open = memory.sent.iter().filter(|(id, _)| !memory.held.contains(id));
            let proofs: Vec<(ProofId, Envelope)> =
                open.take(64).map(|(id, envelope)| (*id, envelope.clone())).collect();
            (commits, proofs)
        };
        if !commits.is_empty() {
            let request = LinkRequest::Commits(List::new(commits.clone()).unwrap());
            if let Ok(LinkResponse::Results(results)) = client.request(&request).await {
                self.committed(&commits, &results);
            }
        }
        if self.proofs_by_link && !proofs.is_empty() {
            let envelopes: Vec<Envelope> = proofs.iter().map(|(_, e)| e.clone()).collect();
            let request = LinkRequest::Proofs(List::new(envelopes).unwrap());
            if let Ok(LinkResponse::Results(results)) = client.request(&request).await {
                let mut memory = self.memory.lock().unwrap();
                for ((id, _), result) in proofs.iter().zip(&results) {
                    match result {
                        ItemResult::Held | ItemResult::Known => {
                            memory.held.insert(*id);
                        }
                        ItemResult::Later { .. } => {}
                        ItemResult::Refused { code, .. } => {
                            memory.refused.push(format!("proof: {code}"));
                            memory.sent.remove(id);
                        }
                    }
                }
            }
        }
    }

    fn committed(&self, commits: &[Envelope], results: &[ItemResult]) {
        let mut memory = self.memory.lock().unwrap();
        for (commit, result) in commits.iter().zip(results) {
            let Some(work) = memory.work.values_mut().find(|work| work.commit == *commit) else {
                continue;
            };
            match result {
                ItemResult::Held | ItemResult::Known => {
                    work.committed = true;
                    memory.commits_held += 1;
                }
                ItemResult::Later { .. } => {}
                ItemResult::Refused { code, .. } => {
                    work.committed = true;
                    memory.refused.push(format!("commit: {code}"));
                }
            }
        }
    }

    /// What it was asked of models, with what it found.
    pub(crate) fn answers(&self) -> Vec<(LeasedTask, ProofBody)> {
        let memory = self.memory.lock().unwrap();
        let work = memory.work.values().filter(|work| work.body.kind == TaskKind::Infer);
        work.map(|work| (work.leased.clone(), work.body.clone())).collect()
    }

    /// How many proofs were accepted.
    pub(crate) fn accepted(&self) -> usize {
        let memory = self.memory.lock().unwrap();
        memory.verdicts.values().filter(|v| v.row.verdict == Verdict::Accepted).count()
    }
}

/// What a node answers to a prompt: the same tokens as all others of its backend class, a little
/// more or less likely, as other machines round. An invented answer is far less likely. Every
/// other node has another class, but who checks an answer computes in the class that it is told,
/// and runs the tokens that it is told.
fn answer_to(leased: &LeasedTask, number: u8, invents: bool) -> (BlobId, ProofBody) {
    let task: InferTask = decode(&leased.spec.body, limits::TASK_BODY_MAX).unwrap();
    let written: Vec<u32> = task.seed.iter().take(6).map(|byte| u32::from(*byte)).collect();
    let tokens = leased.answer.clone().map_or(written, List::into_vec);
    let lies = if invents { 2_000_000 } else { 0 };
    let own = ["wgpu-1", "cpu-reference-1"][usize::from(number % 2)];
    let class = leased.backend.clone().unwrap_or_else(|| Text::clipped(own));
    assert_eq!(leased.backend.is_some(), leased.lease.role == Role::Auditor);
    assert_eq!(leased.answer.is_some(), &*class == "cpu-int12-1", "who redoes is told no tokens");
    let off = if &*class == "cpu-reference-1" { 0 } else { 100_000 };
    let logprob = |token: &u32| -50_000 - i32::try_from(*token).unwrap() * 100 - lies - off;
    let rounded = |token: &u32| logprob(token) - i32::from(number) * 1_500;
    let noise = if &*class == "wgpu-1" { i16::from(number) } else { 0 };
    let fingerprint = |salt: i16, noise: i16| {
        let codes =
            (0..tokens.len() as i16 * 4).map(|at| (at + salt) * 631 % 9_001 + 5_000 + noise);
        let codes = codes.flat_map(i16::to_le_bytes);
        1.0f32.to_le_bytes().into_iter().chain(codes).collect::<Vec<u8>>()
    };
    let effect = if task.adapters.is_empty() { Vec::new() } else { fingerprint(7, 0) };
    let check = leased.answer.is_some().then(|| InferCheck {
        slacks_micro: List::new(vec![0; tokens.len()]).unwrap(),
        effect: Blob::new(effect).unwrap(),
    });
    let fingerprint = Blob::new(fingerprint(0, noise)).unwrap();
    let output = InferOutput {
        logprobs_micro: List::new(tokens.iter().map(rounded).collect::<Vec<_>>()).unwrap(),
        tokens: List::new(tokens).unwrap(),
        finish: InferFinish::End,
        fingerprint: BlobId::of(&fingerprint),
        backend: class,
        evidence: Some(InferEvidence { fingerprint, check }),
    };
    let body = ProofBody::of_version(TaskKind::Infer, output.version(), &output).unwrap();
    (task.prompt, body)
}

/// What every honest node finds for a page.
fn output_of(leased: &LeasedTask, library: &Library) -> (BlobId, ProofBody) {
    let max = limits::TASK_BODY_MAX;
    if leased.spec.kind == TaskKind::Refine {
        let task: RefineTask = decode(&leased.spec.body, max).unwrap();
        let output = match library.get(&*task.url) {
            Some(text) => document_of(&task.url, text).0,
            None => RefineOutput::Document {
                document: BlobId::of(&task.page.0),
                document_bytes: 32,
                bands: List::default(),
            },
        };
        return (task.page, ProofBody::of(TaskKind::Refine, &output).unwrap());
    }
    let task: FetchTask = decode(&leased.spec.body, max).unwrap();
    let unknown = || format!("<p>the page {}</p>", &*task.url);
    let page = page_of(&task.url, &library.get(&*task.url).cloned().unwrap_or_else(unknown));
    let fingerprint = Fingerprint::new(&page, None, 1 << 20).to_bytes().unwrap();
    let output = FetchOutput {
        final_url: task.url,
        status: 200,
        content_type: Text::clipped("text/plain"),
        page: BlobId::of(&page.body),
        page_bytes: page.body.len() as u64,
        fetched_at: UnixMs(0),
        signals: 0,
        warc: BlobId::ZERO,
        fingerprint: Blob::new(fingerprint).unwrap(),
    };
    (BlobId::ZERO, ProofBody::of(TaskKind::Fetch, &output).unwrap())
}

fn page_of(url: &str, text: &str) -> Page {
    Page {
        url: url.to_owned(),
        status: 200,
        content_type: Some("text/plain".to_owned()),
        body: text.as_bytes().to_vec(),
    }
}

/// What is proven of a page, and the document itself.
fn document_of(url: &str, text: &str) -> (RefineOutput, Vec<u8>) {
    let refined = process(&page_of(url, text), &PROFILE_V1).unwrap();
    let document = match refined.outcome {
        Outcome::Document(document) => document,
        Outcome::Rejected(reason) => panic!("{url}: no document: {reason:?}"),
    };
    let bytes = document.to_bytes().unwrap();
    let mut bands = band_keys(&refined.fingerprint.signature);
    if url.contains("lie") {
        bands[5] ^= 1;
    }
    let (document, document_bytes) = (BlobId::of(&bytes), bytes.len() as u64);
    let bands = List::new(bands).unwrap();
    (RefineOutput::Document { document, document_bytes, bands }, bytes)
}

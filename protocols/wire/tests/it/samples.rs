//! Fixed keys and fixed statements: one small network with one node that does each kind of work.

use std::collections::BTreeMap;

use openledger_wire::bounded::{List, Text};
use openledger_wire::eip712::{PayoutBinding, Typed};
use openledger_wire::gossip::{Announcement, Offer, OfferKind, ProofAt};
use openledger_wire::identity::{Binding, Delegation, Registration, Revocation};
use openledger_wire::phrase::Phrase;
use openledger_wire::profile::{BeaconSource, ChainContact, CoordinatorContact, Profile};
use openledger_wire::proof::{
    Commit, FetchOutput, InferCheck, InferEvidence, InferFinish, InferOutput, Proof, ProofBody,
    RefineOutput, ServeOutput, TrainOutput, ValidateOutput,
};
use openledger_wire::task::{
    Campaign, FetchTask, InferTask, RefineTask, ServeTask, TaskKind, TaskSpec, TrainTask,
    ValidateTask,
};
use openledger_wire::{
    Blob, BlobId, Commitment, Envelope, EvmAddress, NetworkId, NodeKey, OwnerKey, OwnerPublic,
    Points, Round, RuleSetId, SecretNonce, SettlementKey, UnixMs, encode,
};

use crate::kinds::{Sample, sample};

/// 2026-01-01 00:00 UTC, the start of the sample networks.
pub(crate) const GENESIS: UnixMs = UnixMs(1_767_225_600_000);
/// One day in milliseconds.
pub(crate) const DAY_MS: u64 = 86_400_000;

pub(crate) fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).unwrap()
}

pub(crate) fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::new(items).unwrap()
}

fn blob(name: &str) -> BlobId {
    BlobId::of(name.as_bytes())
}

/// The words of 32 zero bytes, known to every wallet.
pub(crate) fn phrase() -> Phrase {
    Phrase::from_entropy(&[0; 32]).unwrap()
}

pub(crate) fn owner() -> OwnerKey {
    phrase().owner_key().unwrap()
}

pub(crate) fn payout() -> SettlementKey {
    phrase().payout_key().unwrap()
}

pub(crate) fn node() -> NodeKey {
    NodeKey::from_seed(&[1; 32])
}

pub(crate) fn other_node() -> NodeKey {
    NodeKey::from_seed(&[2; 32])
}

/// The coordinator's link key, which also signs the profile.
pub(crate) fn coordinator() -> NodeKey {
    NodeKey::from_seed(&[3; 32])
}

/// The coordinator's settlement key.
pub(crate) fn settlement() -> SettlementKey {
    SettlementKey::from_secret(&[4; 32]).unwrap()
}

/// The profile of a devnet: stub beacon, one private host.
pub(crate) fn devnet() -> Profile {
    let private =
        ("docs.devnet.test:8080".to_owned(), list(vec!["127.9.0.1:8080".parse().unwrap()]));
    Profile {
        schema: 1,
        name: text("sample devnet"),
        genesis: GENESIS,
        rule_set: RuleSetId([0x21; 32]),
        rule_set_name: text("devnet-1"),
        bootstrap: list(vec![text("/ip4/127.1.0.1/udp/4001/quic-v1")]),
        founding: list(vec![node().public(), other_node().public()]),
        coordinator: CoordinatorContact {
            node: coordinator().public(),
            settlement: settlement().address(),
            link: list(vec!["127.0.0.1:7000".parse().unwrap()]),
            api: text("http://127.0.0.1:7001"),
        },
        chain: ChainContact {
            chain_id: 31_337,
            rpc: list(vec![text("http://127.0.0.1:8545")]),
            token: EvmAddress([0x31; 20]),
            rewards: EvmAddress([0x32; 20]),
            escrow: EvmAddress([0x33; 20]),
        },
        beacon: BeaconSource::Stub,
        private_hosts: BTreeMap::from([private]),
    }
}

/// The same network on a public chain, with drand's quicknet.
pub(crate) fn public() -> Profile {
    let chain = ChainContact { chain_id: 1_612, ..devnet().chain };
    Profile {
        name: text("sample public network"),
        chain,
        beacon: BeaconSource::Drand {
            public_key: text(
                "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
            ),
            genesis_s: 1_692_803_367,
            period_s: 3,
            relays: list(vec![text("https://api.drand.sh")]),
        },
        private_hosts: BTreeMap::new(),
        ..devnet()
    }
}

pub(crate) fn network() -> NetworkId {
    devnet().network()
}

pub(crate) fn campaign() -> Campaign {
    Campaign {
        name: text("documentation"),
        contact: text("abuse@campaign.example"),
        terms: text("for search and training, with attribution"),
        budget: Points(1_000_000),
        replicas: 3,
    }
}

/// One task with what its node claims to have done.
pub(crate) struct Work {
    pub(crate) kind: TaskKind,
    pub(crate) task: Sample,
    pub(crate) spec: TaskSpec,
    pub(crate) output: Sample,
    pub(crate) proof: Proof,
}

impl Work {
    fn new(kind: TaskKind, task: Sample, output: Sample, input: BlobId) -> Self {
        let spec = TaskSpec {
            campaign: campaign().id(network()).unwrap(),
            kind,
            version: 1,
            nonce: 7,
            value_permille: 1_000,
            body: Blob::new(task.cbor.clone()).unwrap(),
        };
        let id = spec.id(network()).unwrap();
        let bytes = Blob::new(output.cbor.clone()).unwrap();
        let body = ProofBody { kind, version: 1, bytes };
        let (node, nonce, root) = (node().public(), SecretNonce([9; 32]), body.output_root());
        let proof = Proof {
            task: id,
            node,
            wave: 0,
            round: Round(12),
            seq: u64::from(kind.code()),
            input,
            output: root,
            commitment: Commitment::new(&id, &node, &nonce, &root),
            nonce,
            body,
        };
        Self { kind, task, spec, output, proof }
    }

    pub(crate) fn commit(&self) -> Commit {
        Commit { task: self.proof.task, wave: 0, commitment: self.proof.commitment }
    }
}

/// One task of each kind, done.
pub(crate) fn works() -> Vec<Work> {
    let zero = BlobId::ZERO;
    vec![
        Work::new(TaskKind::Fetch, sample(&fetch_task()), sample(&fetch_output()), zero),
        Work::new(
            TaskKind::Refine,
            sample(&refine_task()),
            sample(&RefineOutput::Document {
                document: blob("document"),
                document_bytes: 18_432,
                bands: list((0..28).map(|band| band * 0x0101_0101_0101_0101).collect()),
            }),
            blob("page"),
        ),
        Work::new(
            TaskKind::Infer,
            sample(&infer_task()),
            sample(&InferOutput {
                tokens: list(vec![7_042, 30, 198, 2]),
                logprobs_micro: list(vec![-1_204_112, -90_001, 0, -15_250_000]),
                finish: InferFinish::End,
                fingerprint: blob("activations"),
                backend: text("cpu-reference-1"),
                evidence: None,
            }),
            blob("prompt"),
        ),
        Work::new(
            TaskKind::Validate,
            sample(&ValidateTask {
                record: blob("record"),
                guideline: blob("guideline"),
                choices: 4,
            }),
            sample(&ValidateOutput { choice: 2, note: text("off topic") }),
            blob("record"),
        ),
        Work::new(
            TaskKind::Train,
            sample(&train_task()),
            sample(&TrainOutput { adapter: blob("adapter"), log: blob("log"), steps: 200 }),
            blob("manifest"),
        ),
        Work::new(
            TaskKind::Serve,
            sample(&ServeTask { blob: blob("model"), blob_bytes: 91_726_208, chunks: 8 }),
            sample(&ServeOutput { answer: [0x5a; 32] }),
            blob("model"),
        ),
    ]
}

fn fetch_task() -> FetchTask {
    FetchTask { url: text("https://docs.example/manual/intro.html") }
}

fn fetch_output() -> FetchOutput {
    FetchOutput {
        final_url: text("https://docs.example/manual/en/intro.html"),
        status: 200,
        content_type: text("text/html; charset=utf-8"),
        page: blob("page"),
        page_bytes: 48_213,
        fetched_at: GENESIS.plus_ms(61_000),
        signals: 0,
        warc: blob("warc"),
        fingerprint: Blob::new(vec![0x77; 40]).unwrap(),
    }
}

fn refine_task() -> RefineTask {
    RefineTask {
        url: text("https://docs.example/manual/en/intro.html"),
        status: 200,
        content_type: text("text/html; charset=utf-8"),
        page: blob("page"),
        page_bytes: 48_213,
        profile: [0x44; 32],
    }
}

fn infer_task() -> InferTask {
    InferTask {
        model: blob("model"),
        adapters: list(vec![(blob("adapter"), 750), (blob("second adapter"), 250)]),
        prompt: blob("prompt"),
        tokens_max: 256,
        seed: [0x45; 32],
        temperature_permille: 700,
    }
}

fn train_task() -> TrainTask {
    TrainTask {
        configuration: blob("configuration"),
        base: blob("model"),
        data: blob("manifest"),
        start: BlobId::ZERO,
        step_from: 0,
        step_to: 200,
    }
}

pub(crate) fn delegation() -> Delegation {
    let expires = GENESIS.plus_ms(90 * DAY_MS);
    Delegation { node: node().public(), not_before: GENESIS, expires, serial: 1 }
}

pub(crate) fn revocation() -> Revocation {
    Revocation { node: node().public(), serial: 1 }
}

pub(crate) fn registration_with(delegation: Envelope) -> Registration {
    Registration {
        delegation,
        settlement: settlement().address(),
        blob_addresses: list(vec![text("127.1.0.1:4002")]),
        peer_addresses: list(vec![text("/ip4/127.1.0.1/udp/4001/quic-v1")]),
        kinds: list(vec![1, 2]),
        agent: text("openledger/0.1.0"),
    }
}

pub(crate) fn registration() -> Registration {
    registration_with(as_owner(&delegation()))
}

pub(crate) fn payout_binding() -> PayoutBinding {
    let account = OwnerPublic(owner().public().0).account();
    PayoutBinding { network: network(), account, payout: payout().address(), nonce: 1 }
}

pub(crate) fn binding() -> Binding {
    let typed = payout_binding();
    let payout_signature = typed.sign(&devnet().domain(), &payout()).unwrap();
    Binding { typed, payout_signature, former_signature: None }
}

pub(crate) fn announcement() -> Announcement {
    Announcement {
        at: GENESIS.plus_ms(5_000),
        blob_addresses: list(vec![text("127.1.0.1:4002"), text("[2001:db8::1]:4002")]),
        kinds: list(vec![1, 2]),
        blobs: list(vec![blob("bundle")]),
        offers: list(vec![
            Offer {
                name: text("a base"),
                blob: blob("model"),
                bytes: 98_400_000,
                kind: OfferKind::Base,
            },
            Offer {
                name: text("an adapter"),
                blob: blob("adapter"),
                bytes: 2_000_000,
                kind: OfferKind::Adapter { base: blob("model") },
            },
        ]),
    }
}

pub(crate) fn proof_at() -> ProofAt {
    let envelope = as_node(&works()[0].proof).to_bytes().unwrap();
    ProofAt {
        envelope: BlobId::of(&envelope),
        bytes: u32::try_from(envelope.len()).unwrap(),
        blob_addresses: list(vec![text("127.1.0.1:4002")]),
    }
}

/// Sealed with the node key on the sample network.
pub(crate) fn as_node<T: openledger_wire::Signable>(value: &T) -> Envelope {
    Envelope::seal(value, network(), &node()).unwrap()
}

/// Sealed with the owner key on the sample network.
pub(crate) fn as_owner<T: openledger_wire::Signable>(value: &T) -> Envelope {
    Envelope::seal_as_owner(value, network(), &owner()).unwrap()
}

/// One envelope of each kind of signed statement.
pub(crate) fn envelopes() -> Vec<(&'static str, Envelope)> {
    vec![
        ("delegation", as_owner(&delegation())),
        ("revocation", as_owner(&revocation())),
        ("binding", as_owner(&binding())),
        ("registration", as_node(&registration())),
        ("commit", as_node(&works()[0].commit())),
        ("proof", as_node(&works()[0].proof)),
        ("announcement", as_node(&announcement())),
        ("proof at", as_node(&proof_at())),
    ]
}

/// A signed envelope with a body of any bytes, which [`Envelope::seal`] would not make.
pub(crate) fn sealed_raw(domain: &str, body: &[u8], key: &NodeKey) -> Envelope {
    let mut signed = b"openledger".to_vec();
    signed.push(u8::try_from(domain.len()).unwrap());
    signed.extend_from_slice(domain.as_bytes());
    signed.extend_from_slice(&1u16.to_be_bytes());
    signed.extend_from_slice(&network().0);
    signed.extend_from_slice(body);
    let fields = serde_json::json!({
        "domain": domain,
        "version": 1,
        "network": network(),
        "signer": key.public(),
        "body": hex::encode(body),
        "signature": key.sign(&signed),
    });
    serde_json::from_value(fields).unwrap()
}

/// Canonical bytes of a value.
pub(crate) fn bytes_of<T: serde::Serialize>(value: &T) -> Vec<u8> {
    encode(value).unwrap()
}

/// An answer with its fingerprint, and what a check of it found.
pub(crate) fn infer_with_evidence() -> (InferOutput, InferOutput) {
    let bytes = |salt: u8| Blob::new((0..36).map(|at| at ^ salt).collect::<Vec<_>>()).unwrap();
    let fingerprint = bytes(0);
    let answer = InferOutput {
        tokens: list(vec![7_042, 30, 198, 2]),
        logprobs_micro: list(vec![-1_204_112, -90_001, 0, -15_250_000]),
        finish: InferFinish::End,
        fingerprint: BlobId::of(&fingerprint),
        backend: text("wgpu-1"),
        evidence: Some(InferEvidence { fingerprint, check: None }),
    };
    let check = InferCheck { slacks_micro: list(vec![0, 0, 1_207, 0]), effect: bytes(0x55) };
    let evidence = InferEvidence { fingerprint: bytes(0x80), check: Some(check) };
    let checked = InferOutput {
        fingerprint: BlobId::of(&evidence.fingerprint),
        backend: text("cpu-int12-2"),
        evidence: Some(evidence),
        ..answer.clone()
    };
    (answer, checked)
}

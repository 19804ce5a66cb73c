//! Golden vectors: the bytes, ids, digests and signatures that other builds and other programs must
//! agree with.
//!
//! `vectors/golden.json` holds one vector per line. Run with `UPDATE_VECTORS=1` to write it anew;
//! values that are in the file stay, new types and variants are drawn and added. The hash below
//! must then be changed by hand: that is the approval.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use openledger_wire::eip712::{ReceiptBatch, SignedHead, Typed, VerdictBatch, Voucher};
use openledger_wire::gossip::{GossipedProof, ProofHeader};
use openledger_wire::log::{Entry, Line, first_head, next_head};
use openledger_wire::merkle::{data_commitment, keccak, path, receipt_leaf, root, verdict_leaf};
use openledger_wire::proof::proof_id;
use openledger_wire::{Epoch, EvmAddress, Height, Keccak, LogHead, Open, ProofId, limits};
use serde_json::Value;

use crate::kinds::{self, Kind, Message, Sample, sample};
use crate::samples;

/// BLAKE3 of `vectors/golden.json`. Changing it approves a change of the wire, which is a version
/// bump of what changed.
const APPROVED: &str = "1510acd4977795e31e2fd28caf192d70b93a4a22a6d6d23ed8edd6026f4e9dfe";

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/golden.json")
}

/// The lines of the file, in order.
#[derive(Default)]
struct Vectors {
    lines: Vec<String>,
}

impl Vectors {
    /// A value of a message type in both encodings.
    fn message(&mut self, name: &str, kind: &str, sample: &Sample) {
        let (name, kind) = (Value::from(name), Value::from(kind));
        let Sample { json, cbor } = sample;
        let cbor = hex::encode(cbor);
        self.lines.push(format!(
            "{{\"name\":{name},\"type\":{kind},\"value\":{json},\"cbor\":\"{cbor}\"}}"
        ));
    }

    fn value<T: Message>(&mut self, name: &str, value: &T) {
        let full = std::any::type_name::<T>();
        let kind = full.rsplit("::").next().unwrap_or(full);
        self.message(name, kind, &sample(value));
    }

    /// Something derived: an id, a digest, a root, a text.
    fn fact(&mut self, name: &str, fact: impl ToString) {
        let (name, fact) = (Value::from(name), Value::from(fact.to_string()));
        self.lines.push(format!("{{\"name\":{name},\"is\":{fact}}}"));
    }

    fn text(&self) -> String {
        format!("[\n{}\n]\n", self.lines.join(",\n"))
    }
}

/// The drawn values that the file holds, by name.
fn kept() -> BTreeMap<String, String> {
    let Ok(text) = std::fs::read_to_string(file()) else { return BTreeMap::new() };
    let lines: Vec<Value> = serde_json::from_str(&text).unwrap();
    let pair = |line: &Value| {
        Some((line.get("name")?.as_str()?.to_owned(), line.get("value")?.to_string()))
    };
    lines.iter().filter_map(pair).collect()
}

#[test]
fn encodings_are_the_approved_ones() {
    let kept = kept();
    let mut vectors = Vectors::default();
    identity(&mut vectors);
    works(&mut vectors);
    typed(&mut vectors);
    log_and_trees(&mut vectors);
    drawn(&mut vectors, &kept);
    let text = vectors.text();
    let hash = blake3::hash(text.as_bytes()).to_string();
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(file(), &text).unwrap();
    }
    let committed = std::fs::read_to_string(file()).unwrap();
    let differs = committed.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert_eq!(differs, None, "the wire changed; see vectors/README.md");
    assert_eq!(committed, text, "vectors are missing or left over; see vectors/README.md");
    assert_eq!(hash, APPROVED, "approve the change by this hash; see vectors/README.md");
}

fn identity(vectors: &mut Vectors) {
    let (phrase, owner, payout) = (samples::phrase(), samples::owner(), samples::payout());
    vectors.fact("phrase of 32 zero bytes", phrase.words().as_str());
    vectors.fact("owner key", owner.public());
    vectors.fact("account", owner.public().account());
    vectors.fact("payout address", payout.address());
    vectors.fact("node key of seed 01..", samples::node().public());
    vectors.fact("settlement address of secret 04..", samples::settlement().address());
    for (name, profile) in [("devnet", samples::devnet()), ("public", samples::public())] {
        vectors.fact(&format!("{name} profile"), profile.sign(&samples::coordinator()).unwrap());
        vectors.fact(&format!("{name} network id"), profile.network());
        vectors.fact(&format!("{name} domain separator"), profile.domain().separator());
    }
    vectors.value("delegation", &samples::delegation());
    vectors.value("revocation", &samples::revocation());
    vectors.value("registration", &samples::registration());
    vectors.value("binding", &samples::binding());
    vectors.value("announcement", &samples::announcement());
    vectors.value("proof at", &samples::proof_at());
    for (name, envelope) in samples::envelopes() {
        vectors.value(&format!("{name} envelope"), &envelope);
        vectors.fact(&format!("{name} envelope id"), hex::encode(envelope.id()));
    }
    let whole = samples::as_node(&samples::works()[1].proof);
    vectors.value("gossiped proof, whole", &GossipedProof::Whole(whole));
    let signed = samples::as_node(&samples::proof_at());
    vectors.value("gossiped proof, at its node", &GossipedProof::AtNode(ProofHeader { signed }));
}

fn works(vectors: &mut Vectors) {
    let campaign = samples::campaign();
    vectors.value("campaign", &campaign);
    vectors.fact("campaign id", campaign.id(samples::network()).unwrap());
    let (answer, check) = samples::infer_with_evidence();
    vectors.value("infer output with evidence", &answer);
    vectors.value("infer output of a check", &check);
    for work in samples::works() {
        let kind = work.kind.name();
        let of = |what: &str| format!("{kind} {what}");
        let capital = kind[..1].to_uppercase() + &kind[1..];
        vectors.message(&of("task"), &format!("{capital}Task"), &work.task);
        vectors.value(&of("spec"), &work.spec);
        vectors.fact(&of("task id"), work.proof.task);
        vectors.message(&of("output"), &format!("{capital}Output"), &work.output);
        vectors.fact(&of("output root"), work.proof.output);
        vectors.fact(&of("commitment"), work.proof.commitment);
        vectors.value(&of("commit"), &work.commit());
        vectors.value(&of("proof"), &work.proof);
        let envelope = samples::as_node(&work.proof);
        vectors.value(&of("proof envelope"), &envelope);
        vectors.fact(&of("proof id"), proof_id(&envelope));
        assert!(work.proof.opens());
    }
}

fn typed(vectors: &mut Vectors) {
    let network = samples::network();
    let head = SignedHead { network, height: Height(1_234), head: LogHead([0x61; 32]) };
    one_typed(vectors, "log head", &head);
    let batch = ReceiptBatch {
        network,
        log_head: LogHead([0x61; 32]),
        log_height: Height(1_234),
        root: Keccak([0x62; 32]),
        size: 17,
        count_by: Epoch(3),
    };
    one_typed(vectors, "receipt batch", &batch);
    let batch =
        VerdictBatch { network, epoch: Epoch(3), number: 41, root: Keccak([0x63; 32]), size: 16 };
    one_typed(vectors, "verdict batch", &batch);
    one_typed(vectors, "payout binding", &samples::payout_binding());
    let voucher = Voucher {
        payer: EvmAddress([0x64; 20]),
        payee: EvmAddress([0x65; 20]),
        model: Keccak([0x66; 32]),
        value_aggregate: Open(1_500_000_000_000_000_000),
        receipts_root: Keccak([0x67; 32]),
    };
    one_typed(vectors, "voucher", &voucher);
}

fn one_typed<T: Typed + Message>(vectors: &mut Vectors, name: &str, value: &T) {
    let (domain, key) = (samples::devnet().domain(), samples::settlement());
    let signature = value.sign(&domain, &key).unwrap();
    value.verify(&domain, &signature, &key.address()).unwrap();
    vectors.value(name, value);
    vectors.fact(&format!("{name} type"), T::TYPE);
    vectors.fact(&format!("{name} digest"), value.digest(&domain));
    vectors.fact(&format!("{name} signature"), signature);
}

fn log_and_trees(vectors: &mut Vectors) {
    let network = samples::network();
    let start = first_head(network);
    let line = Line::Campaign(samples::campaign());
    let entry = Entry { height: Height(0), previous: start, at: samples::GENESIS, line };
    vectors.fact("log start", start);
    vectors.value("first entry", &entry);
    vectors.fact("head after it", next_head(network, &start, &entry.to_bytes().unwrap()));
    let leaves: Vec<Keccak> = (0..9u8).map(|leaf| keccak(&[&[0], &[leaf]])).collect();
    for size in [0, 1, 2, 3, 5, 8, 9] {
        vectors.fact(&format!("root of {size} leaves"), root(&leaves[..size]));
    }
    vectors.value("path of leaf 6 of 9", &path(&leaves, 6).unwrap());
    vectors.value("path of leaf 8 of 9", &path(&leaves, 8).unwrap());
    let proof = ProofId([0x71; 32]);
    vectors.fact("receipt leaf", receipt_leaf(&proof, Epoch(3)));
    vectors.fact("verdict leaf", verdict_leaf(&proof, 1, 4_000));
    vectors.fact("data commitment of 20,000 bytes of 55", data_commitment(&[0x55; 20_000]));
}

/// One value of every variant of every message type: the file's, or a drawn one.
fn drawn(vectors: &mut Vectors, kept: &BTreeMap<String, String>) {
    for kind in kinds::all() {
        let variants = kind.variants();
        for variant in 0..variants {
            let name = format!("{} {variant}", kind.name);
            let sample = kept.get(&name).and_then(|json| kind.read_json(json));
            let sample = sample.or_else(|| telling(&kind, variant)).unwrap();
            vectors.message(&name, kind.name, &sample);
        }
    }
}

/// Of some drawn values the longest that is still easy to read: it has no empty lists.
fn telling(kind: &Kind, variant: usize) -> Option<Sample> {
    let drawn = (1..=64).filter_map(|seed| kind.draw(seed, variant));
    drawn.filter(|sample| sample.cbor.len() <= 2_500).max_by_key(|sample| sample.cbor.len())
}

/// What another program would do: read the file alone, decode every vector, encode it again.
#[test]
fn every_vector_decodes_and_encodes_to_itself() {
    let text = std::fs::read_to_string(file()).unwrap();
    let lines: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut wrong = String::new();
    let mut checked = 0;
    for line in lines.iter().filter(|line| line.get("cbor").is_some()) {
        let kind = kinds::named(line["type"].as_str().unwrap());
        let cbor = hex::decode(line["cbor"].as_str().unwrap()).unwrap();
        let from_value = kind.read_json(&line["value"].to_string()).unwrap().cbor;
        if from_value != cbor || kind.again(&cbor).unwrap() != cbor {
            writeln!(wrong, "{}", line["name"]).unwrap();
        }
        checked += 1;
    }
    assert_eq!(wrong, "");
    assert!(checked > 100, "only {checked} vectors");
    assert!(text.len() < 8 * limits::PROFILE_MAX);
}

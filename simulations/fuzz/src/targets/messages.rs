//! Messages of the wire: envelopes, identity, proofs, link, gossip, workers, texts.

use openledger_wire::call::{CallRequest, CallResponse, Prompt};
use openledger_wire::eip712::Domain;
use openledger_wire::gossip::{Announcement, GossipedHead, GossipedProof, ProofAt};
use openledger_wire::identity::{
    Binding, Delegation, Registration, Revocation, open_binding, open_registration,
};
use openledger_wire::link::{LinkPush, LinkRequest, LinkResponse};
use openledger_wire::phrase::Phrase;
use openledger_wire::profile::Profile;
use openledger_wire::proof::{
    Commit, FetchOutput, InferOutput, Proof, ProofBody, RefineOutput, ServeOutput, TrainOutput,
    ValidateOutput,
};
use openledger_wire::task::{
    Campaign, FetchTask, InferTask, RefineTask, ServeTask, TaskKind, TaskSpec, TrainTask,
    ValidateTask,
};
use openledger_wire::worker::{InferRequest, InferResponse, WorkerRequest, WorkerResponse};
use openledger_wire::{
    Envelope, EvmAddress, Keccak, NetworkId, NodeKey, Open, Signable, UnixMs, decode, encode,
    limits, merkle,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The network of the golden vectors, so that their signatures hold here.
const NETWORK: NetworkId = NetworkId([
    0x29, 0x74, 0x1c, 0xbd, 0xa8, 0xf9, 0x7d, 0xc6, 0x9a, 0xec, 0xe0, 0xd9, 0x49, 0x1b, 0xd0, 0x6c,
    0x0f, 0x92, 0xd2, 0x21, 0x7d, 0xa3, 0x4e, 0x50, 0x42, 0x01, 0x7d, 0x97, 0xd0, 0x33, 0xb1, 0x74,
]);
/// Where bindings of that network hold.
const DOMAIN: Domain = Domain { chain_id: 31_337, contract: EvmAddress([0x32; 20]) };

/// The node of the golden vectors: what it would sign is reached without its signature.
fn node() -> NodeKey {
    NodeKey::from_seed(&[1; 32])
}

/// Decodes; what is accepted must be the one encoding of what it means.
pub(super) fn canonical<T: Serialize + DeserializeOwned>(bytes: &[u8], max: usize) -> Option<T> {
    let value = decode::<T>(bytes, max).ok()?;
    let again = encode(&value);
    assert!(again.is_ok_and(|again| again == bytes), "a second encoding was accepted");
    Some(value)
}

/// A statement, as an envelope and bare.
fn statement<T: Signable>(bytes: &[u8]) {
    let _ = canonical::<T>(bytes, T::BYTES_MAX);
    if let Some(envelope) = canonical::<Envelope>(bytes, limits::ENVELOPE_MAX + 512)
        && let Ok(opened) = envelope.open::<T>(NETWORK)
    {
        assert_eq!(opened.id, envelope.id(), "two ids of one statement");
    }
}

pub(super) fn envelope(bytes: &[u8]) {
    let Some(envelope) = canonical::<Envelope>(bytes, limits::ENVELOPE_MAX + 512) else { return };
    let _ = envelope.open::<Delegation>(NETWORK);
    let _ = envelope.open::<Revocation>(NETWORK);
}

pub(super) fn registration(bytes: &[u8]) {
    statement::<Registration>(bytes);
    let bare = decode::<Registration>(bytes, Registration::BYTES_MAX).ok();
    let sealed = bare.and_then(|bare| Envelope::seal(&bare, NETWORK, &node()).ok());
    for envelope in sealed.into_iter().chain(Envelope::from_bytes(bytes)) {
        let _ = open_registration(&envelope, NETWORK, UnixMs(1_767_225_600_000));
    }
}

pub(super) fn binding(bytes: &[u8]) {
    statement::<Binding>(bytes);
    let bare = decode::<Binding>(bytes, Binding::BYTES_MAX).ok();
    let sealed = bare.and_then(|bare| Envelope::seal(&bare, NETWORK, &node()).ok());
    for envelope in sealed.into_iter().chain(Envelope::from_bytes(bytes)) {
        let _ = open_binding(&envelope, NETWORK, &DOMAIN);
    }
}

pub(super) fn commit(bytes: &[u8]) {
    statement::<Commit>(bytes);
}

pub(super) fn announcement(bytes: &[u8]) {
    statement::<Announcement>(bytes);
    statement::<ProofAt>(bytes);
}

pub(super) fn proof(bytes: &[u8]) {
    statement::<Proof>(bytes);
    if let Ok(proof) = decode::<Proof>(bytes, Proof::BYTES_MAX) {
        let _ = proof.opens();
        outputs(&proof.body);
    }
}

pub(super) fn proof_body(bytes: &[u8]) {
    if let Some(body) = canonical::<ProofBody>(bytes, Proof::BYTES_MAX) {
        outputs(&body);
    }
    let max = limits::PROOF_BODY_MAX;
    let _ = canonical::<FetchOutput>(bytes, max);
    let _ = canonical::<RefineOutput>(bytes, max);
    let _ = canonical::<InferOutput>(bytes, max);
    let _ = canonical::<ValidateOutput>(bytes, max);
    let _ = canonical::<TrainOutput>(bytes, max);
    let _ = canonical::<ServeOutput>(bytes, max);
}

/// Reads a body as the kind that it claims.
fn outputs(body: &ProofBody) {
    let max = limits::PROOF_BODY_MAX;
    match body.kind {
        TaskKind::Fetch => drop(canonical::<FetchOutput>(&body.bytes, max)),
        TaskKind::Refine => drop(canonical::<RefineOutput>(&body.bytes, max)),
        TaskKind::Infer => drop(canonical::<InferOutput>(&body.bytes, max)),
        TaskKind::Validate => drop(canonical::<ValidateOutput>(&body.bytes, max)),
        TaskKind::Train => drop(canonical::<TrainOutput>(&body.bytes, max)),
        TaskKind::Serve => drop(canonical::<ServeOutput>(&body.bytes, max)),
        TaskKind::Other(_) => {}
    }
}

pub(super) fn task(bytes: &[u8]) {
    let max = limits::TASK_BODY_MAX;
    let _ = canonical::<Campaign>(bytes, max);
    let _ = canonical::<FetchTask>(bytes, max);
    let _ = canonical::<RefineTask>(bytes, max);
    let _ = canonical::<InferTask>(bytes, max);
    let _ = canonical::<ValidateTask>(bytes, max);
    let _ = canonical::<TrainTask>(bytes, max);
    let _ = canonical::<ServeTask>(bytes, max);
    if let Some(spec) = canonical::<TaskSpec>(bytes, max + 1_024) {
        assert!(spec.id(NETWORK).is_ok(), "a task without an id");
    }
}

pub(super) fn gossiped_proof(bytes: &[u8]) {
    match canonical::<GossipedProof>(bytes, limits::GOSSIP_MAX) {
        Some(GossipedProof::Whole(envelope)) => drop(envelope.open::<Proof>(NETWORK)),
        Some(GossipedProof::AtNode(header)) => drop(header.signed.open::<ProofAt>(NETWORK)),
        None => {}
    }
}

pub(super) fn gossiped_head(bytes: &[u8]) {
    if let Some(said) = canonical::<GossipedHead>(bytes, limits::GOSSIP_MAX) {
        let digest = openledger_wire::eip712::Typed::digest(&said.head, &DOMAIN);
        let _ = said.signature.recover(&digest);
    }
}

pub(super) fn link_request(bytes: &[u8]) {
    let _ = canonical::<LinkRequest>(bytes, limits::LINK_MAX);
}

pub(super) fn link_response(bytes: &[u8]) {
    let _ = canonical::<LinkResponse>(bytes, limits::LINK_MAX);
}

pub(super) fn link_push(bytes: &[u8]) {
    match canonical::<LinkPush>(bytes, limits::LINK_MAX) {
        Some(LinkPush::Receipts(receipts)) => {
            for receipt in &receipts {
                let _ = receipt.path.root_of(&Keccak(receipt.proof.0));
            }
        }
        Some(LinkPush::Verdicts(verdicts)) => {
            for verdict in &verdicts {
                let _ = verdict.path.root_of(&Keccak(verdict.row.proof.0));
            }
        }
        _ => {}
    }
}

pub(super) fn merkle_path(bytes: &[u8]) {
    if let Some(path) = canonical::<merkle::Path>(bytes, 2 * 1024) {
        let root = path.root_of(&Keccak([1; 32]));
        assert_eq!(root, path.root_of(&Keccak([1; 32])));
    }
}

pub(super) fn worker_request(bytes: &[u8]) {
    let _ = canonical::<WorkerRequest>(bytes, limits::WORKER_MAX);
}

pub(super) fn call(bytes: &[u8]) {
    let _ = canonical::<Prompt>(bytes, limits::PROMPT_MAX);
    let _ = canonical::<CallRequest>(bytes, limits::CALL_MAX);
    let _ = canonical::<CallResponse>(bytes, limits::CALL_ANSWER_MAX);
}

pub(super) fn infer_worker(bytes: &[u8]) {
    let _ = canonical::<InferRequest>(bytes, limits::WORKER_MAX);
    let _ = canonical::<InferResponse>(bytes, limits::WORKER_MAX);
}

pub(super) fn worker_response(bytes: &[u8]) {
    let _ = canonical::<WorkerResponse>(bytes, limits::WORKER_MAX);
}

pub(super) fn profile(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok((profile, _)) = Profile::open(text)
    {
        assert_eq!(profile.schema, 1, "an unknown schema was accepted");
    }
}

pub(super) fn phrase(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(phrase) = Phrase::parse(text)
    {
        let again = Phrase::parse(&phrase.words());
        assert!(again.is_ok_and(|again| *again.entropy() == *phrase.entropy()));
    }
}

pub(super) fn amount(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(amount) = text.parse::<Open>()
    {
        assert_eq!(amount.to_string().parse(), Ok(amount), "an amount reads back differently");
    }
}

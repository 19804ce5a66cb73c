//! Every message type of the wire, with what the tests need to treat all of them alike.

use std::fmt::Debug;

use openledger_wire::call::{CallRequest, CallResponse, Prompt};
use openledger_wire::gossip::{Announcement, GossipedHead, GossipedProof, ProofAt};
use openledger_wire::identity::{Binding, Delegation, Registration, Revocation};
use openledger_wire::link::{ItemResult, LinkPush, LinkRequest, LinkResponse};
use openledger_wire::log::{BeaconProof, Entry, Line, ReasonCode, Role, Verdict};
use openledger_wire::proof::{
    Commit, FetchOutput, InferOutput, Proof, ProofBody, RefineOutput, ServeOutput, TrainOutput,
    ValidateOutput,
};
use openledger_wire::task::{
    Campaign, FetchTask, InferTask, RefineTask, ServeTask, TaskSpec, TrainTask, ValidateTask,
};
use openledger_wire::worker::{InferRequest, InferResponse, WorkerRequest, WorkerResponse};
use openledger_wire::{DecodeError, Envelope, Signable, decode, eip712, encode, limits, merkle};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::draw;

/// A value in both of its encodings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) json: String,
    pub(crate) cbor: Vec<u8>,
}

/// What every message type is.
pub(crate) trait Message: Serialize + DeserializeOwned + PartialEq + Debug {}
impl<T: Serialize + DeserializeOwned + PartialEq + Debug> Message for T {}

/// A message type.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Bound of its encoding in bytes.
    pub(crate) max: usize,
    draw: fn(u64, usize) -> Option<Sample>,
    again: fn(&[u8], usize) -> Result<Vec<u8>, DecodeError>,
    from_json: fn(&str) -> Option<Sample>,
}

impl Kind {
    fn of<T: Message>(name: &'static str, max: usize) -> Self {
        Self {
            name,
            max,
            draw: |seed, variant| match draw::draw_variant::<T>(seed, variant) {
                // Types without variants take any number; one is enough.
                Some(value) => Some(sample(&value)),
                None => (variant == 0).then(|| sample(&draw::draw::<T>(seed))),
            },
            again: |bytes, max| decode::<T>(bytes, max).map(|value| encode(&value).unwrap()),
            from_json: |json| serde_json::from_str::<T>(json).ok().map(|value| sample(&value)),
        }
    }

    /// A value drawn from a seed, of one variant where there are several.
    pub(crate) fn draw(&self, seed: u64, variant: usize) -> Option<Sample> {
        (self.draw)(seed, variant)
    }

    /// How many variants there are; 1 for what is no enum.
    pub(crate) fn variants(&self) -> usize {
        let one = self.draw(1, usize::MAX / 2).is_some();
        if one { 1 } else { (1..).find(|n| self.draw(1, *n).is_none()).unwrap() }
    }

    /// A value from its JSON, if it is one of this type.
    pub(crate) fn read_json(&self, json: &str) -> Option<Sample> {
        (self.from_json)(json)
    }

    /// Decodes, and encodes what came out.
    pub(crate) fn again(&self, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        (self.again)(bytes, self.max)
    }
}

/// Encodes a value both ways, and checks that both ways lead back to it.
pub(crate) fn sample<T: Message>(value: &T) -> Sample {
    let cbor = encode(value).unwrap();
    assert_eq!(&decode::<T>(&cbor, cbor.len()).unwrap(), value);
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
    Sample { json, cbor }
}

/// All message types, in the order of the crate's modules.
pub(crate) fn all() -> Vec<Kind> {
    let task = limits::TASK_BODY_MAX;
    let output = limits::PROOF_BODY_MAX;
    let mut kinds = identity_and_gossip();
    kinds.extend([
        Kind::of::<Campaign>("Campaign", 4 * 1024),
        Kind::of::<TaskSpec>("TaskSpec", task + 1_024),
        Kind::of::<FetchTask>("FetchTask", task),
        Kind::of::<RefineTask>("RefineTask", task),
        Kind::of::<InferTask>("InferTask", task),
        Kind::of::<ValidateTask>("ValidateTask", task),
        Kind::of::<TrainTask>("TrainTask", task),
        Kind::of::<ServeTask>("ServeTask", task),
        Kind::of::<Commit>("Commit", Commit::BYTES_MAX),
        Kind::of::<ProofBody>("ProofBody", output + 128),
        Kind::of::<Proof>("Proof", Proof::BYTES_MAX),
        Kind::of::<FetchOutput>("FetchOutput", output),
        Kind::of::<RefineOutput>("RefineOutput", output),
        Kind::of::<InferOutput>("InferOutput", output),
        Kind::of::<ValidateOutput>("ValidateOutput", output),
        Kind::of::<TrainOutput>("TrainOutput", output),
        Kind::of::<ServeOutput>("ServeOutput", output),
        Kind::of::<Role>("Role", 64),
        Kind::of::<Verdict>("Verdict", 64),
        Kind::of::<ReasonCode>("ReasonCode", 64),
        Kind::of::<BeaconProof>("BeaconProof", 256),
        Kind::of::<ItemResult>("ItemResult", 1_024),
        Kind::of::<Line>("Line", limits::LINE_MAX),
        Kind::of::<Entry>("Entry", limits::LINE_MAX),
        Kind::of::<LinkRequest>("LinkRequest", limits::LINK_MAX),
        Kind::of::<LinkResponse>("LinkResponse", limits::LINK_MAX),
        Kind::of::<LinkPush>("LinkPush", limits::LINK_MAX),
        Kind::of::<Prompt>("Prompt", limits::PROMPT_MAX),
        Kind::of::<CallRequest>("CallRequest", limits::CALL_MAX),
        Kind::of::<CallResponse>("CallResponse", limits::CALL_ANSWER_MAX),
        Kind::of::<InferRequest>("InferRequest", limits::WORKER_MAX),
        Kind::of::<InferResponse>("InferResponse", limits::WORKER_MAX),
        Kind::of::<WorkerRequest>("WorkerRequest", limits::WORKER_MAX),
        Kind::of::<WorkerResponse>("WorkerResponse", limits::WORKER_MAX),
    ]);
    kinds
}

fn identity_and_gossip() -> Vec<Kind> {
    vec![
        Kind::of::<Envelope>("Envelope", limits::ENVELOPE_MAX + 512),
        Kind::of::<Delegation>("Delegation", Delegation::BYTES_MAX),
        Kind::of::<Revocation>("Revocation", Revocation::BYTES_MAX),
        Kind::of::<Registration>("Registration", Registration::BYTES_MAX),
        Kind::of::<Binding>("Binding", Binding::BYTES_MAX),
        Kind::of::<Announcement>("Announcement", Announcement::BYTES_MAX),
        Kind::of::<ProofAt>("ProofAt", ProofAt::BYTES_MAX),
        Kind::of::<GossipedProof>("GossipedProof", limits::GOSSIP_MAX),
        Kind::of::<GossipedHead>("GossipedHead", limits::GOSSIP_MAX),
        Kind::of::<eip712::Domain>("Domain", 128),
        Kind::of::<eip712::SignedHead>("SignedHead", 256),
        Kind::of::<eip712::ReceiptBatch>("ReceiptBatch", 512),
        Kind::of::<eip712::VerdictBatch>("VerdictBatch", 512),
        Kind::of::<eip712::PayoutBinding>("PayoutBinding", 512),
        Kind::of::<eip712::Voucher>("Voucher", 512),
        Kind::of::<merkle::Path>("Path", 2 * 1024),
    ]
}

/// The message type of a name.
pub(crate) fn named(name: &str) -> Kind {
    all().into_iter().find(|kind| kind.name == name).unwrap_or_else(|| panic!("no type {name}"))
}

//! The shared vectors of the settlement formats, as far as this crate encodes them.

use std::fmt::Debug;
use std::str::FromStr;

use openledger_contracts::Post;
use openledger_wire::{Epoch, Height, Keccak, LogHead, Open, RuleSetId};
use serde_json::Value;

fn id<T: FromStr<Err: Debug>>(fields: &Value, name: &str) -> T {
    fields[name].as_str().unwrap().parse().unwrap()
}

fn amount(fields: &Value, name: &str) -> Open {
    Open(fields[name].as_str().unwrap().parse().unwrap())
}

#[test]
fn a_post_has_the_hash_that_the_contract_keeps() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/settlement.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let fields = &vectors["post"];
    let number = |name: &str| fields[name].as_u64().unwrap();
    let post = Post {
        epoch: Epoch(number("epoch")),
        root: id(fields, "root"),
        total: amount(fields, "total"),
        size: number("size"),
        proofs_root: id(fields, "proofsRoot"),
        call_receipts_root: id(fields, "callReceiptsRoot"),
        attribution_root: id(fields, "attributionRoot"),
        data_commitment: id(fields, "dataCommitment"),
        data_size: number("dataSize"),
        log_head: id::<LogHead>(fields, "logHead"),
        log_height: Height(number("logHeight")),
        rule_set: id::<RuleSetId>(fields, "ruleSet"),
        unbound: amount(fields, "unbound"),
    };
    assert_eq!(post.hash(), id::<Keccak>(fields, "hash"));
}

//! The vectors that contracts, rules and wire share: the same bytes on every side.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;

use openledger_rules::sumtree::{SumProof, SumTree, leaf};
use openledger_wire::eip712::{
    Domain, PayoutBinding, ReceiptBatch, SignedHead, Typed, VerdictBatch, Voucher,
};
use openledger_wire::merkle::{self, Path};
use openledger_wire::{
    Epoch, EvmAddress, EvmSignature, Height, Keccak, List, Open, ProofId, SettlementKey,
};
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/vectors/settlement.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(vectors["format"], 1, "this test reads layout 1");
    vectors
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn id<T: FromStr<Err: Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

fn open(value: &Value) -> Open {
    Open(value.as_str().unwrap().parse().unwrap())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn small(value: &Value) -> u32 {
    number(value).try_into().unwrap()
}

fn tree(vector: &Value) -> SumTree {
    let earners = list(&vector["earners"]).iter().map(id::<EvmAddress>);
    let amounts = list(&vector["cumulatives"]).iter().map(open);
    SumTree::build(earners.zip(amounts).collect::<BTreeMap<_, _>>()).unwrap()
}

#[test]
fn sum_trees_and_their_proofs_agree() {
    let vectors = vectors();
    let trees = list(&vectors["sumTrees"]);
    assert!(trees.len() >= 5);
    for vector in trees {
        let (name, tree) = (&vector["name"], tree(vector));
        let (root, total) = (tree.root(), tree.total());
        assert_eq!(root, id(&vector["root"]), "{name}");
        assert_eq!(total, open(&vector["total"]), "{name}");
        assert_eq!(tree.size(), number(&vector["size"]), "{name}");
        for proof in list(&vector["proofs"]) {
            let (earner, cumulative) = (id(&proof["earner"]), open(&proof["cumulative"]));
            assert_eq!(leaf(&earner, cumulative), id(&proof["leaf"]), "{name}");
            let hashes = list(&proof["siblingHashes"]).iter().map(id::<Keccak>);
            let sums = list(&proof["siblingSums"]).iter().map(open);
            let index = number(&proof["index"]);
            let expected =
                SumProof { index, size: tree.size(), siblings: hashes.zip(sums).collect() };
            assert!(expected.verify(&root, total, &earner, cumulative), "{name} {index}");
            assert_eq!(tree.proof(&earner), Some(expected), "{name} {index}");
        }
    }
}

#[test]
fn the_post_names_its_tree() {
    let vectors = vectors();
    let post = &vectors["post"];
    let named = list(&vectors["sumTrees"]).iter().find(|tree| tree["name"] == post["tree"]);
    let tree = tree(named.unwrap());
    assert_eq!(tree.root(), id(&post["root"]));
    assert_eq!(tree.total(), open(&post["total"]));
    assert_eq!(tree.size(), number(&post["size"]));
}

/// Leaves, root and proofs of a plain tree.
fn check_plain(vector: &Value, leaves: &[Keccak]) {
    let name = &vector["name"];
    let expected: Vec<Keccak> = list(&vector["leaves"]).iter().map(id).collect();
    assert_eq!(leaves, expected, "{name}");
    let root: Keccak = id(&vector["root"]);
    assert_eq!(merkle::root(leaves), root, "{name}");
    for proof in list(&vector["proofs"]) {
        let siblings: Vec<Keccak> = list(&proof["siblingHashes"]).iter().map(id).collect();
        let (index, size) = (number(&proof["index"]), number(&vector["size"]));
        let path = Path { index, size, siblings: List::new(siblings).unwrap() };
        let at = usize::try_from(index).unwrap();
        assert_eq!(path.root_of(&leaves[at]), Some(root), "{name} {index}");
        assert_eq!(merkle::path(leaves, at), Some(path), "{name} {index}");
    }
}

#[test]
fn receipt_and_verdict_trees_agree() {
    let vectors = vectors();
    for vector in list(&vectors["receiptTrees"]) {
        let leaf = |row: &Value| {
            merkle::receipt_leaf(&id::<ProofId>(&row["proofId"]), Epoch(number(&row["countBy"])))
        };
        let leaves: Vec<Keccak> = list(&vector["receipts"]).iter().map(leaf).collect();
        check_plain(vector, &leaves);
    }
    for vector in list(&vectors["proofsTrees"]) {
        let leaf = |row: &Value| {
            let verdict = u8::try_from(number(&row["verdict"])).unwrap();
            let points = row["points"].as_str().unwrap().parse().unwrap();
            merkle::verdict_leaf(&id::<ProofId>(&row["proofId"]), verdict, points)
        };
        let leaves: Vec<Keccak> = list(&vector["rows"]).iter().map(leaf).collect();
        check_plain(vector, &leaves);
    }
}

#[test]
fn data_commitments_agree() {
    for vector in list(&vectors()["dataCommitments"]) {
        let size = number(&vector["dataSize"]);
        let data: Vec<u8> = (0..size).map(|i| ((31 * i + 7) % 251) as u8).collect();
        assert_eq!(merkle::data_commitment(&data), id(&vector["root"]), "{}", vector["name"]);
    }
}

/// Domain, digest, signer and signature of one message.
fn check_message<T: Typed>(vector: &Value, domain: &Domain, message: &T) {
    let kind = &vector["type"];
    assert_eq!(vector["typeString"], T::TYPE, "{kind}");
    assert_eq!(domain.contract, id(&vector["verifyingContract"]), "{kind}");
    assert_eq!(domain.separator(), id(&vector["domainSeparator"]), "{kind}");
    assert_eq!(message.digest(domain), id(&vector["digest"]), "{kind}");
    let signature: EvmSignature = id(&vector["signature"]);
    let signer: EvmAddress = id(&vector["signer"]);
    message.verify(domain, &signature, &signer).unwrap();
    assert!(message.verify(domain, &signature, &EvmAddress([1; 20])).is_err(), "{kind}");
    let secret: Keccak = id(&vector["privateKey"]);
    let key = SettlementKey::from_secret(&secret.0).unwrap();
    assert_eq!(key.address(), signer, "{kind}");
    assert_eq!(message.sign(domain, &key).unwrap(), signature, "{kind}");
}

#[test]
fn typed_messages_agree_in_digest_signer_and_signature() {
    let vectors = vectors();
    let of = &vectors["domain"];
    let domain =
        |contract: &str| Domain { chain_id: number(&of["chainId"]), contract: id(&of[contract]) };
    let (rewards, escrow) = (domain("rewards"), domain("escrow"));
    let mut seen = 0;
    for vector in list(&vectors["messages"]) {
        let m = &vector["message"];
        match vector["type"].as_str().unwrap() {
            "LogHead" => {
                let (network, height) = (id(&m["network"]), Height(number(&m["height"])));
                let head = SignedHead { network, height, head: id(&m["head"]) };
                check_message(vector, &rewards, &head);
            }
            "ReceiptBatch" => {
                let batch = ReceiptBatch {
                    network: id(&m["network"]),
                    log_head: id(&m["logHead"]),
                    log_height: Height(number(&m["logHeight"])),
                    root: id(&m["root"]),
                    size: small(&m["size"]),
                    count_by: Epoch(number(&m["countBy"])),
                };
                check_message(vector, &rewards, &batch);
            }
            "VerdictBatch" => {
                let batch = VerdictBatch {
                    network: id(&m["network"]),
                    epoch: Epoch(number(&m["epoch"])),
                    number: number(&m["number"]),
                    root: id(&m["root"]),
                    size: small(&m["size"]),
                };
                check_message(vector, &rewards, &batch);
            }
            "PayoutBinding" => {
                let binding = PayoutBinding {
                    network: id(&m["network"]),
                    account: id(&m["account"]),
                    payout: id(&m["payout"]),
                    nonce: number(&m["nonce"]),
                };
                check_message(vector, &rewards, &binding);
            }
            "Voucher" => {
                let voucher = Voucher {
                    payer: id(&m["payer"]),
                    payee: id(&m["payee"]),
                    model: id(&m["model"]),
                    value_aggregate: open(&m["valueAggregate"]),
                    receipts_root: id(&m["receiptsRoot"]),
                };
                check_message(vector, &escrow, &voucher);
            }
            other => panic!("a vector of an unknown type {other}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 5);
}

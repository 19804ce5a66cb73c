// Writes settlement.json: the shared test vectors of the settlement formats.
//
// Deliberately written apart from the contracts and from the Rust crates, straight
// from the format's text (README.md beside this file), so that all three can be
// compared. It only borrows keccak-256 and secp256k1 from the noble libraries that
// contracts/solidity/package.json pins.
//
//   node make.mjs           write settlement.json
//   node make.mjs --check   fail when the committed file differs

import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";

const require = createRequire(new URL("../solidity/package.json", import.meta.url));
const { keccak_256 } = require("@noble/hashes/sha3");
const { secp256k1 } = require("@noble/curves/secp256k1");

const target = new URL("settlement.json", import.meta.url);
const CHUNK_BYTES = 8192;
const U128_MAX = (1n << 128n) - 1n;
const ZERO_ADDRESS = "0x" + "00".repeat(20);
const LAST_ADDRESS = "0x" + "ff".repeat(20);

const concat = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)));
const hex = (bytes) => "0x" + Buffer.from(bytes).toString("hex");
const bytes = (text) => Buffer.from(text.slice(2), "hex");
const ascii = (text) => Buffer.from(text, "ascii");
const keccak = (...parts) => Buffer.from(keccak_256(concat(...parts)));
const be = (value, width) => {
  const digits = BigInt(value).toString(16).padStart(2 * width, "0");
  if (digits.length > 2 * width) throw new Error(`${value} does not fit ${width} bytes`);
  return Buffer.from(digits, "hex");
};
const word = (value) => be(value, 32);
const label = (name, number) => keccak(ascii(name), be(number, 8));

// ---------------------------------------------------------------- sum trees

const sumLeaf = ({ earner, cumulative }) => ({
  hash: keccak([0], bytes(earner), be(cumulative, 16)),
  sum: cumulative,
});

const sumInner = (left, right) => {
  const sum = left.sum + right.sum;
  if (sum > U128_MAX) throw new Error("the sum does not fit 128 bits");
  return { hash: keccak([1], left.hash, be(left.sum, 16), right.hash, be(right.sum, 16)), sum };
};

/// All levels of a tree, leaves first; an odd last node moves up unchanged.
const levelsOf = (leaves, inner) => {
  const levels = [leaves];
  for (let level = leaves; level.length > 1; levels.push(level)) {
    const next = [];
    for (let i = 0; i + 1 < level.length; i += 2) next.push(inner(level[i], level[i + 1]));
    if (level.length % 2 === 1) next.push(level[level.length - 1]);
    level = next;
  }
  return levels;
};

/// The siblings of a leaf, bottom up; a promoted node has none.
const siblingsOf = (levels, index) => {
  const siblings = [];
  for (const level of levels.slice(0, -1)) {
    const sibling = index ^ 1;
    if (sibling < level.length) siblings.push(level[sibling]);
    index >>= 1;
  }
  return siblings;
};

const sumTree = (name, entries, indexes) => {
  const leaves = [{ earner: ZERO_ADDRESS, cumulative: 0n }, ...entries, { earner: LAST_ADDRESS, cumulative: 0n }];
  const levels = levelsOf(leaves.map(sumLeaf), sumInner);
  const top = levels[levels.length - 1][0];
  return {
    name,
    earners: entries.map((entry) => entry.earner),
    cumulatives: entries.map((entry) => entry.cumulative.toString()),
    size: leaves.length,
    total: top.sum.toString(),
    top: hex(top.hash),
    root: hex(keccak([2], top.hash, be(top.sum, 16), be(leaves.length, 8))),
    proofs: (indexes ?? leaves.map((_, index) => index)).map((index) => {
      const siblings = siblingsOf(levels, index);
      return {
        index,
        earner: leaves[index].earner,
        cumulative: leaves[index].cumulative.toString(),
        leaf: hex(sumLeaf(leaves[index]).hash),
        siblingHashes: siblings.map((sibling) => hex(sibling.hash)),
        siblingSums: siblings.map((sibling) => sibling.sum.toString()),
      };
    }),
  };
};

const entriesOf = (count) =>
  Array.from({ length: count }, (_, i) => ({
    earner: hex(label("earner", i).subarray(12)),
    // Every seventh account has earned nothing yet; the others up to 2^80.
    cumulative: i % 7 === 6 ? 0n : BigInt(hex(label("cumulative", i).subarray(22))),
  })).sort((a, b) => (a.earner < b.earner ? -1 : 1));

const sumTrees = [
  sumTree("earners-0", entriesOf(0)),
  sumTree("earners-1", entriesOf(1)),
  sumTree("earners-2", entriesOf(2)),
  sumTree("earners-3", entriesOf(3)),
  sumTree("earners-7", entriesOf(7)),
  sumTree("earners-8", entriesOf(8)),
  sumTree("earners-100", entriesOf(100), [0, 1, 2, 50, 63, 64, 95, 96, 99, 100, 101]),
  sumTree("largest-amount", [{ earner: entriesOf(1)[0].earner, cumulative: U128_MAX }]),
];

// -------------------------------------------------------------- plain trees

const plainTree = (leaves) => {
  const levels = levelsOf(leaves, (left, right) => keccak([1], left, right));
  const top = leaves.length === 0 ? Buffer.alloc(32) : levels[levels.length - 1][0];
  return {
    size: leaves.length,
    leaves: leaves.map(hex),
    root: hex(keccak([2], top, be(leaves.length, 8))),
    proofs: leaves.map((_, index) => ({ index, siblingHashes: siblingsOf(levels, index).map(hex) })),
  };
};

const receiptTrees = [0, 1, 2, 3, 5, 6].map((count) => {
  const receipts = Array.from({ length: count }, (_, i) => ({ proofId: hex(label("proof", i)), countBy: 40 + i }));
  const leaves = receipts.map(({ proofId, countBy }) => keccak([0], bytes(proofId), be(countBy, 8)));
  return { name: `receipts-${count}`, receipts, ...plainTree(leaves) };
});

const proofsTrees = [0, 1, 4, 7].map((count) => {
  const rows = Array.from({ length: count }, (_, i) => ({
    proofId: hex(label("proof", i)),
    verdict: 1 + (i % 3),
    points: String(i % 3 === 0 ? 1000 * (i + 1) : 0),
  })).sort((a, b) => (a.proofId < b.proofId ? -1 : 1));
  const leaves = rows.map(({ proofId, verdict, points }) => keccak([0], bytes(proofId), [verdict], be(points, 8)));
  return { name: `proofs-${count}`, rows, ...plainTree(leaves) };
});

/// Data of the vectors: byte i is (31 i + 7) mod 251.
const dataCommitments = [0, 1, 8191, 8192, 8193, 20000, 5 * CHUNK_BYTES].map((dataSize) => {
  const data = Buffer.from(Array.from({ length: dataSize }, (_, i) => (31 * i + 7) % 251));
  const leaves = [];
  for (let at = 0; at < data.length; at += CHUNK_BYTES)
    leaves.push(keccak([0], be(leaves.length, 8), data.subarray(at, at + CHUNK_BYTES)));
  return { name: `data-${dataSize}`, dataSize, ...plainTree(leaves) };
});

// ------------------------------------------------------------------ EIP-712

const chainId = 31337;
const rewards = hex(label("rewards contract", 0).subarray(12));
const escrow = hex(label("escrow contract", 0).subarray(12));

const domainSeparator = (verifyingContract) =>
  keccak(
    keccak(ascii("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")),
    keccak(ascii("OpenLedger")),
    keccak(ascii("1")),
    word(chainId),
    word(verifyingContract),
  );

const addressOf = (key) => hex(keccak(secp256k1.getPublicKey(key, false).subarray(1)).subarray(12));

/// One signed message; `fields` are [type, name, value], all of static types.
const signed = (type, verifyingContract, number, fields) => {
  const typeString = `${type}(${fields.map(([kind, name]) => `${kind} ${name}`).join(",")})`;
  const structHash = keccak(keccak(ascii(typeString)), ...fields.map(([, , value]) => word(value)));
  const separator = domainSeparator(verifyingContract);
  const digest = keccak([0x19, 0x01], separator, structHash);
  const key = label("signing key", number);
  const signature = secp256k1.sign(digest, key, { lowS: true });
  return {
    type,
    typeString,
    verifyingContract,
    domainSeparator: hex(separator),
    message: Object.fromEntries(fields.map(([, name, value]) => [name, value])),
    structHash: hex(structHash),
    digest: hex(digest),
    privateKey: hex(key),
    signer: addressOf(key),
    signature: hex(concat(signature.toCompactRawBytes(), [27 + signature.recovery])),
  };
};

const network = hex(label("network", 0));
const messages = [
  signed("LogHead", rewards, 0, [
    ["bytes32", "network", network],
    ["uint64", "height", 123456],
    ["bytes32", "head", hex(label("log head", 0))],
  ]),
  signed("ReceiptBatch", rewards, 1, [
    ["bytes32", "network", network],
    ["bytes32", "logHead", hex(label("log head", 0))],
    ["uint64", "logHeight", 123456],
    ["bytes32", "root", receiptTrees[5].root],
    ["uint32", "size", 6],
    ["uint64", "countBy", 45],
  ]),
  signed("VerdictBatch", rewards, 2, [
    ["bytes32", "network", network],
    ["uint64", "epoch", 45],
    ["uint64", "number", 7],
    ["bytes32", "root", proofsTrees[3].root],
    ["uint32", "size", 7],
  ]),
  signed("PayoutBinding", rewards, 3, [
    ["bytes32", "network", network],
    ["bytes32", "account", hex(label("account", 0))],
    ["address", "payout", hex(label("earner", 0).subarray(12))],
    ["uint64", "nonce", 1],
  ]),
  signed("Voucher", escrow, 4, [
    ["address", "payer", hex(label("payer", 0).subarray(12))],
    ["address", "payee", hex(label("payee", 0).subarray(12))],
    ["bytes32", "model", hex(label("model", 0))],
    ["uint128", "valueAggregate", "123456789000000000000000001"],
    ["bytes32", "receiptsRoot", receiptTrees[3].root],
  ]),
];

// --------------------------------------------------------------------- post

const tree = sumTrees[5];
const postFields = [
  ["epoch", 45],
  ["root", tree.root],
  ["total", tree.total],
  ["size", tree.size],
  ["proofsRoot", proofsTrees[3].root],
  ["callReceiptsRoot", receiptTrees[3].root],
  ["attributionRoot", receiptTrees[0].root],
  ["dataCommitment", dataCommitments[5].root],
  ["dataSize", dataCommitments[5].dataSize],
  ["logHead", hex(label("log head", 0))],
  ["logHeight", 123456],
  ["ruleSet", hex(label("rule set", 0))],
  ["unbound", "1000000000000000000"],
];
const post = {
  ...Object.fromEntries(postFields),
  tree: tree.name,
  hash: hex(keccak(...postFields.map(([, value]) => word(value)))),
};

const text =
  JSON.stringify({ format: 1, domain: { name: "OpenLedger", version: "1", chainId, rewards, escrow }, sumTrees, receiptTrees, proofsTrees, dataCommitments, messages, post }, null, 1) + "\n";

if (process.argv.includes("--check")) {
  if (readFileSync(target, "utf8") !== text) {
    console.error("settlement.json differs from what make.mjs writes: run `node make.mjs` and review the change");
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
}

// Keeps contracts/artifacts: the ABI and creation bytecode of what the Rust crate
// deploys, so that building it needs no Solidity tool chain. soljson is
// deterministic and the build carries no metadata, so a fresh build gives the
// same bytes.
//
//   node artifacts.mjs           write them from out/ (after `forge build`)
//   node artifacts.mjs --check   fail when a committed one differs

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const contracts = ["OpenToken", "EpochRewards", "CallEscrow"];
const here = (path) => new URL(path, import.meta.url);
const check = process.argv.includes("--check");

mkdirSync(here("../artifacts/"), { recursive: true });
for (const name of contracts) {
  const built = JSON.parse(readFileSync(here(`out/${name}.sol/${name}.json`), "utf8"));
  const entries = built.abi.map((entry) => "    " + JSON.stringify(entry)).join(",\n");
  const text = `{\n  "contract": "${name}",\n  "abi": [\n${entries}\n  ],\n  "bytecode": "${built.bytecode.object}"\n}\n`;
  const target = here(`../artifacts/${name}.json`);
  if (!check) {
    writeFileSync(target, text);
  } else if (readFileSync(target, "utf8") !== text) {
    console.error(`artifacts/${name}.json differs from a fresh build: run \`node artifacts.mjs\` and commit it`);
    process.exit(1);
  }
}

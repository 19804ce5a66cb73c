#!/usr/bin/env node
// The compiler that foundry.toml names: npm's soljson (wasm) behind the two
// command-line modes that forge uses. No native solc is needed, nothing is fetched.
"use strict";
const solc = require("solc");

// Foundry reads the version from the last line, "Version: x.y.z+commit...".
if (process.argv.includes("--version")) {
  process.stdout.write(`solc, the solidity compiler\nVersion: ${solc.version()}\n`);
} else if (process.argv.includes("--standard-json")) {
  const chunks = [];
  process.stdin.on("data", (chunk) => chunks.push(chunk));
  process.stdin.on("end", () => {
    // forge puts every source into the input, so imports need no callback.
    process.stdout.write(solc.compile(Buffer.concat(chunks).toString("utf8")));
  });
} else {
  process.stderr.write("solc-wrap: only --version and --standard-json are supported\n");
  process.exitCode = 2;
}

#!/bin/sh
# Everything that must hold of the contracts. Only `npm ci` touches the network, and
# not even that when npm's cache holds the packages; OPENLEDGER_OFFLINE=1 skips it
# when node_modules is already there.
set -eu
cd "$(dirname "$0")"

if [ "${OPENLEDGER_OFFLINE:-0}" != 1 ] || [ ! -d node_modules ]; then
    npm ci --prefer-offline --no-audit --no-fund --ignore-scripts
fi

# The native binary itself: npm's launcher costs a second per call.
forge=node_modules/@foundry-rs/forge-linux-amd64/bin/forge
if [ ! -x "$forge" ]; then
    echo "ci.sh: $forge is missing: run 'npm ci' in contracts/solidity (x86-64 Linux)" >&2
    exit 1
fi

"$forge" fmt --check
node ../vectors/make.mjs --check
# Built anew, so that the artifacts are compared with what these sources give.
rm -rf out cache
"$forge" build --deny warnings
node artifacts.mjs --check
"$forge" test
"$forge" snapshot --check --match-contract GasTest

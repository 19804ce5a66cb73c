#!/bin/sh
# Sets up what building and testing need on a Debian machine that has Rust and Node.js: system
# packages by name, npm packages by lock file, the build folder. Says each step before it does it,
# and does nothing twice. Sourced by devnet.sh and test.sh.
#
# Sets CARGO_TARGET_DIR and OPENLEDGER_ANVIL.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cache=${OPENLEDGER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/openledger}
mkdir -p "$cache"

# Standard output may be a program's JSON: people are spoken to on standard error.
say() { printf '%s\n' "$*" >&2; }
fail() {
    say "openledger: $*"
    exit 1
}

# System packages: a C compiler for crates with C in them, the documentation that the devnet serves.
setup_packages() {
    wanted=""
    for package in build-essential ca-certificates postgresql-doc debian-policy python3-doc; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            wanted="$wanted $package"
    done
    [ -n "$wanted" ] || return 0
    say "openledger: installing system packages:$wanted"
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null; then
        as_root=sudo
    else
        fail "these packages are missing:$wanted; install them as root: apt-get install$wanted"
    fi
    # shellcheck disable=SC2086  # a list of names
    {
        DEBIAN_FRONTEND=noninteractive $as_root apt-get update -qq >&2 &&
            DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $wanted >&2
    } || fail "apt-get could not install:$wanted; see its words above"
}

setup_rust() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.95 (https://rustup.rs) and run this again"
    command -v rustc >/dev/null || fail "rustc is missing: install Rust 1.95 (https://rustup.rs) and run this again"
    toolchain=$(cd "$root" && rustc -vV | cksum | cut -d' ' -f1)
    # What is locked of others: our own crates may change among themselves without a new folder.
    lock=$(grep '^checksum' "$root/Cargo.lock" | cksum | cut -d' ' -f1)
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target/$toolchain-$lock}
    export CARGO_TARGET_DIR
    mkdir -p "$CARGO_TARGET_DIR"
}

# Foundry, the Solidity compiler and OpenZeppelin, by lock file, shared between clones.
setup_node() {
    command -v npm >/dev/null || fail "npm is missing: install Node.js 20 or later and run this again"
    solidity=$root/contracts/solidity
    key=$(cksum <"$solidity/package-lock.json" | cut -d' ' -f1)
    modules=$cache/npm/$key
    if [ ! -f "$modules/.complete" ]; then
        say "openledger: installing Foundry and the Solidity compiler from npm, by lock file (190 MB)"
        rm -rf "$modules"
        mkdir -p "$modules"
        cp "$solidity/package.json" "$solidity/package-lock.json" "$modules/"
        (cd "$modules" && npm ci --prefer-offline --no-audit --no-fund --ignore-scripts >&2) ||
            fail "npm ci failed; see its words above"
        : >"$modules/.complete"
    fi
    if [ ! -e "$solidity/node_modules" ]; then
        ln -s "$modules/node_modules" "$solidity/node_modules"
    fi
    OPENLEDGER_ANVIL=$modules/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil
    export OPENLEDGER_ANVIL
}

setup_all() {
    setup_packages
    setup_rust
    setup_node
}

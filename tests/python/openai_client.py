"""What the published package `openai` does with a server of ours.

Run by `crates/mos-server/tests/it/openai.rs`, never by itself: `openai_client.py BASE_URL KEY`. The server has a scripted model
that answers "Max." to "What is my dog called?" when it was told so. Ends with 3 where the package is not installed.
"""

import base64
import struct
import sys
import time

# The exit code that says that nothing can be tried here.
NOT_INSTALLED = 3

try:
    import openai
except ImportError as error:
    print(f"{sys.executable}: {error}", file=sys.stderr)
    sys.exit(NOT_INSTALLED)

QUESTION = [{"role": "user", "content": "What is my dog called?"}]
OFF = {"X-Mos-Memory": "off"}
READ = {"X-Mos-Memory": "read"}


def main(base_url, key):
    strangers = openai.OpenAI(base_url=base_url, api_key="krlk_" + "0" * 64, max_retries=0, timeout=30)
    try:
        strangers.models.list()
        raise AssertionError("a key of nobody was let in")
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key", error
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=30)
    models(client)
    chat(client)
    stream(client)
    errors(client)
    embeddings(client)


def models(client):
    names = [model.id for model in client.models.list()]
    assert names[0] == "mos" and "scripted" in names, names
    assert client.models.retrieve("scripted").id == "scripted"


def chat(client):
    told = [{"role": "user", "content": "My dog is called Max and he is three years old"}]
    first = client.chat.completions.create(model="mos", user="ann", messages=told, metadata={"session_id": "monday"})
    assert first.choices[0].finish_reason == "stop", first
    assert first.id.startswith("chatcmpl-") and first.usage.total_tokens > 0, first
    assert first.usage.prompt_tokens_details.cached_tokens == 0, first
    # A turn is remembered off the path of its answer.
    for _ in range(100):
        second = client.chat.completions.create(model="mos", user="ann", messages=QUESTION, extra_headers=READ)
        if second.choices[0].message.content == "Max.":
            break
        time.sleep(0.05)
    assert second.choices[0].message.content == "Max.", second
    recalled = second.model_extra["mos"]["memories"]
    assert any("My dog is called Max" in memory["memory"] for memory in recalled), recalled
    plain = client.chat.completions.create(model="scripted", messages=QUESTION, extra_headers=OFF)
    assert plain.choices[0].message.content == "I do not know.", plain


def stream(client):
    chunks = list(
        client.chat.completions.create(
            model="mos",
            user="ann",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=READ,
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "Max.", chunks
    assert chunks[0].model_extra["mos"]["memories"], chunks[0]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == "stop" and not any(reasons[:-1]), reasons


def errors(client):
    try:
        client.chat.completions.create(model="huge", user="ann", messages=QUESTION)
        raise AssertionError("a model that is not there was found")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found" and error.param == "model", error
    try:
        client.chat.completions.create(model="mos", user="ann", messages=QUESTION, n=2)
        raise AssertionError("two answers were given")
    except openai.BadRequestError as error:
        assert error.param == "n", error


def embeddings(client):
    texts = ["green tea", "a dog"]
    # The package asks for base64 unless it is told otherwise, and unpacks it.
    packed = client.embeddings.create(model="mos", input=texts)
    plain = client.embeddings.create(model="mos", input=texts, encoding_format="float")
    assert len(packed.data) == 2 and packed.usage.total_tokens > 0, packed
    for left, right in zip(packed.data, plain.data):
        assert len(left.embedding) == 64
        assert max(abs(a - b) for a, b in zip(left.embedding, right.embedding)) < 1e-6
    raw = client.post("/embeddings", cast_to=object, body={"model": "mos", "input": "a dog", "encoding_format": "base64"})
    unpacked = struct.unpack("<64f", base64.b64decode(raw["data"][0]["embedding"]))
    assert abs(sum(value * value for value in unpacked) - 1) < 1e-5, "a vector has the length 1"


main(*sys.argv[1:])

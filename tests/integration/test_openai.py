"""OpenAI's API: its own client, LangChain's, and plain HTTP, against a live server and a fake GPU behind it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from functions.query import condensing, streaming
from functions.query.app import create_app
from shared.adapters.generator import waiting
from shared.client import Ragzero
from tests.fakes.gpu_server import FakeGpu
from tests.support.access import bearer
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.waiting import PATIENCE_S, PATIENT, until

MODEL = "ragzero/default"
QUESTION = "How much does the harbour crane of Nordhaven lift?"
TEXTS = {
    "crane.txt": "The harbour crane of Nordhaven lifts forty tonnes. It was built in 1958 by Ada Lindqvist.",
    "ferry.txt": "The ferry to Wetmoor was built in 1931. It carries ninety people.",
}
REPLY = "The harbour crane lifts forty tonnes [1]."
USER = [{"role": "user", "content": QUESTION}]


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as server:
        server.reply(REPLY)
        yield server


@pytest.fixture(scope="module")
def filled(shared_installation: Installation) -> Installation:
    for name, text in TEXTS.items():
        shared_installation.put(name, text)
    shared_installation.deliver()
    return shared_installation


@pytest.fixture
def make_url(filled: Installation) -> Iterator[Callable[..., str]]:
    with ExitStack() as stack:

        def make(**settings: Any) -> str:
            app = create_app(filled.query_settings(**settings), filled.embedder)
            return stack.enter_context(serving(app))

        yield make


def with_model(gpu: FakeGpu) -> dict[str, Any]:
    known = {"generator_url": gpu.url, "generator_api_key": gpu.key, "generator_model": gpu.model}
    return known | {"semantic_similarity": 1.01}


@pytest.fixture
def url(make_url: Callable[..., str], gpu: FakeGpu) -> str:
    return make_url(**with_model(gpu))


@pytest.fixture
def client(url: str, filled: Installation) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=filled.api_key, max_retries=0) as client:
        yield client


@pytest.fixture
def quoting(make_url: Callable[..., str], filled: Installation) -> Iterator[openai.OpenAI]:
    """Without a model behind it."""
    with openai.OpenAI(base_url=f"{make_url()}/v1", api_key=filled.api_key, max_retries=0) as client:
        yield client


# The client of OpenAI.


def test_a_chat_is_answered_from_the_documents(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=USER, temperature=0.7, max_tokens=100)
    assert answer.choices[0].message.content == f"{REPLY}\n\nSources:\n[1] crane.txt"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == MODEL
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    grounds = answer.model_extra["ragzero"]
    assert grounds["citations"][0]["quote"] == "The harbour crane of Nordhaven lifts forty tonnes."
    assert grounds["sources"][0]["uri"].endswith("crane.txt")
    assert grounds["mode"] == "model"


def test_a_stream_says_the_same_piece_by_piece(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    *pieces, counted = chunks
    said = "".join([piece.choices[0].delta.content or "" for piece in pieces])
    assert said == f"{REPLY}\n\nSources:\n[1] crane.txt"
    assert pieces[0].choices[0].delta.role == "assistant"
    assert [piece.choices[0].finish_reason for piece in pieces[-2:]] == [None, "stop"]
    assert pieces[-1].model_extra["ragzero"]["citations"]
    assert counted.choices == []
    assert counted.usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_is_only_streamed_when_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=USER, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_without_a_model_the_answer_is_quotes(quoting: openai.OpenAI) -> None:
    whole = quoting.chat.completions.create(model=MODEL, messages=USER)
    assert "forty tonnes" in whole.choices[0].message.content
    assert whole.usage.total_tokens == 0
    stream = quoting.chat.completions.create(model=MODEL, messages=USER, stream=True)
    said = "".join([chunk.choices[0].delta.content or "" for chunk in stream])
    assert said == whole.choices[0].message.content


def test_what_an_answer_may_have_at_most_reaches_the_model_and_names_the_answer(
    client: openai.OpenAI, gpu: FakeGpu
) -> None:
    for most in (7, 7, 9, 10_000):
        client.chat.completions.create(model=MODEL, messages=USER, max_completion_tokens=most)
    asked = [one.body["max_tokens"] for one in gpu.requests if one.path.endswith("/chat/completions")]
    assert asked[-1] == 512
    assert {7, 9} <= set(asked)


def test_an_answer_that_was_cut_off_says_so(client: openai.OpenAI, gpu: FakeGpu) -> None:
    gpu.reply("The harbour crane of Nordhaven lifts forty tonnes " * 20)
    answer = client.chat.completions.create(model=MODEL, messages=USER, max_tokens=5)
    assert answer.choices[0].finish_reason == "length"


def test_heartbeats_while_a_model_wakes_break_no_client(
    client: openai.OpenAI, url: str, filled: Installation, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_HEARTBEAT_S", 0.05)
    gpu.cold_for(0.6, retry_after=None)
    stream = client.chat.completions.create(model=MODEL, messages=USER, stream=True)
    assert REPLY in "".join([chunk.choices[0].delta.content or "" for chunk in stream])
    gpu.cold_for(60, retry_after=None)

    def woken_when_waited_for(line: str) -> None:
        if line.startswith(": waking_gpu"):
            gpu.heal()

    lines = streamed(url, filled.api_key, woken_when_waited_for, ragzero={"cache": "bypass"})
    assert any(line.startswith(": waking_gpu") for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_the_models_are_the_collections_and_the_space(client: openai.OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert MODEL in listed
    for id in listed:
        assert client.models.retrieve(id).id == id
    for unknown in ("ragzero/nowhere", "gpt-4", "ragzero/", "ragzero/UP"):
        with pytest.raises(openai.NotFoundError) as refused:
            client.models.retrieve(unknown)
        assert refused.value.code == "model_not_found"


def space(client: openai.OpenAI) -> str:
    return next(model.id for model in client.models.list() if not model.id.startswith("ragzero/"))


def test_embeddings_are_those_of_the_index(client: openai.OpenAI, filled: Installation) -> None:
    texts = [f"Text number {number}." for number in range(20)]
    made = client.embeddings.create(model=space(client), input=texts)  # the client asks for base64
    vectors = np.array([one.embedding for one in made.data])
    assert np.allclose(vectors, filled.embedder.encode(texts), atol=1e-6)
    assert made.usage.prompt_tokens == sum(len(filled.embedder.offsets(text)) for text in texts)


def test_floats_and_base64_are_the_same_numbers(
    url: str, client: openai.OpenAI, filled: Installation
) -> None:
    ask = {"model": space(client), "input": "One text."}
    with httpx.Client(base_url=url, headers=bearer(filled.api_key), timeout=60) as http:
        answers = [
            http.post("/v1/embeddings", json=ask | {"encoding_format": form}).json()["data"][0]["embedding"]
            for form in ("float", "base64")
        ]
    assert np.array_equal(
        np.array(answers[0], np.float32), np.frombuffer(base64.b64decode(answers[1]), "<f4")
    )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"input": []}, "1 to 256"),
        ({"input": ["x"] * 257}, "257"),
        ({"input": [1, 2, 3]}, "tokens are another model's"),
        ({"input": [[1, 2], [3]]}, "tokens are another model's"),
        ({"input": "word " * 400}, "tokens, at most"),
        ({"input": [" "]}, "blank"),
        ({"dimensions": 7}, "dimensions"),
    ],
)
def test_texts_that_cannot_be_encoded_are_refused(
    client: openai.OpenAI, changed: dict[str, Any], named: str
) -> None:
    """Too long ones, too: nothing is cut off in silence."""
    with pytest.raises(openai.BadRequestError, match=named):
        client.embeddings.create(**{"model": space(client), "input": "x"} | changed)


# Errors.


def test_a_wrong_key_is_an_authentication_error(url: str) -> None:
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="sk-wrong") as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.chat.completions.create(model=MODEL, messages=USER)
    assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["ragzero/nowhere", "gpt-4", "ragzero/../x"])
def test_an_unknown_model_is_not_found_streamed_or_not(
    client: openai.OpenAI, model: str, stream: bool
) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model=model, messages=USER, stream=stream)
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools and functions are not"),
        ({"n": 2}, "n:"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"response_format": {"type": "json_object"}}, "answers are text"),
        ({"messages": []}, "messages"),
        ({"messages": [*USER, {"role": "assistant", "content": "x"}]}, "last message"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": " "}]}, "blank"),
        ({"messages": [{"role": "user", "content": "x" * 4001}]}, "4000"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
         "only text is understood here, not 'image_url'"),
        ({"extra_body": {"ragzero": {"tenant_id": "x"}}}, "tenant_id"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_a_bad_request(
    client: openai.OpenAI, changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=named) as refused:
        client.chat.completions.create(**{"model": MODEL, "messages": USER} | changed)
    assert refused.value.type == "invalid_request_error"


def test_fields_of_other_servers_are_ignored(quoting: openai.OpenAI) -> None:
    more = {"top_k": 40, "repetition_penalty": 1.1, "chat_id": "7", "keep_alive": "5m"}
    answer = quoting.chat.completions.create(
        model=MODEL, messages=USER, seed=7, user="u", tools=[], extra_body=more, stop=["x"]
    )
    assert "forty" in answer.choices[0].message.content


def test_a_rate_is_an_error_of_its_own_with_the_time_to_wait(
    make_url: Callable[..., str], filled: Installation
) -> None:
    url = make_url(key_rate=0.01, key_burst=1)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=filled.api_key, max_retries=0) as client:
        client.models.list()
        with pytest.raises(openai.RateLimitError) as refused:
            client.models.list()
    assert 50 <= int(refused.value.response.headers["retry-after"]) <= 100
    assert refused.value.code == "rate_limit_exceeded"


def test_a_key_without_the_scope_is_refused(url: str, filled: Installation) -> None:
    key = filled.add_key(filled.tenant, ["ingest"])
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        for call in (
            client.models.list,
            lambda: client.chat.completions.create(model=MODEL, messages=USER),
            lambda: client.embeddings.create(model="x", input="x"),
        ):
            with pytest.raises(openai.PermissionDeniedError):
                call()


def test_a_model_that_breaks_off_breaks_the_stream_with_an_error(client: openai.OpenAI, gpu: FakeGpu) -> None:
    gpu.cut_after(2)
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model=MODEL, messages=USER, stream=True))


def test_errors_before_any_route_have_the_shape_too(url: str, filled: Installation) -> None:
    """Too large, the wrong method, no JSON; elsewhere they are problem documents as ever."""
    with httpx.Client(base_url=url, headers=bearer(filled.api_key), timeout=60) as http:
        for answer, status in (
            (http.post("/v1/chat/completions", content=b"x" * 2**21), 413),
            (http.delete("/v1/models"), 405),
            (http.post("/v1/embeddings", content=b"{"), 400),
            (http.post("/v1/embeddings", headers={b"Idempotency-Key": "ü".encode()}), 400),  # type: ignore[arg-type]
        ):
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/json"
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        other = http.post("/v1/search", content=b"{")
    assert other.headers["content-type"] == "application/problem+json"


# Conversations.


def turns(*questions: str) -> list[dict[str, str]]:
    said: list[dict[str, str]] = [{"role": "system", "content": "You are a pirate."}]
    for question in questions:
        said += [{"role": "user", "content": question}, {"role": "assistant", "content": "Aye."}]
    return said[:-1]


def test_a_follow_up_is_told_what_it_is_about(quoting: openai.OpenAI) -> None:
    answer = quoting.chat.completions.create(model=MODEL, messages=turns(QUESTION, "When was it built?"))
    assert "1958" in answer.choices[0].message.content
    asked = answer.model_extra["ragzero"]["question"]
    assert asked == "When was it built? (harbour crane Nordhaven lift)"
    about_the_ferry = turns("How many people does the ferry carry?", "When was it built?")
    other = quoting.chat.completions.create(model=MODEL, messages=about_the_ferry)
    assert "1931" in other.choices[0].message.content


def test_a_question_of_ours_leans_on_earlier_ones_too(url: str, filled: Installation) -> None:
    """POST /v1/query with `earlier`: quotes without a model; a stream says what is asked; asked again, it is the same."""

    ferry, built = "How many people does the ferry carry?", "When was it built?"
    with Ragzero(url, filled.api_key) as rag:

        def condensed(question: str, earlier: str) -> list[str]:
            events = list(rag.stream(question, earlier=[earlier], generate=False))
            assert events[-1]["event"] == "done"
            return [one["data"]["question"] for one in events if one["data"].get("state") == "condensed"]

        assert condensed(built, QUESTION) == ["When was it built? (harbour crane Nordhaven lift)"]
        assert condensed(ferry, QUESTION) == []
        for earlier, year in ((QUESTION, "1958"), (ferry, "1931")) * 2:
            assert year in rag.ask(built, earlier=[earlier], generate=False)["answer"]


def test_a_model_rewrites_what_does_not_stand_alone_and_nothing_else(
    client: openai.OpenAI, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condensing, "_PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(waiting, "_WAKING_EVERY_S", PATIENCE_S)  # one that is late for it does not sleep

    def reply(messages: list[dict[str, str]]) -> str:
        rewrites = "rewrite" in messages[0]["content"]
        return '"When was the harbour crane built?"' if rewrites else "It was built in 1958 [1]."

    gpu.reply(reply)
    follow_up = client.chat.completions.create(model=MODEL, messages=turns(QUESTION, "When was it built?"))
    assert follow_up.model_extra["ragzero"]["question"] == "When was the harbour crane built?"
    gpu.requests.clear()
    alone = client.chat.completions.create(model=MODEL, messages=turns("Who runs the ferry?", QUESTION))
    assert alone.model_extra["ragzero"]["question"] == QUESTION
    written = [one.body["messages"][0]["content"] for one in gpu.requests if one.method == "POST"]
    assert not [rules for rules in written if "rewrite" in rules or "pirate" in rules]


def test_a_model_that_sleeps_rewrites_nothing(client: openai.OpenAI, gpu: FakeGpu) -> None:
    gpu.cold_for(60)
    answer = client.chat.completions.create(
        model=MODEL,
        messages=turns(QUESTION, "When was it built?"),
        extra_body={"ragzero": {"on_cold": "extractive"}},
    )
    assert answer.model_extra["ragzero"]["question"].endswith("(harbour crane Nordhaven lift)")
    assert "1958" in answer.choices[0].message.content


def test_the_condensed_question_names_the_answer(
    make_url: Callable[..., str], filled: Installation, redis_server: Any
) -> None:
    """One follow-up after two different questions has two answers; the same conversation again has the first one."""
    url = make_url(redis_url=f"redis://127.0.0.1:{redis_server.port}", **PATIENT)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=filled.api_key, max_retries=0) as client:

        def ask(*questions: str) -> dict[str, Any]:
            answer = client.chat.completions.create(model=MODEL, messages=turns(*questions))
            found: dict[str, Any] = answer.model_extra["ragzero"]
            return found

        until(lambda: ask("Who steers the tug?")["cached"] == "exact")  # Redis knows the epoch
        crane, ferry = (ask(one, "When was it built?") for one in (QUESTION, "Who steers the ferry?"))
        assert (crane["cached"], ferry["cached"]) == ("no", "no")
        assert ask(QUESTION, "When was it built?")["cached"] == "exact"


# Others.


def test_langchain_chats_unchanged(url: str, filled: Installation) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # heavy: a second to import

    chat = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key=filled.api_key, max_retries=0)
    said = chat.invoke([("system", "Be brief."), ("human", QUESTION)])
    assert said.content.startswith(REPLY)
    assert said.usage_metadata["output_tokens"] > 0
    assert "".join([str(chunk.content) for chunk in chat.stream(QUESTION)]).startswith(REPLY)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=filled.api_key) as client:
        name = space(client)
    vectors = OpenAIEmbeddings(
        model=name, base_url=f"{url}/v1", api_key=filled.api_key, check_embedding_ctx_length=False
    )
    assert np.allclose(vectors.embed_query("One."), filled.embedder.encode(["One."])[0], atol=1e-6)


def streamed(url: str, key: str, look: Callable[[str], None] = lambda _: None, **more: Any) -> list[str]:
    """The lines; look is shown each as it comes."""
    body = {"model": MODEL, "messages": USER, "stream": True, **more}
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers=bearer(key), timeout=60
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = []
        for line in answer.iter_lines():
            look(line)
            if line:
                lines.append(line)
    for line in lines:
        assert line.startswith((":", "data: "))
        assert line == "data: [DONE]" or line.startswith(":") or json.loads(line[6:])
    return lines


def test_a_streams_slot_is_given_back(make_url: Callable[..., str], filled: Installation) -> None:
    url = make_url(tenant_streams=1)
    for _ in range(3):
        assert streamed(url, filled.api_key)[-1] == "data: [DONE]"
    with openai.OpenAI(base_url=f"{url}/v1", api_key=filled.api_key, max_retries=0) as client:
        for _ in range(3):  # nor does an error keep it
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(model="ragzero/nowhere", messages=USER, stream=True)
    assert streamed(url, filled.api_key)[-1] == "data: [DONE]"

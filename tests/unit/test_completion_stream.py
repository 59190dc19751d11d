"""The pure parts of asking a generator: the breaker, the event decoder, the price."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.breaker import Breaker
from shared.core.completion import Prices, Usage, parse_chunk
from shared.core.sse import EventDecoder


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(threshold=3, cooldown_s=10)
    for outcome in ("failed", "failed", "succeeded", "failed", "failed"):
        breaker.failed(0) if outcome == "failed" else breaker.succeeded()
    assert breaker.wait_s(0) == 0
    breaker.failed(0)
    assert breaker.wait_s(4) == 6


def test_a_half_open_breaker_lets_one_probe_through_and_believes_it() -> None:
    breaker = Breaker(threshold=1, cooldown_s=10)
    breaker.failed(0)
    assert breaker.wait_s(10) == 0
    assert breaker.wait_s(11) == 9
    breaker.failed(12)
    assert breaker.wait_s(13) == 9
    assert breaker.wait_s(22) == 0
    breaker.succeeded()
    assert breaker.wait_s(22) == breaker.wait_s(22) == 0


def test_a_probe_that_never_reports_is_forgotten() -> None:
    breaker = Breaker(threshold=1, cooldown_s=10)
    breaker.failed(0)
    assert [breaker.wait_s(now) for now in (10, 19, 20)] == [0, 1, 0]


LINES = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), min_size=1)


@given(st.lists(LINES, max_size=5), st.sampled_from(["\n", "\r\n"]), st.data())
def test_events_survive_any_cut_of_the_bytes(datas: list[str], end: str, data: st.DataObject) -> None:
    sent = "".join(f"data: {line}{end}{end}" for line in datas).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    decoder, received = EventDecoder(), []
    for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        received += list(decoder.feed(sent[start:stop]))
    assert received == datas


def test_comments_names_and_joined_lines() -> None:
    sent = b": heartbeat\n\nevent: x\nid: 7\ndata:one\ndata: two\n\nretry: 5\n\n"
    assert list(EventDecoder().feed(sent)) == ["one\ntwo"]


@pytest.mark.parametrize("sent", [b"x" * 11, b"data: 123456\ndata: 123456\n", b"data: \xff\n"])
def test_endless_or_undecodable_events_are_refused(sent: bytes) -> None:
    with pytest.raises(ValueError, match=r"more than 10 bytes|utf-8"):
        list(EventDecoder(limit=10).feed(sent))


def test_half_a_surrogate_pair_does_not_get_through() -> None:
    text = parse_chunk('{"choices": [{"delta": {"content": "a\\ud83d"}}]}').text
    assert text == "a?"


def test_a_price_needs_what_it_multiplies() -> None:
    assert Prices(prompt=2, completion=4).cost(Usage(1_000_000, 500_000), 9) == 4.0
    assert Prices(prompt=2).cost(None, 9) is None
    assert Prices(gpu_second=0.001).cost(None, 9) == pytest.approx(0.009)

"""What the citation filter lets out, piece by piece: nothing that can be followed or loaded; the rest at once."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.query.citing import CitationFilter, Tally
from shared.core.models import Passage

PASSAGE = Passage(
    chunk_id=1, document_id=uuid.UUID(int=1), generation=1, uri="s3://b/1", text="The bridge was opened in 1932.",
    page=1, headings=(), start=0, score=0.5, dense=0.5, lexical=0.5,
)  # fmt: skip
LIVE = re.compile(
    r"<[/!?a-zA-Z]|!\[|\]\(|(?:(?:https?|ftp|file|data|javascript):|\bwww\.)[^\s<>\"')\]]", re.IGNORECASE
)
SYLLABLES = (
    "<", ">", "/", "!", "[", "]", "(", ")", ":", "htt", "ps", "p", "://e.x/", "www", ".e", "a", "b c", "\n", " ", "[1]",
    "[9]", "1932", "img", "java", "script:", "data", ":x", '"', "<b>", "</b>", "x" * 90,
)  # fmt: skip


def shown(text: str, size: int) -> tuple[str, CitationFilter]:
    checked = CitationFilter([PASSAGE])
    pieces = [checked.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join(pieces) + checked.finish(), checked


@given(st.lists(st.sampled_from(SYLLABLES), max_size=30).map("".join), st.integers(1, 40))
def test_nothing_live_gets_out_however_it_is_cut(text: str, size: int) -> None:
    said, checked = shown(text, size)
    assert not LIVE.search(said), said
    assert said == checked.text


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "evil",
    [
        "<<b>script>alert(1)<<b>/script>",
        "<[9]script>alert(1)",
        "htt<b></b>ps://evil.example/",
        "htt[9]ps://evil.example/",
        f"<img alt='{'x' * 300}' src=x onerror=alert(1)>",
        f"![{'x' * 300}](//evil.example/x.png)",
        "![ref]\n\n[ref]: //evil.example/x.png 'title'\n",
        "[ref]:\n//evil.example/x.png\n",
        "!<i></i>[x](//evil.example/x.png)",
    ],
)
def test_24_what_falls_together_is_as_dead_as_what_was_whole(evil: str, size: int) -> None:
    said, _ = shown(f"Before.\n{evil}", size)
    assert not LIVE.search(said), said
    assert not re.search(r"^\s*\[ref\]:\s*\S", said, re.MULTILINE)
    assert said.startswith("Before.")


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "The bridge was opened in 1932, says [1]: long ago.",
        "The bridge was opened in 1932\n[1]: long ago.",
        "The bridge, opened in 1932! [1]",
        "If 3 < 4 and 5 > 2, the bridge was opened in 1932 [1].",
        "It was opened (in 1932) [1] (the bridge).",
    ],
)
def test_plain_text_passes_unchanged(text: str, size: int) -> None:
    said, checked = shown(text, size)
    assert said == text
    assert checked.tally == Tally()


def test_only_what_may_become_something_else_is_held_back() -> None:
    checked = CitationFilter([PASSAGE])
    pieces = ["The", " bridge", " < ", "9", " was", " open", " in", " 1932", " "]
    assert [checked.feed(piece) for piece in pieces] == pieces
    assert [checked.feed(piece) for piece in ("[1", "]", ".", " <", " h", "ere")] == [
        "",
        "",
        "[1].",
        " ",
        "< ",
        "here",
    ]


def test_the_cost_of_a_long_piece_grows_with_its_length_alone() -> None:
    before, after = (min(_cpu_seconds("[" * length) for _ in range(3)) for length in (10_000, 160_000))
    assert after < 64 * before  # 16 when it grows with the length, 256 with its square


def _cpu_seconds(text: str) -> float:
    started = time.process_time()
    shown(text, len(text))
    return time.process_time() - started

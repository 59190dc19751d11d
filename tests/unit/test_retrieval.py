"""Which of the passages found are shown: copies folded, shares limited, never fewer than there are; and neighbours joined."""

from __future__ import annotations

import uuid
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shared.core.models import Passage
from shared.core.retrieval import Neighbour, deeper, fates, planned, ranked_anew, widened
from tests.unit.test_citing import passage


def found(*pairs: tuple[str, int]) -> list[Passage]:
    """Passages by (text, document), best first."""
    return [
        replace(passage(text, number), document_id=uuid.UUID(int=document))
        for number, (text, document) in enumerate(pairs)
    ]


def chosen(passages: list[Passage], top_k: int, per_document: int | None = None) -> list[Passage]:
    kept = fates(passages, top_k, per_document)
    return [passage for passage, fate in zip(passages, kept, strict=True) if fate == "chosen"]


def test_a_copy_is_folded_into_the_better_one_whatever_its_spacing() -> None:
    passages = found(("The otter.", 1), ("the  OTTER.", 2), ("The heron.", 3))
    assert fates(passages, 3) == ["chosen", "duplicate", "chosen"]


def test_26_one_documents_share_is_limited_while_others_have_something() -> None:
    stuffed = found(*[(f"stuffed {number}", 1) for number in range(4)], ("other", 2), ("another", 3))
    assert [p.text for p in chosen(stuffed, 4, 2)] == ["stuffed 0", "stuffed 1", "other", "another"]
    assert [p.text for p in chosen(stuffed[:4], 4, 2)] == [p.text for p in stuffed[:4]]


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 3)), max_size=20),
    st.integers(1, 8),
    st.integers(1, 4) | st.none(),
)
def test_as_many_as_asked_for_when_there_are_so_many_different_ones(
    pairs: list[tuple[str, int]], top_k: int, per_document: int | None
) -> None:
    kept = chosen(found(*pairs), top_k, per_document)
    assert len(kept) == min(top_k, len({text for text, _ in pairs}))
    assert len({p.text for p in kept}) == len(kept)
    assert [p.chunk_id for p in kept] == sorted(p.chunk_id for p in kept)


def test_more_is_fetched_only_where_copies_took_the_places() -> None:
    plan = planned("balanced", 5)
    assert deeper(plan, plan.fetched - 1) is None
    wider = deeper(plan, plan.fetched)
    assert wider is not None
    assert wider.fetched > plan.fetched
    while wider is not None:
        plan, wider = wider, deeper(wider, wider.fetched)


def test_other_scores_take_the_place_of_the_old_ones() -> None:
    ranked = ranked_anew(found(("a", 1), ("b", 2)), [-3.0, 7.0])
    assert [(p.text, p.score) for p in ranked] == [("b", 1.0), ("a", 0.0)]


TEXT = "One is first. Two is second.\n\nThree is third. Four is fourth."


def test_scores_beyond_0_and_1_still_tell_passages_apart() -> None:
    """Many cross-encoders give logits."""
    ranked = ranked_anew(found(("a", 1), ("b", 2), ("c", 3), ("d", 4)), [-3.0, 2.0, 7.0, -1.0])
    assert [one.text for one in ranked] == ["c", "b", "d", "a"]
    assert [one.score for one in ranked] == [1.0, 1.0, 0.0, 0.0]


def neighbour(side: int, start: int, end: int) -> Neighbour:
    return Neighbour(1, 99, side, TEXT[start:end], start, end)


@given(st.data())
def test_with_its_neighbours_a_passage_is_still_what_stands_in_the_document(data: st.DataObject) -> None:
    """Whether they overlap, touch, or have the end of a block in between."""
    start, end = 28, 45
    first = data.draw(st.sampled_from([0, 5, 13]))
    passage_start = data.draw(st.sampled_from([28 + 2, 20, 14]))
    core = replace(passage(TEXT[passage_start:end], 1), start=passage_start)
    wide = widened(core, [neighbour(1, 40, len(TEXT)), neighbour(-1, first, start)])
    assert wide.text == TEXT[wide.start : wide.start + len(wide.text)]
    assert (wide.start, wide.start + len(wide.text)) == (first, len(TEXT))


def test_a_neighbour_beyond_an_unknown_gap_is_left_out() -> None:
    core = replace(passage(TEXT[40:50], 1), start=40)
    assert widened(core, [neighbour(-1, 0, 20)]) == core

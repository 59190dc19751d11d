"""The checker of recorded histories notices each kind of wrong that it is there for."""

from __future__ import annotations

import pytest

from tests.support.history import History, Passage

URI = "s3://b/tenants/t/a.md"


def shown(generation: int, version: int, uri: str = URI) -> Passage:
    return Passage("a", uri, generation, version)


def violations(before: tuple[str, int], *passages: Passage, after: tuple[str, int] | None = None) -> str:
    """Of one question between two reports on one document."""
    history = History("s3://b/tenants/t/", parts=2)
    for version in (1, 2):
        history.put(URI, version)
    history.reported(history.now(), [("a", *before)])
    history.asked(history.now(), passages)
    history.reported(history.now(), [("a", *(after or before))])
    return "\n".join(history.violations())


def test_a_history_as_it_should_be_has_none() -> None:
    assert violations(("searchable", 1), shown(1, 1), shown(1, 1)) == ""
    assert violations(("searchable", 1), shown(2, 2), shown(2, 2), after=("searchable", 2)) == ""
    assert violations(("searchable", 1), after=("deleted", 1)) == ""
    assert violations(("deleted", 1), shown(2, 2), shown(2, 2), after=("searchable", 2)) == ""


@pytest.mark.parametrize(
    ("before", "passages", "wrong"),
    [
        (("searchable", 2), [shown(1, 1)] * 2, "I3"),
        (("deleted", 2), [shown(2, 2)] * 2, "I3"),
        (("searchable", 1), [shown(1, 1), shown(2, 2)], "I4"),
        (("searchable", 1), [shown(1, 1)], "I4"),
        (("searchable", 1), [shown(1, 1, "s3://b/tenants/u/a.md")] * 2, "I5"),
        (("searchable", 1), [], "I7"),
        (("searchable", 1), [shown(1, 3)] * 2, "never had version 3"),
    ],
)
def test_each_kind_of_wrong_is_noticed(before: tuple[str, int], passages: list[Passage], wrong: str) -> None:
    assert wrong in violations(before, *passages)


def test_what_is_reported_while_a_question_is_under_way_does_not_count_against_it() -> None:
    history = History("s3://b/", parts=1)
    history.put(URI, 1)
    began = history.now()
    history.reported(history.now(), [("a", "deleted", 1)])
    history.asked(began, [shown(1, 1)])
    assert history.violations() == []

"""The measures of an evaluation: values known from hand and literature, and what holds for any ranking."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.evaluation import (
    Golden,
    Outcome,
    citation_precision,
    compared,
    contains,
    judged,
    ndcg_at,
    overlap,
    recall_at,
    reciprocal_rank,
    summarised,
)

A, B, C = ("s3://b/a.txt", "a.txt", "1"), ("s3://b/b.txt", "b.txt", "2"), ("s3://b/c.txt", "c.txt", "3")


def outcome(found: tuple[int, ...], expected: int, ranked: int = 10) -> Outcome:
    return Outcome(tuple(f"d{n}" for n in range(1, ranked + 1)), expected, found)


def test_known_values() -> None:
    """Found at 2 and 4 of three expected: nDCG@5 is (1/log2 3 + 1/log2 5) / (1 + 1/log2 3 + 1/2)."""
    one = outcome((2, 4), 3)
    assert recall_at(one, 5) == pytest.approx(2 / 3)
    assert recall_at(one, 3) == pytest.approx(1 / 3)
    assert recall_at(one, 1) == 0
    assert reciprocal_rank(one) == 0.5
    assert ndcg_at(one, 5) == pytest.approx(0.49819, abs=1e-5)
    assert ndcg_at(outcome((1,), 1), 10) == recall_at(outcome((1,), 1), 1) == 1
    assert ndcg_at(outcome((3,), 1), 10) == pytest.approx(0.5)
    assert reciprocal_rank(outcome((), 2)) == ndcg_at(outcome((), 2), 10) == 0


def test_more_expected_documents_than_fit_can_still_be_a_full_score() -> None:
    every = outcome((1, 2), 5)
    assert recall_at(every, 2) == ndcg_at(every, 2) == 1


def test_documents_count_once_however_many_of_their_passages_are_found() -> None:
    told = judged(Golden("?", documents=("b.txt", "3")), [A, A, B, A, C], [A, B, B], "yes")
    assert told.ranked == (A[0], B[0], C[0])
    assert told.found == (2, 3)
    assert (told.cited, told.cited_expected, citation_precision(told)) == (2, 1, 0.5)
    assert told.contained is None


@pytest.mark.parametrize("name", A)
def test_a_document_goes_by_its_uri_its_key_and_its_id(name: str) -> None:
    assert judged(Golden("?", documents=(name,)), [A], [], "").found == (1,)


def test_an_answer_contains_a_text_whatever_its_spacing_and_case() -> None:
    assert contains("It is  the\nNorth pier.", ["south", "the north PIER"])
    assert not contains("It is the north.", ["the north pier"])


def test_a_summary_speaks_of_the_questions_it_can_be_told_of() -> None:
    blank = Outcome(("a",), latency_ms=30.0, supported=True)
    told = replace(outcome((1,), 1), contained=True, supported=True, latency_ms=10.0, cost_usd=0.25)
    missed = replace(outcome((), 1), contained=False, cited=2, cited_expected=1, latency_ms=20.0)
    found = summarised([blank, told, missed], 10)
    assert (found.questions, found.judged, found.recall, found.mrr, found.ndcg) == (3, 2, 0.5, 0.5, 0.5)
    assert (found.answer_contained, found.citation_precision) == (0.5, 0.5)
    assert found.refused == pytest.approx(1 / 3, abs=1e-6)
    assert (found.latency_p50_ms, found.latency_p95_ms, found.cost_usd) == (20.0, 30.0, 0.25)
    assert summarised([replace(told, cost_usd=None), told], 10).cost_usd is None
    nothing = summarised([], 10)
    assert (nothing.recall, nothing.cost_usd, nothing.latency_p50_ms) == (None, 0.0, 0.0)


def test_a_fall_within_the_margin_passes_and_one_beyond_it_is_named() -> None:
    before = [outcome((1,), 1)] * 100
    after = [outcome((1,), 1)] * 98 + [outcome((), 1)] * 2
    assert compared(before, after, 10, margin=0.02).passed
    verdict = compared(before, after, 10, margin=0.019)
    assert verdict.worse == ("recall", "ndcg")
    assert verdict.changes["recall"] == pytest.approx(-0.02)


def test_without_expected_documents_only_the_overlap_is_told() -> None:
    before = [Outcome(("a", "b")), Outcome(())]
    verdict = compared(before, [Outcome(("b", "c")), Outcome(())], 10, margin=0, least_overlap=0.7)
    assert verdict.changes == {}
    assert verdict.overlap == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)
    assert verdict.worse == ("overlap",)
    assert compared(before, before, 10, margin=0, least_overlap=1.0).passed


places = st.lists(st.integers(1, 20), unique=True, max_size=10).map(sorted).map(tuple)


@given(places, st.integers(1, 10), st.integers(1, 20))
def test_every_measure_is_a_share_and_only_gains_by_a_deeper_look(
    found: tuple[int, ...], more: int, k: int
) -> None:
    one = outcome(found, len(found) + more, 20)
    for measure in (recall_at, ndcg_at):
        assert 0 <= measure(one, k) <= 1
    assert 0 <= reciprocal_rank(one) <= 1
    hits = [recall_at(one, depth) * min(depth, one.expected) for depth in range(1, 21)]
    assert hits == sorted(hits)


@given(places.filter(bool), st.integers(1, 20))
def test_moving_a_document_up_never_lowers_ndcg(found: tuple[int, ...], k: int) -> None:
    worst = max(place for place in range(1, 22) if place not in found)
    lower = tuple(sorted({*found[1:], worst}))
    if worst > found[0]:
        assert ndcg_at(outcome(found, 10, 21), k) >= ndcg_at(outcome(lower, 10, 21), k) - 1e-12


@given(st.integers(1, 20), st.integers(1, 20))
def test_a_perfect_ranking_scores_one(expected: int, k: int) -> None:
    best = outcome(tuple(range(1, expected + 1)), expected, 20)
    assert math.isclose(ndcg_at(best, k), 1)
    assert recall_at(best, k) == reciprocal_rank(best) == 1


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_overlap_is_symmetric_and_one_for_the_same_set(one: list[str], other: list[str]) -> None:
    assert overlap(one, other) == overlap(other, one)
    assert (overlap(one, other) == 1) == (set(one) == set(other))


def test_an_outcome_comes_back_from_json_as_it_was() -> None:
    one = replace(outcome((1, 3), 2), contained=True, cited=1)
    assert Outcome.from_dict(one.to_dict()) == one

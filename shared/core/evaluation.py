"""What answers to a set of questions are worth, by the field's usual measures; and whether one set is worse than another.

A document is named as it is in the question's file: by its key, its s3:// uri or its id. Documents count, not chunks:
the ranking of a question is that of the documents its first k passages come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Golden:
    """A question with what is known of its answer: documents that hold it, and texts of which an answer holds one."""

    question: str
    documents: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """ranked: documents (uris), best first. found: the places in it, from 1, of expected documents.

    contained is None where no answer was expected, as are the measures that need documents where none were.
    """

    ranked: tuple[str, ...]
    expected: int = 0
    found: tuple[int, ...] = ()
    supported: bool = False
    contained: bool | None = None
    cited: int = 0
    cited_expected: int = 0
    latency_ms: float = 0.0
    cost_usd: float | None = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**data | {"ranked": tuple(data["ranked"]), "found": tuple(data["found"])})


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over the questions they can be told of; None where there are none."""

    questions: int
    judged: int
    k: int
    recall: float | None
    mrr: float | None
    ndcg: float | None
    answer_contained: float | None
    refused: float
    citation_precision: float | None
    latency_p50_ms: float
    latency_p95_ms: float
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """after less before, by measure; overlap: the share of documents that both found. worse: what fell by too much."""

    changes: dict[str, float]
    overlap: float
    worse: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return not self.worse


def judged(
    golden: Golden, passages: Sequence[Sequence[str]], cited: Iterable[Sequence[str]], answer: str
) -> Outcome:
    """passages, cited: the names that each one's document goes by, its uri first; passages are the first k, best first."""
    ranked = list(dict.fromkeys(tuple(names) for names in passages))
    expected = set(golden.documents)
    places = tuple(place for place, names in enumerate(ranked, 1) if expected & set(names))
    sources = {tuple(names) for names in cited}
    return Outcome(
        ranked=tuple(names[0] for names in ranked),
        expected=len(expected),
        found=places,
        contained=contains(answer, golden.answers) if golden.answers else None,
        cited=len(sources),
        cited_expected=sum(bool(expected & set(names)) for names in sources),
    )


def contains(answer: str, texts: Sequence[str]) -> bool:
    """Whether one of the texts stands in the answer; spacing and case make no difference."""
    said = _plain(answer)
    return any(_plain(text) in said for text in texts)


def recall_at(outcome: Outcome, k: int) -> float:
    """The share of the expected documents among the first k; of the k that fit where more are expected."""
    return sum(place <= k for place in outcome.found) / min(k, outcome.expected)


def reciprocal_rank(outcome: Outcome) -> float:
    return 1 / outcome.found[0] if outcome.found else 0.0


def ndcg_at(outcome: Outcome, k: int) -> float:
    """Normalised discounted cumulative gain with binary relevance (Järvelin and Kekäläinen, 2002)."""
    gain = sum(1 / math.log2(place + 1) for place in outcome.found if place <= k)
    return gain / sum(1 / math.log2(place + 1) for place in range(1, min(k, outcome.expected) + 1))


def citation_precision(outcome: Outcome) -> float:
    """The share of the cited documents that were expected."""
    return outcome.cited_expected / outcome.cited


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of documents found by both among those found by either; two that found nothing agree."""
    union = set(one) | set(other)
    return len(set(one) & set(other)) / len(union) if union else 1.0


def summarised(outcomes: Sequence[Outcome], k: int) -> Summary:
    told = [outcome for outcome in outcomes if outcome.expected]
    latencies = sorted(outcome.latency_ms for outcome in outcomes)
    costs = [outcome.cost_usd for outcome in outcomes]
    return Summary(
        questions=len(outcomes),
        judged=len(told),
        k=k,
        recall=_mean(told, lambda one: recall_at(one, k)),
        mrr=_mean(told, reciprocal_rank),
        ndcg=_mean(told, lambda one: ndcg_at(one, k)),
        answer_contained=_mean([o for o in outcomes if o.contained is not None], lambda o: bool(o.contained)),
        refused=_mean(outcomes, lambda one: not one.supported) or 0.0,
        citation_precision=_mean([one for one in told if one.cited], citation_precision),
        latency_p50_ms=_percentile(latencies, 0.5),
        latency_p95_ms=_percentile(latencies, 0.95),
        cost_usd=None if None in costs else round(math.fsum(cost or 0.0 for cost in costs), 6),
    )


_GATED = ("recall", "ndcg", "answer_contained")
_TOLD = (*_GATED, "mrr", "citation_precision")


def compared(
    before: Sequence[Outcome], after: Sequence[Outcome], k: int, *, margin: float, least_overlap: float = 0.0
) -> Verdict:
    """Of two runs of the same questions, in the same order. recall, nDCG and containment may fall by margin each."""
    earlier, later = asdict(summarised(before, k)), asdict(summarised(after, k))
    changes = {
        name: round(later[name] - earlier[name], 6)
        for name in _TOLD
        if earlier[name] is not None and later[name] is not None
    }
    pairs = list(zip(before, after, strict=True))
    shared = _mean(pairs, lambda pair: overlap(pair[0].ranked[:k], pair[1].ranked[:k]))
    alike = 1.0 if shared is None else shared
    worse = [name for name in _GATED if changes.get(name, 0.0) < -margin]
    return Verdict(changes, alike, (*worse, *(("overlap",) if alike < least_overlap else ())))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _mean(items: Sequence[Any], value: Callable[[Any], float]) -> float | None:
    return round(math.fsum(map(value, items)) / len(items), 6) if items else None


def _percentile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0

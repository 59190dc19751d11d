"""Whether what is to come answers well enough to take the place of what is there: two evaluations, compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from functions.query.evaluating import EvaluationService, Run
from functions.query.space_schemas import Compared, Promotion
from shared.core.credentials import Principal
from shared.core.errors import Conflict

_NEEDED = {"recall", "ndcg"}
Evidence = list[dict[str, Any]]


async def gathered(
    evaluations: EvaluationService,
    who: Principal,
    wanted: Promotion,
    misplaced: Callable[[Run, Run], str | None],
    both: str,
) -> tuple[Evidence, str | None]:
    """What comes of each pair, and the reason to go on all the same, where there has to be one.

    both: what is compared, in the plural. misplaced: what is wrong with a pair, before and after, if anything.
    Raises Conflict that says what is missing or worse, and by how much, unless that reason is given.
    """
    evidence = [await _compared(evaluations, who, pair, wanted, misplaced) for pair in wanted.evaluations]
    objection = _objection(evidence, both)
    if objection and wanted.force_reason is None:
        raise Conflict(f"{objection}; force_reason goes on all the same")
    return evidence, wanted.force_reason if objection else None


async def _compared(
    evaluations: EvaluationService,
    who: Principal,
    pair: Compared,
    wanted: Promotion,
    misplaced: Callable[[Run, Run], str | None],
) -> dict[str, Any]:
    verdict, before, after = await evaluations.compare(
        who, pair.before, pair.after, wanted.margin, wanted.least_overlap
    )
    if wrong := misplaced(before, after):
        raise Conflict(wrong)
    return {
        **asdict(verdict),
        "before": before.id,
        "after": after.id,
        "margin": wanted.margin,
        "least_overlap": wanted.least_overlap,
    }


def _objection(evidence: Sequence[dict[str, Any]], both: str) -> str | None:
    """Overlap alone is none in favour: what finds other documents may be better or worse."""
    if not evidence:
        return f"no evaluation of both {both} was given"
    if not any(one["changes"].keys() >= _NEEDED for one in evidence):
        return "no evaluation says which documents were expected, so that recall and nDCG could be compared"
    worse = [
        f"{', '.join(one['worse'])} (evaluations {one['before']} and {one['after']}: {_by(one)})"
        for one in evidence
        if one["worse"]
    ]
    return f"it answers worse than what is there: {'; '.join(worse)}" if worse else None


def _by(one: dict[str, Any]) -> str:
    changes = {**one["changes"], "overlap": one["overlap"] - 1}
    return ", ".join(f"{name} {changes[name]:+.3f}" for name in one["worse"])

"""What a tenant used, day by day."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator

from functions.query.routes.access import Reader, Wired
from shared.core.errors import InvalidInput
from shared.core.usage import DayUsage

router = APIRouter(prefix="/v1/usage", tags=["usage"])
_MOST_DAYS = 366
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _written_out(given: object) -> object:
    """A number would be taken for seconds since 1970."""
    if isinstance(given, str) and not _DATE.fullmatch(given):
        raise ValueError("expected a date such as 2026-01-31")
    return given


Day = Annotated[date, BeforeValidator(_written_out)]


class UsageDay(BaseModel):
    day: date
    questions: int
    hits: int
    prompt_tokens: int
    completion_tokens: int
    gpu_seconds: float
    cost_usd: float


class UsageReport(BaseModel):
    days: list[UsageDay]


@router.get("")
async def usage(
    who: Reader,
    wired: Wired,
    first: Annotated[Day | None, Query(alias="from", description="UTC; 30 days ago unless said.")] = None,
    last: Annotated[Day | None, Query(alias="to", description="UTC; today unless said.")] = None,
) -> UsageReport:
    """Questions, answers from the cache among them (hits), tokens, GPU-seconds and cost. Days without any are left out."""
    until = last or datetime.now(UTC).date()
    since = first or until - timedelta(days=30)
    if not 0 <= (until - since).days < _MOST_DAYS:
        raise InvalidInput(f"from {since} to {until} is not a span of 1 to {_MOST_DAYS} days", field="from")
    return UsageReport(days=[_day(one) for one in await wired.spending.usage(who.tenant_id, since, until)])


def _day(one: DayUsage) -> UsageDay:
    return UsageDay(
        day=one.day,
        questions=one.used.questions,
        hits=one.used.hits,
        prompt_tokens=one.used.prompt_tokens,
        completion_tokens=one.used.completion_tokens,
        gpu_seconds=round(one.used.gpu_seconds, 3),
        cost_usd=round(one.used.cost_usd, 6),
    )

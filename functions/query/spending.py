"""What tenants may spend, and what they did.

The ladder: below its monthly budget a tenant's answers are written by the model; from there on they are quotes, which
cost next to nothing; ten per cent beyond it there are none until the month is over. Answers from the cache are free and
always given. Postgres knows the bill; Redis carries a copy, so that the way in needs no database.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from uuid import UUID

from functions.query.answering import Spent
from functions.query.gate import Admission
from shared.core.errors import TooMany, Unavailable
from shared.core.usage import DayUsage, Usage
from shared.core.visits import Names
from shared.telemetry import get_logger

_log = get_logger(__name__)
_LAST_STEP = 1.1
BUDGET_SPENT = "this month's budget is spent"
LIMITS_UNKNOWN = "limits cannot be checked at the moment"


class Bills(Protocol):
    async def record(self, tenant: UUID, used: Usage) -> float: ...
    async def spent(self, tenant: UUID) -> float: ...
    async def days(self, tenant: UUID, first: date, last: date) -> list[DayUsage]: ...


class Counters(Protocol):
    async def spent(self, names: Names, usd: float) -> None: ...
    async def counters(self, tenant: UUID, day: str) -> Mapping[str, int]: ...


class Reachable(Protocol):
    @property
    def away_s(self) -> float: ...


class Spending:
    """counters is None without Redis. grace_s: how long the models of tenants with a budget are used while Redis is away.

    price: US dollars that a question costs which no model answers.
    """

    def __init__(
        self,
        bills: Bills,
        counters: Counters | None,
        redis: Reachable | None,
        *,
        grace_s: float,
        price: float,
    ) -> None:
        self._bills = bills
        self._counters = counters
        self._redis = redis
        self._grace_s = grace_s
        self._price = price

    async def objection(self, admission: Admission) -> str | None:
        """Why no model may be used now; None when it may. Raises TooMany at the end of the ladder."""
        budget = admission.limits.budget_usd
        if budget is None:
            return None
        if self._redis is not None and self._redis.away_s > self._grace_s:
            return LIMITS_UNKNOWN
        spent = await self._spent(admission)
        if spent >= budget * _LAST_STEP:
            raise TooMany(
                f"{BUDGET_SPENT}: ${spent:.2f} of ${budget:.2f}", retry_after=_seconds_left_of_month()
            )
        return BUDGET_SPENT if spent >= budget else None

    async def record(
        self, tenant: UUID, spent: Spent, admission: Admission | None, *, question: bool = True
    ) -> None:
        """What a question took that was not answered from the cache; an answer is not lost because this is.

        question: False for what a model did before the question itself.
        """
        budgeted = admission is not None and admission.limits.budget_usd is not None
        if spent.completion_tokens is None and not spent.gpu_seconds and not budgeted and self._counters:
            return
        used = Usage(
            questions=0 if self._counters or not question else 1,  # Redis counts them on the way in
            prompt_tokens=spent.prompt_tokens or 0,
            completion_tokens=spent.completion_tokens or 0,
            gpu_seconds=spent.gpu_seconds,
            cost_usd=(spent.cost_usd or 0.0) + (self._price if question else 0.0),
        )
        try:
            total = await self._bills.record(tenant, used)
            if self._counters is not None and admission is not None:
                await self._counters.spent(admission.names, total)
        except Unavailable as error:
            _log.warning("usage_not_recorded", tenant=str(tenant), cost_usd=used.cost_usd, reason=str(error))

    async def usage(self, tenant: UUID, first: date, last: date) -> list[DayUsage]:
        """Day by day, days without any use left out."""
        days = {one.day: one.used for one in await self._bills.days(tenant, first, last)}
        for day in _days(max(first, last - timedelta(days=40)), last):
            counted = await self._counted(tenant, day)
            if counted:
                days[day] = days.get(day, Usage()) + Usage(
                    questions=counted.get("questions", 0), hits=counted.get("hits", 0)
                )
        return [DayUsage(day, days[day]) for day in sorted(days)]

    async def _counted(self, tenant: UUID, day: date) -> Mapping[str, int]:
        if self._counters is None:
            return {}
        try:
            return await self._counters.counters(tenant, day.strftime("%Y%m%d"))
        except Unavailable:
            return {}

    async def _spent(self, admission: Admission) -> float:
        known = admission.visited.spent_usd if admission.visited else None
        if known is not None:
            return known
        spent = await self._bills.spent(admission.who.tenant_id)
        if self._counters is not None:
            try:
                await self._counters.spent(admission.names, spent)
            except Unavailable as error:
                _log.info("bill_not_cached", reason=str(error))
        return spent


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _seconds_left_of_month() -> float:
    now = datetime.now(UTC)
    following = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0)
    return (following - now).total_seconds()

"""The time one request has, and what it was spent on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.core.completion import Finish, Prices, Usage
from shared.core.errors import DeadlineExceeded

_T = TypeVar("_T")


class Watch:
    """deadline is on time.monotonic's clock."""

    def __init__(self, deadline: float) -> None:
        self._started = time.monotonic()
        self._deadline = deadline
        self._taken_s: float | None = None
        self._heard_s = 0.0
        self._first_token_s: float | None = None
        self.problem = ""
        """Why the server has not taken the request, once a reason is known."""

    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def taken(self) -> None:
        self._taken_s = self._heard_s = self.elapsed()

    def heard(self) -> None:
        self._heard_s = self.elapsed()

    @property
    def answering(self) -> bool:
        """The server took the request."""
        return self._taken_s is not None

    def silent_s(self) -> float:
        """Seconds since the server said anything; 0 when it has said that it is not ready yet."""
        return 0.0 if self.problem and not self.answering else self.elapsed() - self._heard_s

    def token(self) -> None:
        if self._first_token_s is None:
            self._first_token_s = self.elapsed()

    async def within(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """What call gives, or DeadlineExceeded."""
        left = self._left()
        try:
            async with asyncio.timeout(left):
                return await call()
        except TimeoutError as error:
            raise self._exceeded() from error

    async def pause(self, seconds: float, problem: str) -> None:
        """Waits before another attempt; DeadlineExceeded at the deadline."""
        self.problem = problem
        await asyncio.sleep(min(seconds, self._left()))
        self._left()

    def finish(self, reason: str, usage: Usage | None, prices: Prices | None) -> Finish:
        total, waited = self.elapsed(), self._taken_s or 0.0
        cost = prices.cost(usage, total - waited) if prices else None
        return Finish(reason, waited, self._first_token_s, total, cost)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._exceeded()
        return left

    def _exceeded(self) -> DeadlineExceeded:
        verb = "begin" if self._first_token_s is None else "finish"
        why = f" (last: {self.problem})" if self.problem and self._taken_s is None else ""
        message = f"generator did not {verb} its answer within {self.elapsed():.1f} s{why}"
        return DeadlineExceeded("generator", message)

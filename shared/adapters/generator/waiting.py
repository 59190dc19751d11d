"""How a server that has not taken the request yet is waited for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import httpx

from shared.adapters.generator.watch import Watch
from shared.core.completion import Waking

_WAKING_EVERY_S = 1.0
_LONGEST_PAUSE_S = 4.0


async def waking_until(opening: asyncio.Future[httpx.Response], watch: Watch) -> AsyncIterator[Waking]:
    """At once when the server is known to sleep, else after a second of silence; then every second."""
    next_at = _WAKING_EVERY_S
    while not (await asyncio.wait({opening}, timeout=0.05))[0]:
        if watch.elapsed() >= next_at or (watch.problem and next_at == _WAKING_EVERY_S):
            next_at = watch.elapsed() + _WAKING_EVERY_S
            yield Waking(watch.elapsed())


async def close(opening: asyncio.Future[httpx.Response]) -> None:
    opening.cancel()
    with suppress(asyncio.CancelledError, Exception):  # what went wrong is on its way to the caller already
        await (await opening).aclose()


def retry_after(response: httpx.Response) -> float | None:
    """The server's wish, cut to our longest pause: asking early costs one request, asking late costs time."""
    wish = response.headers.get("retry-after", "")
    if not wish.isdigit():
        return None
    return min(float(wish), _LONGEST_PAUSE_S) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret


def pauses() -> Iterator[float]:
    pause = 0.25
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        pause = min(pause * 2, _LONGEST_PAUSE_S)

"""Waiting for what other processes do, without a guess of how long they take."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
PATIENT = {"redis_timeout_ms": 20_000}
PATIENT_VARIABLES = {"RAGZERO_REDIS_TIMEOUT_MS": "20000"}
"""Settings for tests of what a Redis that is well does: a busy machine's may take longer than a caller would wait."""


def until(holds: Callable[[], object], seconds: float = PATIENCE_S, tick: float = 0.1) -> float:
    """Seconds until it held; an AssertionError when it does not within `seconds`.

    tick: seconds between two looks. What is asked is often busy serving what it is asked about.
    """
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, f"it did not happen within {seconds:g} s"
        time.sleep(tick)
    return time.monotonic() - started


def within(seconds: float, act: Callable[[], T], before: Callable[[], object] = lambda: None) -> T:
    """What act gives, in one of five tries, each after before, within so many seconds.

    The pauses that a busy machine makes meet some of them; what is slow by itself is slow each time.
    """
    for _ in range(5):
        before()
        started = time.monotonic()
        given = act()
        if time.monotonic() - started < seconds:
            return given
    raise AssertionError(f"it takes longer than {seconds:g} s each time")


async def within_async(seconds: float, act: Callable[[], Awaitable[T]]) -> T:
    """As within."""
    for _ in range(5):
        started = time.monotonic()
        given = await act()
        if time.monotonic() - started < seconds:
            return given
    raise AssertionError(f"it takes longer than {seconds:g} s each time")

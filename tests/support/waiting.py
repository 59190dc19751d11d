"""Waiting for what other processes do, without a guess of how long they take."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0


def until(holds: Callable[[], object], seconds: float = PATIENCE_S) -> float:
    """Seconds until it held; an AssertionError when it does not within `seconds`.

    Looks ten times a second: what it asks is often busy serving what it is asked about.
    """
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, f"it did not happen within {seconds:g} s"
        time.sleep(0.1)
    return time.monotonic() - started

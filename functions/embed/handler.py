"""What a host of the embedding job calls: load() before a memory snapshot, place() after it, run() per knock."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from functions.embed import wiring
from functions.embed.service import EmbedJob
from shared.telemetry import get_logger

_log = get_logger(__name__)
_running: set[EmbedJob] = set()


def load() -> None:
    """Weights into memory, on the CPU. Needs no secret."""
    wiring.loaded()


def place() -> None:
    """The encoder onto its device; raises SpaceMismatch when it is not the space's."""
    wiring.placed()


def run(seconds: float) -> dict[str, Any]:
    """Works on the backlog for at most about that long; what was done."""
    deadline = time.monotonic() + seconds
    job = wiring.job()
    _running.add(job)
    try:
        report = asdict(job.run(deadline))
    finally:
        _running.discard(job)
        job.close()
    _log.info("embedding_done", **report)
    return report


def stop() -> None:
    """Ends the run under way soon, from another thread or a signal handler; its leases go back."""
    for job in list(_running):
        job.stop()
